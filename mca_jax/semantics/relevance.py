"""Relevance filter: the nouns nearest to the centres of the images."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
) -> Relevance:
    """Find each centre's nearest nouns, in blocks of centres.

    Args:
      noun_embeddings: Unit vectors, float ``[M, d]``.
      centers: Unit vectors, float ``[k, d]``.
      candidates: Nouns that may be chosen, bool ``[M]``. A centre always gets
        ``nouns_per_center`` of them, or all when there are fewer.
      nouns_per_center: Nouns to keep for each centre, at least 1.

    Returns:
      The mask, and for every noun, candidate or not, its nearest centre.
    """
    nouns = jnp.asarray(noun_embeddings, jnp.float32)
    centers = jnp.asarray(centers, jnp.float32)
    noun_count, center_count = nouns.shape[0], centers.shape[0]
    candidates = jnp.asarray(candidates, bool)
    block = max(1, min(center_count, _SCORES_PER_BLOCK // noun_count))
    blocks = -(-center_count // block)
    padded = jnp.pad(centers, ((0, blocks * block - center_count), (0, 0)))
    wanted = min(nouns_per_center, noun_count)

    def visit(best: Relevance, step: jax.Array) -> tuple[Relevance, None]:
        rows = step * block + jnp.arange(block)
        scores = jax.lax.dynamic_slice_in_dim(padded, step * block, block) @ nouns.T
        scores = jnp.where((rows < center_count)[:, None], scores, -jnp.inf)
        usable = jnp.where(candidates[None, :], scores, -jnp.inf)
        top, index = jax.lax.top_k(usable, wanted)
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
        jnp.zeros(noun_count, bool),
        jnp.zeros(noun_count, jnp.int32),
        jnp.full(noun_count, -jnp.inf, jnp.float32),
    )
    return jax.lax.scan(visit, start, jnp.arange(blocks))[0]


def relevance_mask(
    noun_embeddings: Float[Array, "m d"],
    centers: Float[Array, "k d"],
    candidates: Bool[Array, " m"],
    *,
    nouns_per_center: int = 500,
) -> Bool[Array, " m"]:
    """Mark each centre's nearest nouns among the candidates; see :func:`relevance`."""
    return relevance(
        noun_embeddings, centers, candidates, nouns_per_center=nouns_per_center
    ).mask
