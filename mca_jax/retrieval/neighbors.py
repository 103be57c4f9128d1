"""Image-image and image-noun neighbours: the tables that training samples."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Int

from mca_jax.retrieval.topk import blocked_topk
from mca_jax.types import PRNGKey

__all__ = ["NeighborTable", "image_neighbors", "noun_neighbors", "sample_neighbors"]

_topk = jax.jit(
    blocked_topk, static_argnames=("num_neighbors", "exclude_self", "block_size")
)


class NeighborTable(NamedTuple):
    """The nearest neighbours of every image.

    Attributes:
      indices: Rows of the neighbours, nearest first, int32 ``[n, r]``.
      similarities: Their cosines, float32 ``[n, r]``.
    """

    indices: Int[Array, "n r"]
    similarities: Float[Array, "n r"]


def image_neighbors(
    image_embeddings: Float[Array, "n d"],
    *,
    num_neighbors: int = 20,
    block_size: int = 1024,
) -> NeighborTable:
    """Find each image's nearest other images, ``N_I`` of the method.

    Args:
      image_embeddings: Unit vectors.
      num_neighbors: ``r_i``; cut to ``n - 1`` for small sets.
      block_size: Images scored at once; bounds memory.

    Returns:
      Neighbours, the image itself excluded.
    """
    available = image_embeddings.shape[0] - 1
    scores, indices = _topk(
        image_embeddings,
        image_embeddings,
        num_neighbors=min(num_neighbors, available),
        exclude_self=True,
        block_size=block_size,
    )
    return NeighborTable(indices, scores)


def noun_neighbors(
    image_embeddings: Float[Array, "n d"],
    noun_embeddings: Float[Array, "m d"],
    *,
    num_neighbors: int = 10,
    block_size: int = 1024,
) -> NeighborTable:
    """Find each image's nearest nouns of the semantic space, ``N_T``.

    Args:
      image_embeddings: Unit vectors.
      noun_embeddings: Unit vectors of the semantic space.
      num_neighbors: ``r_t``; cut to ``m`` for small vocabularies.
      block_size: Images scored at once; bounds memory.

    Returns:
      Neighbours, as rows of the semantic space.
    """
    scores, indices = _topk(
        image_embeddings,
        noun_embeddings,
        num_neighbors=min(num_neighbors, noun_embeddings.shape[0]),
        exclude_self=False,
        block_size=block_size,
    )
    return NeighborTable(indices, scores)


def sample_neighbors(
    key: PRNGKey, indices: Int[Array, "n r"], rows: Int[Array, " b"]
) -> Int[Array, " b"]:
    """Draw one neighbour, uniformly, for each anchor of a batch.

    Args:
      key: Key of the draw.
      indices: Neighbours of every image.
      rows: Anchors.

    Returns:
      One neighbour's row for each anchor.
    """
    slot = jax.random.randint(key, rows.shape, 0, indices.shape[1])
    return indices[rows, slot]
