"""Neighbours, k-means and projection of rows that stay on the host.

Blocks of rows go to the device, and only sums, centres and the best neighbours
stay there. All functions give what those on the device give, to rounding. Of several
hosts each takes its share of the rows, and all get the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.host_tables import allocate_rows, release
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import HostRows
from mca_jax.core.parallel.shares import fill_shares, own_blocks, sum_over_hosts
from mca_jax.neighbors.ring import merge_topk
from mca_jax.neighbors.topk import first_largest

__all__ = ["exact_neighbors", "map_blocks", "moments", "streamed_lloyd"]

# Rows of a block of queries: with it, the scores of a block stay small beside it.
_QUERIES = 4096


@partial(jax.jit, static_argnames=("count",))
def _add_columns(
    best: tuple[Float[Array, "b r"], Int[Array, "b r"]],
    queries: Float[Array, "b d"],
    names: Int[Array, " b"],
    columns: Float[Array, "c d"],
    first: Int[Array, ""],
    *,
    count: int,
) -> tuple[Float[Array, "b r"], Int[Array, "b r"]]:
    """Merge a block of columns into the neighbours so far."""
    ids = first + jnp.arange(columns.shape[0], dtype=jnp.int32)
    hidden = (ids[None, :] == names[:, None]) | (ids >= count)[None, :]
    scores = jnp.where(hidden, -jnp.inf, queries @ columns.T)
    top, index = jax.lax.top_k(scores, min(best[0].shape[1], columns.shape[0]))
    return merge_topk(best, (top, ids[index]))


def _block(array: np.ndarray, start: int, size: int) -> np.ndarray:
    """Rows from ``start`` on, filled up with zeros to one shape."""
    block = np.zeros((size, *array.shape[1:]), np.float32)
    rows = array[start : start + size]
    block[: len(rows)] = rows
    return block


def exact_neighbors(
    queries: HostRows, columns: HostRows, num_neighbors: int, *, same: bool
) -> tuple[Int[np.ndarray, "n r"], Float[np.ndarray, "n r"]]:
    """Find the nearest columns of every query; both stay on the host.

    Args:
      queries: Unit vectors.
      columns: Unit vectors to choose from.
      num_neighbors: ``r``, at most the number of columns (one less with
        ``same``).
      same: Both are the same table: a row is not its own neighbour.

    Returns:
      Rows of the columns, nearest first, and the cosines. Ties go to the lower
      row.
    """
    count, total = queries.shape[0], columns.shape[0]
    size = min(_QUERIES, queries.block_size, count)
    width = min(columns.block_size, total)
    indices = np.zeros((count, num_neighbors), np.int32)
    scores = np.zeros((count, num_neighbors), np.float32)
    for rows in own_blocks(count, size):
        start, kept = rows.start, rows.stop - rows.start
        block = jnp.asarray(_block(queries.array[: rows.stop], start, size))
        names = jnp.arange(size, dtype=jnp.int32) + start if same else -jnp.ones(size)
        best = (
            jnp.full((size, num_neighbors), -jnp.inf, jnp.float32),
            jnp.full((size, num_neighbors), total, jnp.int32),
        )
        for first in range(0, total, width):
            part = _block(columns.array, first, width)
            best = _add_columns(
                best,
                block,
                names.astype(jnp.int32),
                part,
                np.int32(first),
                count=total,
            )
        scores[rows], indices[rows] = (np.asarray(x)[:kept] for x in best)
        release(queries.array)
        release(columns.array)
    fill_shares(indices)
    fill_shares(scores)
    return indices, scores


def moments(
    rows: HostRows,
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Compute mean and covariance of rows on the host.

    Args:
      rows: The rows.

    Returns:
      Mean and covariance (divided by ``n``), float32.
    """
    count, width = rows.shape
    total, square = np.zeros(width), np.zeros((width, width))
    for block in own_blocks(count, rows.block_size):
        total += rows.array[block].sum(axis=0, dtype=float)
        release(rows.array)
    (total,) = sum_over_hosts([total])
    mean = (total / count).astype(np.float32)
    for block in own_blocks(count, rows.block_size):
        centered = rows.array[block].astype(np.float32, copy=False) - mean[None]
        square += centered.T @ centered
        release(rows.array)
    (square,) = sum_over_hosts([square])
    return mean, (square / count).astype(np.float32)


