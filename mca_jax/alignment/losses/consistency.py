"""Image consistency: an image and its neighbour share a cluster."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.core.numerics import safe_log

__all__ = ["consistency_loss"]


def consistency_loss(
    assignments: Float[Array, "b k"], neighbor_assignments: Float[Array, "b k"]
) -> Float[Array, ""]:
    r"""Negative log-probability that image and neighbour share a cluster.

    .. math:: L_{con} = -\frac1b \sum_i \log \langle p_i, p_{i'} \rangle

    Args:
      assignments: Assignment probabilities ``p`` of the anchors.
      neighbor_assignments: Those of one neighbour of each.

    Returns:
      Mean over the batch, at least 0.

    References:
      Van Gansbeke et al., SCAN, ECCV 2020, Eq. (2); taken over by MCA.
    """
    agreement = jnp.sum(assignments * neighbor_assignments, axis=-1)
    return -jnp.mean(safe_log(agreement))
