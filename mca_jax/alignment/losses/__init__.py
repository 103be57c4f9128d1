"""The losses of the method, one idea a module, and their weighted sum."""

from mca_jax.alignment.forward import Batch
from mca_jax.alignment.losses.consistency import consistency_loss
from mca_jax.alignment.losses.entropy_balance import entropy_balance_loss, uniform_prior
from mca_jax.alignment.losses.instance import instance_loss
from mca_jax.alignment.losses.objective import (
    LossParts,
    LossWeights,
    Objective,
    Prototypes,
    build_objective,
    init_prototypes,
)
from mca_jax.alignment.losses.pairs import pair_loss
from mca_jax.alignment.losses.prototype import (
    assignment_prototype_loss,
    embedding_prototype_loss,
    info_nce,
)
from mca_jax.alignment.losses.semantic import (
    pseudo_labels,
    semantic_loss,
    semantic_prototypes,
)

__all__ = [
    "Batch",
    "LossParts",
    "LossWeights",
    "Objective",
    "Prototypes",
    "assignment_prototype_loss",
    "build_objective",
    "consistency_loss",
    "embedding_prototype_loss",
    "entropy_balance_loss",
    "info_nce",
    "init_prototypes",
    "instance_loss",
    "pair_loss",
    "pseudo_labels",
    "semantic_loss",
    "semantic_prototypes",
    "uniform_prior",
]
