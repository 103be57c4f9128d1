"""Image-image and image-noun neighbours by exact cosine top-r, in bounded memory."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.parallel import Rows, fold_pairs, map_rows
from mca_jax.core.types import PRNGKey

__all__ = [
    "NO_ID",
    "NeighborTable",
    "TopK",
    "blocked_topk",
    "image_neighbors",
    "noun_neighbors",
    "nearest_columns",
    "sample_neighbors",
    "visible_cosines",
]

NO_ID = np.int32(np.iinfo(np.int32).max)
"""Behind all ids, so that in a tie it loses."""


class TopK(NamedTuple):
    """The best columns of each query, best first; ties go to the lower id.

    Attributes:
      scores: Dot products, minus infinity where there are no more columns.
      ids: Their columns.
    """

    scores: Float[Array, "n r"]
    ids: Int[Array, "n r"]


class NeighborTable(NamedTuple):
    """The nearest neighbours of every image, kept where the images are.

    Attributes:
      indices: Rows of the neighbours, nearest first, int32 ``[n, r]``.
      similarities: Their cosines, float32 ``[n, r]``.
    """

    indices: Int[Array, "n r"] | Rows
    similarities: Float[Array, "n r"] | Rows


def visible_cosines(
    queries: Float[Array, "n d"],
    query_ids: Int[Array, " n"],
    columns: Float[Array, "m d"],
    column_ids: Int[Array, " m"],
    *,
    exclude_self: bool,
) -> Float[Array, "n m"]:
    """Cosines, minus infinity for padding and, where asked for, a query's own id.

    They are float32, also of rows rounded to bfloat16.
    """
    hidden = (column_ids < 0)[None, :]
    if exclude_self:
        hidden = hidden | (column_ids[None, :] == query_ids[:, None])
    # Not ``queries @ columns.T``: of rounded rows a CPU would make float32 ones first.
    cosines = jax.lax.dot_general(
        *(queries, columns),
        (((1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    return jnp.where(hidden, -jnp.inf, cosines)


def nearest_columns(
    known: TopK | None,
    queries: Float[Array, "n d"],
    query_ids: Int[Array, " n"],
    columns: Float[Array, "m d"],
    column_ids: Int[Array, " m"],
    *,
    num_neighbors: int,
    exclude_self: bool = False,
) -> TopK:
    """Find the nearest columns of every query among these and those known so far.

    Args:
      known: The best of other columns, or None before the first.
      queries: Unit vectors.
      query_ids: Their ids.
      columns: Unit vectors to choose from, in the order of their ids.
      column_ids: Their ids; -1 marks padding.
      num_neighbors: ``r``, at least 1.
      exclude_self: Leave out the column of the query's own id.

    Returns:
      The best of both.
    """
    scores = visible_cosines(
        queries, query_ids, columns, column_ids, exclude_self=exclude_self
    )
    top, index = jax.lax.top_k(scores, min(num_neighbors, columns.shape[0]))
    ids = jnp.where(jnp.isfinite(top), column_ids[index], NO_ID)
    missing = ((0, 0), (0, num_neighbors - top.shape[1]))
    found = TopK(
        jnp.pad(top, missing, constant_values=-jnp.inf),
        jnp.pad(ids, missing, constant_values=NO_ID),
    )
    if known is None:
        return found
    both = (jnp.concatenate(pair, axis=1) for pair in zip(known, found, strict=True))
    scores, ids = both
    worst_first, ids = jax.lax.sort((-scores, ids), num_keys=2)
    return TopK(-worst_first[:, :num_neighbors], ids[:, :num_neighbors])


def _in_blocks(
    known: TopK | None,
    queries: Float[Array, "n d"],
    query_ids: Int[Array, " n"],
    columns: Float[Array, "m d"],
    column_ids: Int[Array, " m"],
    *,
    num_neighbors: int,
    exclude_self: bool,
    block_size: int,
) -> TopK:
    """:func:`nearest_columns` with few scores at once."""
    search = partial(
        nearest_columns, num_neighbors=num_neighbors, exclude_self=exclude_self
    )
    n = queries.shape[0]
    # Even blocks: n = 1025 should not be padded to 2048.
    num_blocks = max(1, -(-n // block_size))
    size = -(-n // num_blocks)

    def cut(x: Array) -> Array:
        padding = ((0, num_blocks * size - n), *[(0, 0)] * (x.ndim - 1))
        return jnp.pad(x, padding).reshape(num_blocks, size, *x.shape[1:])

    found = jax.lax.map(
        lambda block: search(block[0], block[1], block[2], columns, column_ids),
        jax.tree.map(cut, (known, queries, query_ids)),
    )
    return jax.tree.map(lambda x: x.reshape(-1, num_neighbors)[:n], found)


def blocked_topk(
    queries: Float[Array, "n d"],
    columns: Float[Array, "m d"],
    *,
    num_neighbors: int,
    exclude_self: bool = False,
    block_size: int = 1024,
) -> TopK:
    """Find the nearest columns of every query by dot product.

    Queries go through in blocks of ``block_size``; the scores of one block are
    the only large temporary, ``block_size * m`` floats.

    Args:
      queries: Unit vectors.
      columns: Unit vectors to choose from.
      num_neighbors: ``r``, at least 1 and at most ``m`` (``m - 1`` with
        ``exclude_self``).
      exclude_self: Leave out column ``i`` for query ``i``: both sets are the
        same.
      block_size: Queries scored at once.

    Raises:
      ValueError: There are fewer columns than neighbours asked for.
    """
    available = columns.shape[0] - int(exclude_self)
    if not 1 <= num_neighbors <= available:
        raise ValueError(
            f"Expected num_neighbors between 1 and {available}, found {num_neighbors}"
        )
    return _in_blocks(
        None,
        queries,
        jnp.arange(queries.shape[0], dtype=jnp.int32),
        columns,
        jnp.arange(columns.shape[0], dtype=jnp.int32),
        num_neighbors=num_neighbors,
        exclude_self=exclude_self,
        block_size=block_size,
    )


_SETTINGS = ("num_neighbors", "exclude_self", "block_size")
_topk_of_pairs = jax.jit(_in_blocks, static_argnames=_SETTINGS)
_topk = jax.jit(blocked_topk, static_argnames=_SETTINGS)


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
    search = partial(
        _topk_of_pairs,
        num_neighbors=min(num_neighbors, image_embeddings.shape[0] - 1),
        exclude_self=True,
        block_size=block_size,
    )
    found = fold_pairs(search, image_embeddings, image_embeddings)
    return NeighborTable(found.ids, found.scores)


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
      noun_embeddings: Unit vectors of the semantic space, few enough for every
        device to hold them.
      num_neighbors: ``r_t``; cut to ``m`` for small vocabularies.
      block_size: Images scored at once; bounds memory.

    Returns:
      Neighbours, as rows of the semantic space.
    """
    search = partial(
        _topk,
        num_neighbors=min(num_neighbors, noun_embeddings.shape[0]),
        block_size=block_size,
    )
    nouns = (noun_embeddings,)
    found = map_rows(search, image_embeddings, whole=nouns, over_hosts=True)
    return NeighborTable(found.ids, found.scores)


def sample_neighbors(
    key: PRNGKey, indices: Int[Array, "n r"], rows: Int[Array, " b"]
) -> Int[Array, " b"]:
    """Draw one neighbour's row, uniformly, for each anchor of a batch.

    Args:
      key: Key of the draw.
      indices: Neighbours of every image.
      rows: Anchors.
    """
    slot = jax.random.randint(key, rows.shape, 0, indices.shape[1])
    return indices[rows, slot]
