"""Pairs: two images that a user holds together, or apart."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mca_jax.core.numerics import safe_log

__all__ = ["pair_loss"]


def pair_loss(
    assignments: Float[Array, "p k"],
    others: Float[Array, "p k"],
    together: Bool[Array, " p"],
    weights: Float[Array, " p"],
) -> Float[Array, ""]:
    r"""Negative log-probability that a pair shares a cluster, or that it does not.

    .. math:: L_{pair} = -\frac{1}{\sum_j w_j} \sum_j w_j
        \begin{cases} \log \langle p_j, q_j \rangle & \text{together} \\
        \log (1 - \langle p_j, q_j \rangle) & \text{apart} \end{cases}

    Args:
      assignments: Assignment probabilities ``p`` of the first image of each pair.
      others: Those ``q`` of the second.
      together: Whether the pair belongs together.
      weights: Weight of each pair; 0 for padding.

    Returns:
      Weighted mean, at least 0; 0 without pairs.

    References:
      Hsu and Kira, Neural network-based clustering using pairwise constraints, 2016,
      with the dot product in place of a divergence.
    """
    agreement = jnp.sum(assignments * others, axis=-1)
    chance = jnp.where(together, agreement, 1.0 - agreement)
    total = jnp.maximum(jnp.sum(weights), 1e-9)
    return -jnp.sum(weights * safe_log(chance)) / total
