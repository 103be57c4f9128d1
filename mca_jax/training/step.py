"""One optimisation step, and an epoch of them as a scan on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import optax
from jaxtyping import Array, Float

from mca_jax.losses import Batch, LossParts, LossWeights
from mca_jax.losses.objective import Objective
from mca_jax.training.data import TrainingData, epoch_order, gather_batch
from mca_jax.training.state import TrainState

__all__ = ["Epoch", "Step", "StepInfo", "build_epoch", "build_step"]


class StepInfo(NamedTuple):
    """What a step shows; nothing of it is carried on.

    Attributes:
      loss: The loss and its parts.
      grad_norm: Norm of the gradient before clipping.
    """

    loss: LossParts
    grad_norm: Float[Array, ""]


Step: TypeAlias = Callable[
    [TrainState, Batch, LossWeights, Float[Array, " k"]], tuple[TrainState, StepInfo]
]
Epoch: TypeAlias = Callable[
    [TrainState, TrainingData, LossWeights, Float[Array, " k"]],
    tuple[TrainState, StepInfo],
]


def build_step(objective: Objective, optimizer: optax.GradientTransformation) -> Step:
    """Build ``(state, batch, weights, prior) -> (state, info)``.

    Args:
      objective: The loss.
      optimizer: The optimiser whose state is in the train state.

    Returns:
      A pure, un-jitted function.
    """

    def step(
        state: TrainState,
        batch: Batch,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[TrainState, StepInfo]:
        gradient_fn = jax.grad(objective, has_aux=True)
        grads, (parts, prototypes) = gradient_fn(
            state.params, state.prototypes, batch, weights, prior
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_state = TrainState(
            step=state.step + 1,
            key=state.key,
            params=params,
            opt_state=opt_state,
            prototypes=prototypes,
        )
        return new_state, StepInfo(parts, optax.tree.norm(grads))

    return step


def build_epoch(step: Step, *, batch_size: int) -> Epoch:
    """Build one pass over the set as a scan, without a return to the host.

    Order and neighbours are drawn from the state's key and step alone, so that
    a pass after a resume is the pass that would have been.

    Args:
      step: From :func:`build_step`.
      batch_size: Images a step, at most ``n``.

    Returns:
      A pure, un-jitted function; its info has a leading axis of steps.
    """

    def epoch(
        state: TrainState,
        data: TrainingData,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[TrainState, StepInfo]:
        order_key, draw_key = jax.random.split(
            jax.random.fold_in(state.key, state.step)
        )
        order = epoch_order(
            order_key, num_images=data.images.shape[0], batch_size=batch_size
        )

        def scan_step(state: TrainState, rows: Array) -> tuple[TrainState, StepInfo]:
            key = jax.random.fold_in(draw_key, state.step)
            return step(state, gather_batch(key, data, rows), weights, prior)

        return jax.lax.scan(scan_step, state, order)

    return epoch