@jax.jit
def _block_sums(
    rows: Float[Array, "b d"], centers: Float[Array, "k d"]
) -> tuple[Float[Array, "k d"], Float[Array, " k"], Int[Array, " b"], Array]:
    """What one block adds to the next centres; and its assignments and cosines."""
    assignments, cosines = first_largest(rows @ centers.T)
    sums = jax.ops.segment_sum(rows, assignments, num_segments=centers.shape[0])
    ones = jnp.ones(rows.shape[0])
    counts = jax.ops.segment_sum(ones, assignments, num_segments=centers.shape[0])
    return sums, counts, assignments, cosines


def streamed_lloyd(
    rows: HostRows, centers: Float[Array, "k d"], *, max_iterations: int
) -> tuple[Float[Array, "k d"], Int[np.ndarray, " n"], float]:
    """Alternate assignment and mean direction over rows on the host.

    Args:
      rows: Unit vectors.
      centers: Starting centres.
      max_iterations: Bound on the alternations, at least 1.

    Returns:
      Centres, assignments to them and the mean cosine. A cluster that loses all
      its rows is moved as ``lloyd_iterations`` does.
    """
    count, num_clusters = rows.shape[0], centers.shape[0]
    assignments = np.full(count, -1, np.int32)
    cosines = np.zeros(count, np.float32)

    def visit(centers: Array) -> tuple[Array, np.ndarray, bool]:
        sums, counts, changed = jnp.zeros_like(centers), jnp.zeros(num_clusters), False
        for part in own_blocks(count, rows.block_size):
            block = np.asarray(rows.array[part], np.float32)
            more, each, found, cosine = _block_sums(block, centers)
            sums, counts = sums + more, counts + each
            found = np.asarray(found)
            changed = changed or bool((found != assignments[part]).any())
            assignments[part], cosines[part] = found, np.asarray(cosine)
            release(rows.array)
        parts = np.asarray(sums), np.asarray(counts), np.array(int(changed))
        whole, sizes, moved = sum_over_hosts(parts)
        return jnp.asarray(whole), sizes, bool(moved)

    for _ in range(max_iterations):
        sums, counts, changed = visit(centers)
        empty = counts == 0
        centers = l2_normalize(sums)
        if empty.any():
            fill_shares(cosines)
            worst = np.argsort(cosines, kind="stable")[:num_clusters]
            rank = np.clip(np.cumsum(empty) - 1, 0, len(worst) - 1)
            centers = jnp.where(empty[:, None], rows.array[worst[rank]], centers)
        elif not changed:
            break
    visit(centers)
    fill_shares(assignments)
    fill_shares(cosines)
    return centers, assignments, float(cosines.mean(dtype=np.float64))


def map_blocks(
    function: Callable[..., Array], rows: HostRows, *others: Array
) -> HostRows:
    """Map rows block by block; a large table goes to a file without a name.

    Args:
      function: ``(block [b, d], *others)`` to ``[b, c]``, compiled here.
      rows: The rows.
      *others: What every block needs.

    Returns:
      The mapped rows. The file's room is free again when nobody holds them.
    """
    compiled = jax.jit(function)
    count, size = rows.shape[0], rows.block_size
    mapped: np.ndarray | None = None
    for start in range(0, count, size):
        part = np.asarray(rows.array[start : start + size], np.float32)
        block = np.asarray(compiled(part, *others))
        if mapped is None:
            mapped = allocate_rows((count, block.shape[1]))
        mapped[start : start + len(block)] = block
        release(rows.array)
        release(mapped)
    assert mapped is not None
    return HostRows(mapped, size, rows.mesh)
