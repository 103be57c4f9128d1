"""Image-image and image-noun neighbours: the tables that training samples."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    Table,
    over_devices,
    replicate,
)
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.ring import ring_topk
from mca_jax.neighbors.streamed import exact_neighbors
from mca_jax.neighbors.topk import blocked_topk

__all__ = ["NeighborTable", "image_neighbors", "noun_neighbors", "sample_neighbors"]

_topk = jax.jit(
    blocked_topk, static_argnames=("num_neighbors", "exclude_self", "block_size")
)


class NeighborTable(NamedTuple):
    """The nearest neighbours of every image, kept where the images are.

    Attributes:
      indices: Rows of the neighbours, nearest first, int32 ``[n, r]``.
      similarities: Their cosines, float32 ``[n, r]``.
    """

    indices: Int[Array, "n r"] | Table
    similarities: Float[Array, "n r"] | Table


def _spread(images: ShardedRows, found: tuple[jax.Array, jax.Array]) -> NeighborTable:
    scores, indices = (ShardedRows(x, images.count, images.mesh) for x in found)
    return NeighborTable(indices, scores)


def image_neighbors(
    image_embeddings: Float[Array, "n d"] | Rows,
    *,
    num_neighbors: int = 20,
    block_size: int = 1024,
) -> NeighborTable:
    """Find each image's nearest other images, ``N_I`` of the method.

    Args:
      image_embeddings: Unit vectors, on one device, over several or on the host.
      num_neighbors: ``r_i``; cut to ``n - 1`` for small sets.
      block_size: Images scored at once; bounds memory.

    Returns:
      Neighbours, the image itself excluded.
    """
    available = image_embeddings.shape[0] - 1
    wanted = min(num_neighbors, available)
    if isinstance(image_embeddings, HostRows):
        return NeighborTable(
            *exact_neighbors(image_embeddings, image_embeddings, wanted, same=True)
        )
    if isinstance(image_embeddings, ShardedRows):
        search = over_devices(
            partial(
                ring_topk,
                num_neighbors=wanted,
                axis_name=DATA_AXIS,
                num_columns=image_embeddings.count,
                exclude_self=True,
                block_size=block_size,
            ),
            image_embeddings.mesh,
            split=(True, True),
            split_out=(True, True),
        )
        array = image_embeddings.array
        return _spread(image_embeddings, search(array, array))
    scores, indices = _topk(
        image_embeddings,
        image_embeddings,
        num_neighbors=wanted,
        exclude_self=True,
        block_size=block_size,
    )
    return NeighborTable(indices, scores)


def noun_neighbors(
    image_embeddings: Float[Array, "n d"] | Rows,
    noun_embeddings: Float[Array, "m d"],
    *,
    num_neighbors: int = 10,
    block_size: int = 1024,
) -> NeighborTable:
    """Find each image's nearest nouns of the semantic space, ``N_T``.

    Args:
      image_embeddings: Unit vectors, on one device, over several or on the host.
      noun_embeddings: Unit vectors of the semantic space.
      num_neighbors: ``r_t``; cut to ``m`` for small vocabularies.
      block_size: Images scored at once; bounds memory.

    Returns:
      Neighbours, as rows of the semantic space.
    """
    wanted = min(num_neighbors, noun_embeddings.shape[0])
    if isinstance(image_embeddings, HostRows):
        nouns = HostRows(np.asarray(noun_embeddings), image_embeddings.block_size)
        return NeighborTable(
            *exact_neighbors(image_embeddings, nouns, wanted, same=False)
        )
    if isinstance(image_embeddings, ShardedRows):
        # The space is small beside the images: each device has all of it.
        search = over_devices(
            partial(blocked_topk, num_neighbors=wanted, block_size=block_size),
            image_embeddings.mesh,
            split=(True, False),
            split_out=(True, True),
        )
        nouns = replicate(noun_embeddings, image_embeddings.mesh)
        return _spread(image_embeddings, search(image_embeddings.array, nouns))
    scores, indices = _topk(
        image_embeddings,
        noun_embeddings,
        num_neighbors=wanted,
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
