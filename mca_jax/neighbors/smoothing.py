"""Smoothing over the neighbour graph: an image moves towards its neighbours."""

from __future__ import annotations

from typing import overload

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import Rows, map_neighborhoods

__all__ = ["smooth_embeddings", "smooth_new"]


def _step(own: Float[Array, "b d"], near: Float[Array, "b d"]) -> Float[Array, "b d"]:
    return l2_normalize(own + near)


@overload
def smooth_embeddings(
    embeddings: Float[Array, "n d"], neighbors: Int[Array, "n r"], *, num_steps: int
) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]: ...


@overload
def smooth_embeddings(
    embeddings: Rows, neighbors: Rows, *, num_steps: int
) -> tuple[Rows, Rows]: ...


def smooth_embeddings(
    embeddings: Float[Array, "n d"] | Rows,
    neighbors: Int[Array, "n r"] | Rows,
    *,
    num_steps: int,
) -> tuple[Float[Array, "n d"] | Rows, Float[Array, "n d"] | Rows]:
    r"""Replace each image by the mean of itself and its neighbours, repeatedly.

    .. math:: u_i \leftarrow \mathrm{normalise}\bigl(u_i +
        \textstyle\sum_{j \in N_I(i)} u_j\bigr)

    What an image shares with its neighbours stays and what it has alone averages
    out, so that clusters of any shape draw together.

    Args:
      embeddings: Unit vectors, on one device, over several or on the host.
      neighbors: Rows of each image's neighbours, itself excluded, in the same
        place; found once, before the first step.
      num_steps: Steps, at least 0.

    Returns:
      Unit vectors after the last step, and those before it, from which
      :func:`smooth_new` places other images; both the embeddings without a step.

    References:
      Wu et al., Simplifying Graph Convolutional Networks, ICML 2019, Eq. (8), on
      the graph of the nearest images and with unit norm after each step.
    """
    before = now = embeddings
    for _ in range(num_steps):
        before, now = now, map_neighborhoods(_step, now, neighbors)
    return now, before


def smooth_new(
    smoothed: Float[Array, "n d"], near: Int[Array, "b r"]
) -> Float[Array, "b d"]:
    """Take the last step for images that need not be of the set.

    Args:
      smoothed: Images of the set before the last step, unit vectors.
      near: Rows of each new image's nearest images of the set, one more than
        :func:`smooth_embeddings` had. An image of the set finds itself among
        them, and so comes out as it did there.

    Returns:
      Unit vectors.
    """
    return l2_normalize(jnp.sum(smoothed[near], axis=1))
