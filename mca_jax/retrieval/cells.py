"""Approximate neighbours for sets in which comparing all pairs is hopeless.

The set is cut into cells by k-means. The images of a cell look for neighbours in
their own cell and in those whose centres are nearest to its centre, so that the
work grows with ``n ** 1.5`` and not with ``n ** 2``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.parallel import HostRows, Rows, ShardedRows, place_rows
from mca_jax.retrieval.kmeans import spherical_kmeans
from mca_jax.retrieval.neighbors import NeighborTable
from mca_jax.retrieval.streamed import exact_neighbors
from mca_jax.types import PRNGKey

__all__ = ["ProbedNeighbors", "measure_recall", "probe_neighbors"]

_ITERATIONS = 10
_SAMPLE_PER_CELL = 64
_RECALL_ROWS = 256
_BLOCK = 65_536
# Scores that are there at once: 64 MiB.
_MOST_SCORES = 2**24


class ProbedNeighbors(NamedTuple):
    """Neighbours that were found, and how many of the true ones are among them.

    Attributes:
      table: Neighbours of every image, kept where the images are.
      recall: Share of the exact neighbours that were found, in [0, 1], measured
        on a random sample of the images.
    """

    table: NeighborTable
    recall: float


@partial(jax.jit, static_argnames="num_neighbors")
def _search(
    queries: Float[Array, "q d"],
    query_names: Int[Array, " q"],
    columns: Float[Array, "c d"],
    column_names: Int[Array, " c"],
    *,
    num_neighbors: int,
) -> tuple[Float[Array, "q r"], Int[Array, "q r"]]:
    """Nearest columns of each query; a name below 0 only fills up."""
    hidden = (column_names < 0)[None, :]
    hidden = hidden | (column_names[None, :] == query_names[:, None])
    scores = jnp.where(hidden, -jnp.inf, queries @ columns.T)
    top, index = jax.lax.top_k(scores, num_neighbors)
    return top, column_names[index]


def _fill(rows: np.ndarray, names: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """Named rows of a table, filled up to one of a few sizes."""
    block = np.zeros((size, rows.shape[1]), np.float32)
    block[: len(names)] = rows[names]
    filled = np.full(size, -1, np.int32)
    filled[: len(names)] = names
    return block, filled


def _room(count: int) -> int:
    """Next of the few sizes that are compiled for."""
    return max(64, 2 ** math.ceil(math.log2(count)))


def _cut(key: PRNGKey, table: HostRows, num_cells: int) -> tuple[np.ndarray, ...]:
    """Centres of the cells and the cell of every row."""
    result = spherical_kmeans(
        key,
        table,
        num_clusters=num_cells,
        num_restarts=1,
        max_iterations=_ITERATIONS,
        sample_size=_SAMPLE_PER_CELL * num_cells,
    )
    return np.asarray(result.centers), np.asarray(result.assignments)


def _nearest_cells(
    centers: np.ndarray, cell: int, sizes: np.ndarray, least: int
) -> tuple[np.ndarray, int]:
    """Cells by nearness, and how many it takes to have enough rows."""
    order = np.argsort(-(centers @ centers[cell]), kind="stable")
    enough = int(np.searchsorted(np.cumsum(sizes[order]), least)) + 1
    return order, enough


def _probe(
    rows: np.ndarray,
    centers: np.ndarray,
    cells: np.ndarray,
    *,
    num_neighbors: int,
    num_probes: int,
) -> tuple[np.ndarray, np.ndarray]:
    members = np.argsort(cells, kind="stable").astype(np.int32)
    sizes = np.bincount(cells, minlength=len(centers))
    ends = np.cumsum(sizes)
    scores = np.zeros((len(cells), num_neighbors), np.float32)
    indices = np.zeros((len(cells), num_neighbors), np.int32)
    for cell in np.flatnonzero(sizes).tolist():
        order, enough = _nearest_cells(centers, cell, sizes, num_neighbors + 1)
        near = order[: max(num_probes, enough)]
        # In the order of the rows, for ties and for the disk.
        names = np.sort(
            np.concatenate([members[ends[c] - sizes[c] : ends[c]] for c in near])
        )
        columns = _fill(rows, names, _room(len(names)))
        own = members[ends[cell] - sizes[cell] : ends[cell]]
        size = min(_room(len(own)), max(64, _MOST_SCORES // len(columns[0])))
        for start in range(0, len(own), size):
            part = own[start : start + size]
            queries = _fill(rows, part, size)
            found = _search(*queries, *columns, num_neighbors=num_neighbors)
            scores[part], indices[part] = (np.asarray(x)[: len(part)] for x in found)
    return scores, indices


def probe_neighbors(
    key: PRNGKey,
    images: Float[Array, "n d"] | Rows,
    *,
    num_neighbors: int = 20,
    num_probes: int = 24,
) -> ProbedNeighbors:
    """Find most of each image's nearest other images.

    Args:
      key: Key of the cells and of the sample that recall is measured on.
      images: Unit vectors, on one device, over several or on the host; the search
        reads them from the host.
      num_neighbors: ``r_i``; cut to ``n - 1`` for small sets.
      num_probes: Cells that an image looks into, at least 1. With as many as
        there are, about ``sqrt(n)``, the search is exact.

    Returns:
      Neighbours, nearest first, and the measured recall.
    """
    table = images
    if not isinstance(table, HostRows):
        table = HostRows(np.asarray(images), _BLOCK)
    count = table.shape[0]
    wanted = min(num_neighbors, count - 1)
    cell_key, sample_key = jax.random.split(key)
    num_cells = min(max(2, math.isqrt(count)), count)
    centers, cells = _cut(cell_key, table, num_cells)
    scores, indices = _probe(
        table.array,
        centers,
        cells,
        num_neighbors=wanted,
        num_probes=min(num_probes, num_cells),
    )
    recall = measure_recall(sample_key, table, indices)
    if isinstance(images, ShardedRows):
        placed = (place_rows(x, images.mesh) for x in (indices, scores))
        return ProbedNeighbors(NeighborTable(*placed), recall)
    if isinstance(images, HostRows):
        return ProbedNeighbors(NeighborTable(indices, scores), recall)
    found = NeighborTable(jnp.asarray(indices), jnp.asarray(scores))
    return ProbedNeighbors(found, recall)


def measure_recall(
    key: PRNGKey, images: HostRows, indices: Int[np.ndarray, "n r"]
) -> float:
    """Compare neighbours of a sample of images with their exact ones.

    Args:
      key: Key of the sample.
      images: Unit vectors.
      indices: Neighbours that were found.

    Returns:
      Share of the exact neighbours among those found, in [0, 1].
    """
    drawn = jax.random.permutation(key, images.shape[0])[:_RECALL_ROWS]
    chosen = np.asarray(drawn)
    sample = HostRows(images.array[chosen], images.block_size)
    # One more than asked for: an image is its own nearest.
    exact, _ = exact_neighbors(sample, images, indices.shape[1] + 1, same=False)
    shares = []
    for row, nearest in zip(chosen, exact, strict=True):
        others = [name for name in nearest.tolist() if name != row]
        true = others[: indices.shape[1]]
        shares.append(len(set(true) & set(indices[row].tolist())) / len(true))
    return float(np.mean(shares))
