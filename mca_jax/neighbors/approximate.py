"""Approximate neighbours for sets in which comparing all pairs is hopeless.

The set is cut into cells by k-means. Each image looks for neighbours in the cells
whose centres are nearest to it, so that the work grows with ``n ** 1.5`` and not with
``n ** 2``. It goes cell by cell: all images that look into one are compared with its
own at once, spread over the devices of this host. Of several hosts each searches for
its share of the images.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.host_tables import release
from mca_jax.core.parallel import (
    HostRows,
    Rows,
    ShardedRows,
    data_mesh,
    default_mesh,
    fill_shares,
    host_share,
    over_devices,
    shard_rows,
)
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.exact import NeighborTable
from mca_jax.neighbors.kmeans import spherical_kmeans
from mca_jax.neighbors.ring import merge_topk
from mca_jax.neighbors.streamed import exact_neighbors

__all__ = ["ProbedNeighbors", "measure_recall", "probe_neighbors"]

_ITERATIONS = 10
_SAMPLE_PER_CELL = 64
_RECALL_ROWS = 256
_BLOCK = 65_536
# Scores that are there at once: 64 MiB.
_MOST_SCORES = 2**24
_THREADS = 2
# A name behind all others: in a tie it loses.
_NOBODY = np.iinfo(np.int32).max


class ProbedNeighbors(NamedTuple):
    """Neighbours that were found, and how many of the true ones are among them.

    Attributes:
      table: Neighbours of every image, kept where the images are.
      recall: Share of the exact neighbours that were found, in [0, 1], measured
        on a random sample of the images.
    """

    table: NeighborTable
    recall: float


@jax.jit
def _search(
    scores: Float[Array, "q r"],
    names: Int[Array, "q r"],
    queries: Float[Array, "q d"],
    query_names: Int[Array, " q"],
    columns: Float[Array, "c d"],
    column_names: Int[Array, " c"],
) -> tuple[Float[Array, "q r"], Int[Array, "q r"]]:
    """Merge the columns of a cell into what is known of each query.

    A name below 0 only fills up.
    """
    hidden = (column_names < 0)[None, :]
    hidden = hidden | (column_names[None, :] == query_names[:, None])
    found = jnp.where(hidden, -jnp.inf, queries @ columns.T)
    top, index = jax.lax.top_k(found, min(scores.shape[1], columns.shape[0]))
    # Columns are in the order of the rows, so that ties go to the lower one; what is
    # hidden loses them all.
    others = jnp.where(jnp.isfinite(top), column_names[index], _NOBODY)
    return merge_topk((scores, names), (top, others))


def _search_on_devices() -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Spread the queries of a search over as many local devices as divide them."""
    # Sizes are multiples of 16, see ``_room``.
    count = math.gcd(16, 2 ** int(math.log2(jax.local_device_count())))
    if count == 1 or default_mesh() is None:
        return _search
    devices = jax.local_devices()[:count]
    split = (True, True, True, True, False, False)
    return over_devices(
        _search, data_mesh(devices=devices), split=split, split_out=(True, True)
    )


@partial(jax.jit, static_argnames="count")
def _rank_cells(
    rows: Float[Array, "b d"], centers: Float[Array, "m d"], *, count: int
) -> Int[Array, "b p"]:
    """Cells whose centres are nearest to each row, nearest first."""
    return jax.lax.top_k(rows @ centers.T, count)[1].astype(jnp.int32)


def _fill(table: np.ndarray, names: np.ndarray, size: int, filler: Any) -> np.ndarray:
    """Named rows of a table, filled up to one of a few sizes; float16 as float32."""
    kind = np.float32 if table.dtype.kind == "f" else table.dtype
    block = np.empty((size, *table.shape[1:]), kind)
    block[: len(names)] = table[names]
    block[len(names) :] = filler
    return block


def _room(count: int) -> int:
    """Next of the few sizes that are compiled for."""
    whole = max(64, 2 ** math.ceil(math.log2(count)))
    return 3 * whole // 4 if count <= 3 * whole // 4 else whole


def _cut(
    key: PRNGKey, images: Float[Array, "n d"] | Rows, num_cells: int
) -> tuple[np.ndarray, ...]:
    """Centres of the cells and the cell of every row."""
    result = spherical_kmeans(
        key,
        images,
        num_clusters=num_cells,
        num_restarts=1,
        max_iterations=_ITERATIONS,
        sample_size=_SAMPLE_PER_CELL * num_cells,
    )
    return np.asarray(result.centers), np.asarray(result.assignments)


