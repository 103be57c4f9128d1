"""Relevance filter: the nouns nearest to the centres of the images."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mca_jax.core.parallel.collectives import all_rows, first_row, num_rows, own_rows

__all__ = ["Relevance", "relevance", "relevance_mask"]

# Scores of one block of centres against all nouns: 64 MiB of float32.
_SCORES_PER_BLOCK = 2**24


class Relevance(NamedTuple):
    """Which nouns are near the images, and to which centre.

    Attributes:
      mask: True for a noun among the nearest of some centre, bool ``[M]``.
      center: Nearest centre of each noun, int32 ``[M]``.
      cosine: Cosine with that centre, in [-1, 1], float32 ``[M]``.
    """

    mask: Bool[Array, " m"]
    center: Int[Array, " m"]
    cosine: Float[Array, " m"]


def relevance(
    noun_embeddings: Float[Array, "m d"],
    centers: Float[Array, "k d"],
    candidates: Bool[Array, " m"],
    *,
    nouns_per_center: int = 500,
    axis_name: str | None = None,
    count: int | None = None,
) -> Relevance:
    """Find each centre's nearest nouns, in blocks of centres.

    Args:
      noun_embeddings: Unit vectors, float ``[M, d]``.
      centers: Unit vectors, float ``[k, d]``.
      candidates: Nouns that may be chosen, bool ``[M]``. A centre always gets
        ``nouns_per_center`` of them, or all when there are fewer.
      nouns_per_center: Nouns to keep for each centre, at least 1.
      axis_name: Axis of the devices that share the nouns; None for one device.
      count: Number of nouns, where zeros fill the last devices up; None counts
        every row.

    Returns:
      The mask, and for every noun, candidate or not, its nearest centre.
    """
    nouns = jnp.asarray(noun_embeddings, jnp.float32)
    centers = jnp.asarray(centers, jnp.float32)
    noun_count, center_count = nouns.shape[0], centers.shape[0]
    total = num_rows(noun_count, axis_name, count)
    candidates = own_rows(jnp.asarray(candidates, bool), noun_count, axis_name)
    block = max(1, min(center_count, _SCORES_PER_BLOCK // noun_count))
    blocks = -(-center_count // block)
    padded = jnp.pad(centers, ((0, blocks * block - center_count), (0, 0)))
    wanted = min(nouns_per_center, total)

    def nearest(usable: Array) -> tuple[Array, Array]:
        top, index = jax.lax.top_k(usable, min(wanted, noun_count))
        if axis_name is None:
            return top, index
        # The best of all are among the best of each device.
        index = index + first_row(noun_count, axis_name)
        tops, indices = (
            jax.lax.all_gather(x, axis_name, axis=1, tiled=True) for x in (top, index)
        )
        top, place = jax.lax.top_k(tops, wanted)
        return top, jnp.take_along_axis(indices, place, axis=1)

    def visit(best: Relevance, step: jax.Array) -> tuple[Relevance, None]:
        rows = step * block + jnp.arange(block)
        scores = jax.lax.dynamic_slice_in_dim(padded, step * block, block) @ nouns.T
        scores = jnp.where((rows < center_count)[:, None], scores, -jnp.inf)
        usable = jnp.where(candidates[None, :], scores, -jnp.inf)
        top, index = nearest(usable)
        mask = best.mask.at[index.ravel()].max(jnp.isfinite(top).ravel())
        cosine = jnp.max(scores, axis=0)
        center = rows[jnp.argmax(scores, axis=0)].astype(jnp.int32)
        nearer = cosine > best.cosine
        return Relevance(
            mask,
            jnp.where(nearer, center, best.center),
            jnp.where(nearer, cosine, best.cosine),
        ), None

    start = Relevance(
        jnp.zeros(total, bool),
        jnp.zeros(noun_count, jnp.int32),
        jnp.full(noun_count, -jnp.inf, jnp.float32),
    )
    best = jax.lax.scan(visit, start, jnp.arange(blocks))[0]
    return best._replace(
        center=all_rows(best.center, axis_name, count),
        cosine=all_rows(best.cosine, axis_name, count),
    )


def relevance_mask(
    noun_embeddings: Float[Array, "m d"],
    centers: Float[Array, "k d"],
    candidates: Bool[Array, " m"],
    *,
    nouns_per_center: int = 500,
) -> Bool[Array, " m"]:
    """Mark each centre's nearest nouns among the candidates.

    Args:
      noun_embeddings: Unit vectors, float ``[M, d]``.
      centers: Unit vectors, float ``[k, d]``.
      candidates: Nouns that may be chosen, bool ``[M]``.
      nouns_per_center: Nouns to keep for each centre, at least 1.

    Returns:
      bool ``[M]``.
    """
    return relevance(
        noun_embeddings, centers, candidates, nouns_per_center=nouns_per_center
    ).mask
