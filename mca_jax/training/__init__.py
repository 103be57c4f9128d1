"""Training of the three networks: pure steps, epochs on device, a status."""

from mca_jax.training.checkpoints import Checkpointer, Snapshot
from mca_jax.training.convergence import (
    Failure,
    Monitor,
    Status,
    fit_rate_exponent,
    has_converged,
)
from mca_jax.training.epochs import (
    TrainingData,
    build_epoch,
    epoch_order,
    gather_batch,
)
from mca_jax.training.loop import FitResult, Trainer, build_trainer, fit
from mca_jax.training.step import (
    StepInfo,
    TrainState,
    build_optimizer,
    build_step,
    init_state,
)

__all__ = [
    "Checkpointer",
    "Failure",
    "FitResult",
    "Monitor",
    "Snapshot",
    "Status",
    "StepInfo",
    "TrainState",
    "Trainer",
    "TrainingData",
    "build_epoch",
    "build_optimizer",
    "build_step",
    "build_trainer",
    "epoch_order",
    "fit",
    "fit_rate_exponent",
    "gather_batch",
    "has_converged",
    "init_state",
]