def _wanted_cells(
    rows: np.ndarray, centers: np.ndarray, sizes: np.ndarray, *, least: int, probes: int
) -> Int[np.ndarray, "n p"]:
    """Cells that each row looks into: ``probes``, or more where those hold too few.

    -1 stands for none.
    """
    count, num_cells, asked = len(rows), len(centers), probes
    while True:
        wanted = np.zeros((count, probes), np.int32)
        for start in range(0, count, _BLOCK):
            block = np.asarray(rows[start : start + _BLOCK], np.float32)
            wanted[start : start + _BLOCK] = _rank_cells(block, centers, count=probes)
            release(rows)
        held = np.cumsum(sizes[wanted], axis=1, dtype=np.int32)
        if probes == num_cells or (held[:, -1] >= least).all():
            break
        probes = min(2 * probes, num_cells)
    if probes > asked:
        # Beyond, a cell is of use as long as those before it hold too few rows.
        wanted[:, asked:][held[:, asked - 1 : -1] >= least] = -1
    return wanted


class _Part(NamedTuple):
    """Images that look into a cell at once.

    Attributes:
      guests: Rows of those images.
      members: Rows of the cell.
    """

    guests: np.ndarray
    members: np.ndarray


def _visit(
    members: Sequence[np.ndarray], wanted: np.ndarray, first: int
) -> Iterator[_Part]:
    """Go through the cells; of many guests some at once.

    Args:
      members: Rows of each cell, ascending.
      wanted: Cells that some rows look into, -1 for none.
      first: First of those rows.
    """
    visits = np.bincount(wanted.ravel() + 1, minlength=len(members) + 1)
    ends, visits = np.cumsum(visits)[1:], visits[1:]
    # Stable: guests too are in the order of the rows, for the disk.
    guests = np.argsort(wanted.ravel(), kind="stable") // wanted.shape[1] + first
    for cell, own in enumerate(members):
        if not len(own):
            continue
        most = max(64, 2 ** math.floor(math.log2(_MOST_SCORES / _room(len(own)))))
        for start in range(ends[cell] - visits[cell], ends[cell], most):
            yield _Part(guests[start : min(start + most, ends[cell])], own)


def _probe(
    rows: HostRows,
    centers: np.ndarray,
    cells: np.ndarray,
    *,
    num_neighbors: int,
    num_probes: int,
) -> tuple[np.ndarray, np.ndarray]:
    count, own = len(cells), host_share(len(cells))
    scores = np.full((count, num_neighbors), -np.inf, np.float32)
    indices = np.full((count, num_neighbors), _NOBODY, np.int32)
    search, everyone = _search_on_devices(), np.arange(count, dtype=np.int32)
    sizes = np.bincount(cells, minlength=len(centers))
    # Stable: members are in the order of the rows, for ties and for the disk.
    members = np.split(np.argsort(cells, kind="stable"), np.cumsum(sizes)[:-1])
    stopped = threading.Event()

    def search_for(queries: range) -> None:
        wanted = _wanted_cells(
            rows.array[queries.start : queries.stop],
            centers,
            sizes,
            least=num_neighbors + 1,
            probes=num_probes,
        )
        for guests, others in _visit(members, wanted, queries.start):
            if stopped.is_set():
                return
            size, width = _room(len(guests)), _room(len(others))
            found = search(
                _fill(scores, guests, size, -np.inf),
                _fill(indices, guests, size, 0),
                _fill(rows.array, guests, size, 0),
                _fill(everyone, guests, size, -1),
                _fill(rows.array, others, width, 0),
                _fill(everyone, others, width, -1),
            )
            scores[guests], indices[guests] = (
                np.asarray(each)[: len(guests)] for each in found
            )

    # A device that was chosen for this thread is not known to others.
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def search_on_device(queries: range) -> None:
        with jax.default_device(device):
            search_for(queries)

    # Threads for different images: while one reads or sorts, another multiplies.
    piece = max(1, -(-len(own) // _THREADS))
    pieces = [own[start : start + piece] for start in range(0, len(own), piece)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="mca-jax-search") as pool:
        try:
            list(pool.map(search_on_device, pieces))
        finally:
            # Ctrl-C doesn't wait for the whole search.
            stopped.set()
    fill_shares(scores)
    fill_shares(indices)
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
    centers, cells = _cut(cell_key, images, num_cells)
    scores, indices = _probe(
        table,
        centers,
        cells,
        num_neighbors=wanted,
        num_probes=min(num_probes, num_cells),
    )
    recall = measure_recall(sample_key, table, indices)
    if isinstance(images, ShardedRows):
        placed = (shard_rows(x, images.mesh) for x in (indices, scores))
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
