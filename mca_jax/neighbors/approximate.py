"""Approximate neighbours for sets in which comparing all pairs is hopeless.

An inverted file: k-means cuts the set into inverted lists, and each image looks for
neighbours in the lists whose centres are nearest to it, its probes, so that the work
grows with ``n ** 1.5`` and not with ``n ** 2``. It goes list by list: all queries of
one are compared with its members at once, spread over the devices of this host. Of
several hosts each searches for its share of the images.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.host_tables import release
from mca_jax.core.parallel import (
    HostRows,
    Rows,
    data_mesh,
    default_mesh,
    fill_shares,
    fold_pairs,
    host_share,
    map_rows,
    over_devices,
    shard_like,
)
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.exact import (
    NO_ID,
    NeighborTable,
    TopK,
    nearest_columns,
    visible_cosines,
)
from mca_jax.neighbors.kmeans import spherical_kmeans

__all__ = ["ProbedNeighbors", "measure_recall", "probe_neighbors"]

# Of k-means on a sample, whose clusters are the lists.
_ITERATIONS = 10
_SAMPLE_PER_LIST = 64
_RECALL_ROWS = 256
_BLOCK = 65_536
# Scores that are there at once: 64 MiB.
_MOST_SCORES = 2**24
_THREADS = 2
# Between cosines of unit vectors and of what rounding to bfloat16 leaves of them, each
# number by 2 ** -8 of itself at most.
_ROUNDED_BY = 2 * 2**-8 + 2**-16 + 1e-5
# Size of the products by which a processor shows what it multiplies faster.
_TRIAL = 1024
# Lists of an image that are looked into first, and next; then come the others.
_STAGES = (1, 4)


class ProbedNeighbors(NamedTuple):
    """Neighbours that were found, and how many of the true ones are among them.

    Attributes:
      table: Neighbours of every image, kept where the images are.
      recall: Share of the exact neighbours that were found, in [0, 1], measured
        on a random sample of the images.
    """

    table: NeighborTable
    recall: float


_merge = partial(jax.jit, static_argnames=("num_neighbors", "exclude_self"))(
    nearest_columns
)


@partial(jax.jit, static_argnames="num_neighbors")
def _merge_placed(
    known: TopK,
    table: Float[Array, "n d"],
    query_ids: Int[Array, " b"],
    column_ids: Int[Array, " m"],
    *,
    num_neighbors: int,
) -> TopK:
    """:func:`nearest_columns` of rows that are on the device; padding has id -1."""
    # What it looks up for padding is hidden among the columns, and of no use else.
    return nearest_columns(
        known,
        *(table[query_ids], query_ids, table[column_ids], column_ids),
        num_neighbors=num_neighbors,
        exclude_self=True,
    )


def _is_cpu() -> bool:
    return jax.default_backend() == "cpu"


@jax.jit
def _nearest_cosine(
    queries: Float[Array, "b d"],
    query_ids: Int[Array, " b"],
    columns: Float[Array, "m d"],
    column_ids: Int[Array, " m"],
) -> Float[Array, " b"]:
    """Largest cosine to another row; padding has id -1."""
    cosines = visible_cosines(
        queries, query_ids, columns, column_ids, exclude_self=True
    )
    return jnp.max(cosines, axis=1)


def _rounded(rows: Float[Array, "b d"]) -> Array:
    return rows.astype(jnp.bfloat16)


@cache
def _multiplies_rounded_faster() -> bool:
    """Whether this processor multiplies bfloat16 in less time than float32.

    Those of data centres do, several times; others make float32 of it first.
    """
    ids = jnp.arange(_TRIAL, dtype=jnp.int32)

    def seconds(kind: Any) -> float:
        rows = jnp.ones((_TRIAL, _TRIAL), kind)
        taken = []
        for _ in range(4):
            start = time.perf_counter()
            jax.block_until_ready(_nearest_cosine(rows, ids, rows, ids))
            taken.append(time.perf_counter() - start)
        return min(taken)

    return 2 * seconds(jnp.bfloat16) < seconds(jnp.float32)


def _on_devices(function: Callable[..., Any], split: tuple[bool, ...]) -> Any:
    """Spread the queries of a search over as many local devices as divide them."""
    # Sizes are multiples of 16, see ``_room``.
    count = math.gcd(16, 2 ** int(math.log2(jax.local_device_count())))
    if count == 1 or default_mesh() is None:
        return function
    devices = jax.local_devices()[:count]
    mesh = data_mesh(devices=devices)
    return over_devices(function, mesh, split=split, split_out=True)


@partial(jax.jit, static_argnames="count")
def _rank_lists(
    rows: Float[Array, "b d"], centers: Float[Array, "m d"], *, count: int
) -> Int[Array, "b p"]:
    """Lists whose centres are nearest to each row, nearest first."""
    return jax.lax.top_k(rows @ centers.T, count)[1].astype(jnp.int32)


def _pad(table: np.ndarray, ids: np.ndarray, size: int, padding: Any) -> np.ndarray:
    """Some rows of a table, padded to one of a few sizes; float16 as float32."""
    kind = np.float32 if table.dtype.kind == "f" else table.dtype
    block = np.empty((size, *table.shape[1:]), kind)
    block[: len(ids)] = table[ids]
    block[len(ids) :] = padding
    return block


def _room(count: int, *, steps: int = 2) -> int:
    """Next of the few sizes that are compiled for, so many up to each power of two."""
    whole = max(64, 2 ** math.ceil(math.log2(count)))
    step = whole // (2 * steps)
    return max(64, step * -(-count // step))


def _build_lists(
    key: PRNGKey, images: Float[Array, "n d"] | Rows, num_lists: int
) -> tuple[np.ndarray, ...]:
    """Centres of the inverted lists and the list of every row."""
    result = spherical_kmeans(
        key,
        images,
        num_clusters=num_lists,
        num_restarts=1,
        max_iterations=_ITERATIONS,
        max_polishing=0,
        sample_size=_SAMPLE_PER_LIST * num_lists,
    )
    return np.asarray(result.centers), np.asarray(result.assignments)


def _choose_probes(
    rows: np.ndarray, centers: np.ndarray, sizes: np.ndarray, *, least: int, probes: int
) -> Int[np.ndarray, "n p"]:
    """Lists that each row looks into: ``probes``, or more where those hold too few.

    -1 stands for none.
    """
    count, num_lists, asked = len(rows), len(centers), probes
    while True:
        wanted = np.zeros((count, probes), np.int32)
        for start in range(0, count, _BLOCK):
            block = np.asarray(rows[start : start + _BLOCK], np.float32)
            wanted[start : start + _BLOCK] = _rank_lists(block, centers, count=probes)
            release(rows)
        held = np.cumsum(sizes[wanted], axis=1, dtype=np.int32)
        if probes == num_lists or (held[:, -1] >= least).all():
            break
        probes = min(2 * probes, num_lists)
    if probes > asked:
        # Beyond, a list is of use as long as those before it hold too few rows.
        wanted[:, asked:][held[:, asked - 1 : -1] >= least] = -1
    return wanted


class _Probe(NamedTuple):
    """Queries that look into an inverted list at once.

    Attributes:
      queries: Rows of those images.
      members: Rows of the list.
    """

    queries: np.ndarray
    members: np.ndarray


def _most_queries(num_members: int) -> int:
    """Queries that are compared with the members of a list at once."""
    return max(64, 2 ** math.floor(math.log2(_MOST_SCORES / _room(num_members))))


def _probes(
    members: Sequence[np.ndarray], wanted: np.ndarray, first: int
) -> Iterator[_Probe]:
    """Go through the lists; of many queries some at once.

    Args:
      members: Rows of each list, ascending.
      wanted: Lists that some rows look into, -1 for none.
      first: First of those rows.
    """
    sizes = np.bincount(wanted.ravel() + 1, minlength=len(members) + 1)
    ends = np.cumsum(sizes)
    # Stable: queries too are in the order of the rows, for the disk.
    queries = np.argsort(wanted.ravel(), kind="stable") // wanted.shape[1] + first
    for begin, end, own in zip(ends[:-1], ends[1:], members, strict=True):
        if not len(own):
            continue
        most = _most_queries(len(own))
        for start in range(begin, end, most):
            yield _Probe(queries[start : min(start + most, end)], own)


class _Search:
    """The best columns that each row has met so far, in the host's memory.

    Attributes:
      scores: Their cosines, best first, ``[n, r]``.
      ids: Their rows.
      is_cpu: Whether no accelerator compares them.
    """

    def __init__(
        self,
        rows: HostRows,
        num_neighbors: int,
        placed: Float[Array, "n d"] | None = None,
    ) -> None:
        """Begin with nothing; ``placed`` are the rows where a device has them."""
        count = rows.shape[0]
        self.scores = np.full((count, num_neighbors), -np.inf, np.float32)
        self.ids = np.full((count, num_neighbors), NO_ID, np.int32)
        self.is_cpu = _is_cpu()
        self._rows, self._placed = rows.array, placed
        self._everyone = np.arange(count, dtype=np.int32)
        self._options = {"num_neighbors": num_neighbors}
        self._merge = _on_devices(
            partial(_merge, **self._options, exclude_self=True),
            (True, True, True, False, False),
        )
        self._nearest = _on_devices(_nearest_cosine, (True, True, False, False))
        # What rounding may hide is compared again: it saves time and changes nothing.
        self._hints, self._slack = rows.array, 0.0
        if self.is_cpu and _multiplies_rounded_faster():
            self._hints, self._slack = map_rows(_rounded, rows).array, _ROUNDED_BY

    def compare(
        self, queries: np.ndarray, members: np.ndarray, *, is_first: bool
    ) -> None:
        """Compare some rows with the members of a list, their first one or another."""
        # Of what is padded here each query pays; compiling takes accelerators longer.
        width = _room(len(members), steps=4 if self.is_cpu else 2)
        # To choose 20 of a few hundred scores takes a CPU five times as long as to
        # make them, and most lists have nothing better than what is known.
        if self.is_cpu and not is_first:
            queries = queries[self._may_improve(queries, members, width)]
            if not len(queries):
                return
        placed = self._placed
        size = _room(len(queries)) if placed is None else _most_queries(len(members))
        pad = partial(_pad, ids=queries, size=size, padding=0)
        known = TopK._make(map(pad, (self.scores, self.ids)))
        if placed is None:
            asking = self._gather(self._rows, queries, size)
            columns = self._gather(self._rows, members, width)
            found = self._merge(known, *asking, *columns)
        else:
            names = (
                _pad(self._everyone, *each, -1)
                for each in ((queries, size), (members, width))
            )
            found = _merge_placed(known, placed, *names, **self._options)
        for whole, part in zip((self.scores, self.ids), found, strict=True):
            whole[queries] = np.asarray(part)[: len(queries)]

    def _may_improve(
        self, queries: np.ndarray, members: np.ndarray, width: int
    ) -> np.ndarray:
        asking = self._gather(self._hints, queries, _room(len(queries)))
        columns = self._gather(self._hints, members, width)
        best = np.asarray(self._nearest(*asking, *columns))[: len(queries)]
        return best + self._slack >= self.scores[queries, -1]

    def _gather(
        self, table: np.ndarray, chosen: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return _pad(table, chosen, size, 0), _pad(self._everyone, chosen, size, -1)


def _probe(
    rows: HostRows,
    centers: np.ndarray,
    lists: np.ndarray,
    *,
    num_neighbors: int,
    num_probes: int,
    placed: Float[Array, "n d"] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and ids of the neighbours; ``placed`` as for :class:`_Search`."""
    own = host_share(len(lists))
    search = _Search(rows, num_neighbors, placed)
    sizes = np.bincount(lists, minlength=len(centers))
    # Stable: members are in the order of the rows, for ties and for the disk.
    members = np.split(np.argsort(lists, kind="stable"), np.cumsum(sizes)[:-1])
    stopped = threading.Event()

    def search_for(images: range) -> None:
        wanted = _choose_probes(
            rows.array[images.start : images.stop],
            centers,
            sizes,
            least=num_neighbors + 1,
            probes=num_probes,
        )
        # The nearest lists of each come first: little in the others is better.
        stages = _STAGES if search.is_cpu else ()
        ends = [0, *(end for end in stages if end < wanted.shape[1]), None]
        for start, end in pairwise(ends):
            is_first, chosen = start == 0, wanted[:, start:end]
            for queries, others in _probes(members, chosen, images.start):
                if stopped.is_set():
                    return
                search.compare(queries, others, is_first=is_first)

    # A device that was chosen for this thread is not known to others.
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def search_on_device(images: range) -> None:
        with jax.default_device(device):
            search_for(images)

    # Threads for different images: while one reads or sorts, another multiplies.
    piece = max(1, -(-len(own) // _THREADS))
    pieces = [own[start : start + piece] for start in range(0, len(own), piece)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="mca-jax-search") as pool:
        try:
            list(pool.map(search_on_device, pieces))
        finally:
            # Ctrl-C doesn't wait for the whole search.
            stopped.set()
    fill_shares(search.scores)
    fill_shares(search.ids)
    return search.scores, search.ids


def probe_neighbors(
    key: PRNGKey,
    images: Float[Array, "n d"] | Rows,
    *,
    num_neighbors: int = 20,
    num_probes: int = 56,
) -> ProbedNeighbors:
    """Find most of each image's nearest other images.

    Args:
      key: Key of the inverted lists and of the sample that recall is measured on.
      images: Unit vectors, on one device, over several or on the host; the search
        reads them from the host.
      num_neighbors: ``r_i``; cut to ``n - 1`` for small sets.
      num_probes: Lists that an image looks into, at least 1. With as many as
        there are, about ``sqrt(n)``, the search is exact.

    Returns:
      Neighbours, nearest first, and the measured recall.
    """
    table = images
    if not isinstance(table, HostRows):
        table = HostRows(np.asarray(images), _BLOCK)
    count = table.shape[0]
    list_key, sample_key = jax.random.split(key)
    num_lists = min(max(2, math.isqrt(count)), count)
    centers, lists = _build_lists(list_key, images, num_lists)
    scores, ids = _probe(
        table,
        centers,
        lists,
        num_neighbors=min(num_neighbors, count - 1),
        num_probes=min(num_probes, num_lists),
        # A CPU reads the host's as fast; accelerators would be sent each row again.
        placed=None if _is_cpu() or not isinstance(images, jax.Array) else images,
    )
    recall = measure_recall(sample_key, table, ids)
    near = NeighborTable(*(shard_like(x, images) for x in (ids, scores)))
    return ProbedNeighbors(near, recall)


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
    search = partial(_merge, num_neighbors=indices.shape[1] + 1)
    exact = np.asarray(fold_pairs(search, sample, images).ids)
    shares = []
    for row, nearest in zip(chosen, exact, strict=True):
        others = [other for other in nearest.tolist() if other != row]
        true = others[: indices.shape[1]]
        shares.append(len(set(true) & set(indices[row].tolist())) / len(true))
    return float(np.mean(shares))
