"""What a step carries to the next."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.alignment.losses import Prototypes, init_prototypes
from mca_jax.core.types import Params, PRNGKey

__all__ = ["TrainState", "init_state"]


class TrainState(NamedTuple):
    """State of training; all that a resume needs.

    Attributes:
      step: Steps taken, int32 scalar.
      key: Root key; step ``s`` draws from ``fold_in(key, s)``.
      params: Weights of the three networks.
      opt_state: State of the optimiser.
      prototypes: Running means of the clusters.
      first_loss: Loss of the first step, that divergence is measured against;
        NaN before it.
    """

    step: Int[Array, ""]
    key: PRNGKey
    params: Params
    opt_state: optax.OptState
    prototypes: Prototypes
    first_loss: Float[Array, ""]


def init_state(
    key: PRNGKey,
    heads: Heads,
    optimizer: optax.GradientTransformation,
    centers: Float[Array, "k d"],
) -> TrainState:
    """Start the networks and the prototypes at the k-means centres.

    Args:
      key: Root key of training.
      heads: The three networks.
      optimizer: Its state is made here.
      centers: Unit vectors, one a cluster.

    Returns:
      State before the first step.
    """
    params = heads.init(key, centers)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        opt_state=optimizer.init(params),
        prototypes=init_prototypes(centers),
        first_loss=jnp.full((), jnp.nan, jnp.float32),
    )
