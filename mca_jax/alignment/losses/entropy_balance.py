"""Entropy balance: clusters are used as a prior says, evenly by default."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.core.numerics import safe_log

__all__ = ["entropy_balance_loss", "uniform_prior"]


def entropy_balance_loss(
    assignments: Float[Array, "b k"], prior: Float[Array, " k"]
) -> Float[Array, ""]:
    r"""Divergence of the mean assignment from a prior over clusters.

    .. math:: L_{ent} = \mathrm{KL}(\bar p \,\|\, \pi)

    With a uniform prior this is ``log k - H(mean p)``: the negative entropy of
    the method, moved up by a constant so that 0 means "perfectly balanced".

    Args:
      assignments: Assignment probabilities of a batch.
      prior: Wanted share of each cluster, sums to 1.

    Returns:
      A number in nats, at least 0.
    """
    mean = jnp.mean(assignments, axis=0)
    return jnp.sum(mean * (safe_log(mean) - safe_log(prior)))


def uniform_prior(num_clusters: int) -> Float[Array, " k"]:
    """Give every cluster the share ``1 / k``."""
    return jnp.full(num_clusters, 1.0 / num_clusters)
