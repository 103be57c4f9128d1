"""Tables of rows: on one device, sharded over several, or on the host.

Where a table is, is asked here and nowhere else. An algorithm states its arithmetic
once, as a function of arrays that knows nothing of devices, and hands it to

* :func:`map_rows`, if each row of the result needs its own row alone, and small
  tables that every device may hold: ``map_rows(l2_normalize, images)`` or
  ``map_rows(assign, images, whole=(params,))``. The result is where the rows are,
  however large it is.
* :func:`reduce_rows`, if blocks of rows can be added up:
  ``reduce_rows(partial(jnp.sum, axis=0), images)``.
* :func:`compute`, for any other function whose result is small. It sees the true
  rows as one global array, and XLA splits the work.
* :func:`map_neighborhoods` and :func:`fold_pairs`, for rows that need others: some
  that a table names, or all of them.

On one device the function is simply called: pass it compiled if it shall be. For
several devices and for blocks of the host it is compiled here, once for each function
and mesh; a ``partial`` of keywords counts as the same function where its parts are
the same. Tables of a row for each row are brought along by :func:`shard_like`, some
rows are copied to the host by :func:`fetch_rows`, and all of them by ``np.asarray``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mca_jax.core.host_tables import allocate_rows, release, sum_picked
from mca_jax.core.parallel.collectives import take_rows, valid_rows
from mca_jax.core.parallel.drivers import over_devices
from mca_jax.core.parallel.mesh import DATA_AXIS
from mca_jax.core.parallel.shares import fill_shares, own_blocks, sum_over_hosts

__all__ = [
    "HostRows",
    "Rows",
    "ShardedRows",
    "Table",
    "compute",
    "device_budget",
    "fetch",
    "fetch_rows",
    "first_columns",
    "fold_pairs",
    "map_neighborhoods",
    "map_rows",
    "mesh_of",
    "pick_rows",
    "reduce_rows",
    "replicate",
    "shard_images",
    "shard_like",
    "shard_picked",
    "shard_rows",
]

# Rows of all hosts that one has at once.
_BLOCK = 65_536
# Rows that are read here and there from a file: the system maps their surroundings too.
_PICKED = 4_096
_THREADS = 2
_GIB = 2**30
# Of what a device has: the rest is for scores, gradients and the compiler's room.
_SHARE = 0.5
_LEAST_BLOCK, _MOST_BLOCK = 256, 65_536
# Queries of a block: with it, the scores of a block stay small beside it.
_QUERIES = 4_096


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("array",),
    meta_fields=("count", "mesh"),
)
@dataclass(frozen=True, eq=False)
class ShardedRows:
    """Rows over the devices of a mesh, padded to a multiple of their number.

    Attributes:
      array: The rows and zeros as padding, split along the first axis.
      count: Number of true rows.
      mesh: The devices.
    """

    array: jax.Array
    count: int
    mesh: Mesh

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the true rows."""
        return (self.count, *self.array.shape[1:])

    def true_rows(self) -> jax.Array:
        """The rows without padding, still sharded; inside a compiled function."""
        sharding = NamedSharding(self.mesh, PartitionSpec(DATA_AXIS))
        # Shards of different sizes are possible inside a compiled function alone.
        return jax.lax.with_sharding_constraint(self.array[: self.count], sharding)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Copy the true rows of all devices of all hosts to this host."""
        if self.array.is_fully_addressable:
            return np.asarray(np.asarray(self.array)[: self.count], dtype)
        # Block by block: a device may not hold the rows of all of them.
        whole = allocate_rows(self.shape, self.array.dtype)
        size = min(_BLOCK, self.count)
        for start in range(0, self.count, size):
            # The last block begins earlier, so that all are of one shape.
            first = min(start, self.count - size)
            picked = np.arange(first, first + size, dtype=np.int32)
            whole[first : first + size] = fetch_rows(self, picked)
            release(whole)
        return np.asarray(whole, dtype)


@dataclass(frozen=True, eq=False)
class HostRows:
    """Rows in the host's memory or a memory-mapped file; read block by block.

    Attributes:
      array: ``[n, ...]``; floats are float32 on the device.
      block_size: Rows copied to the device at once, at least 1.
      mesh: Devices that a batch of them is split over; None for one.
    """

    array: np.ndarray
    block_size: int
    mesh: Mesh | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the table."""
        return self.array.shape

    def block(self, rows: slice) -> np.ndarray:
        """Some of the rows as a device gets them."""
        floats = self.array.dtype.kind == "f"
        return np.asarray(self.array[rows], np.float32 if floats else None)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The table itself."""
        return np.asarray(self.array, dtype)


Rows: TypeAlias = jax.Array | ShardedRows | HostRows
"""A table on one device, over several, or on the host."""

Table: TypeAlias = Rows | np.ndarray
"""A small table of a row for each of ``Rows``, in the same place."""


def _place(
    read: Callable[[int, int], Any], shape: tuple[int, ...], dtype: Any, mesh: Mesh
) -> jax.Array:
    """Build a split array from what each of this host's devices reads."""
    count, *rest = shape
    total = -(-max(count, 1) // mesh.size) * mesh.size

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(total)
        block = np.zeros((stop - start, *rest), dtype)
        known = min(stop, count) - start
        if known > 0:
            block[:known] = read(start, start + known)
        return block

    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return jax.make_array_from_callback((total, *rest), sharding, part)


def shard_rows(rows: Any, mesh: Mesh, dtype: Any = None) -> ShardedRows:
    """Split a table over devices; every host reads only the rows of its own.

    Args:
      rows: Table with ``shape``, ``dtype`` and slices, such as a memory-mapped
        file. The same on all hosts.
      mesh: The devices.
      dtype: Type on the devices; None keeps that of the table.
    """
    if isinstance(rows, ShardedRows):
        return rows
    if isinstance(rows, (jax.Array, HostRows)):
        rows = np.asarray(rows)
    kind = rows.dtype if dtype is None else dtype
    array = _place(lambda a, b: rows[a:b], tuple(rows.shape), kind, mesh)
    return ShardedRows(array, int(rows.shape[0]), mesh)


def shard_picked(
    table: np.ndarray, picked: np.ndarray, mesh: Mesh | None, dtype: Any = None
) -> jax.Array:
    """Copy some rows of a table on the host to devices, each its even share.

    Args:
      table: Any table, also memory-mapped.
      picked: Which rows, the same on all hosts. Each host reads those of its own
        devices alone.
      mesh: The devices, or None for one.
      dtype: Type on the devices; None keeps that of the table.

    Returns:
      The rows over the devices, padded with zeros to a multiple of them.
    """
    kind = table.dtype if dtype is None else dtype
    if mesh is None:
        return jax.device_put(np.asarray(table[picked], kind))
    shape = (len(picked), *table.shape[1:])
    return _place(lambda a, b: table[picked[a:b]], shape, kind, mesh)


def device_budget(budget_gib: float) -> int:
    """Bytes of tables that each device may hold.

    Args:
      budget_gib: In GiB; 0 takes half of what the device has, for CPUs half of
        the machine's memory, divided among the devices of the machine.
    """
    if budget_gib > 0:
        return int(budget_gib * _GIB)
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and stats.get("bytes_limit"):
        return int(_SHARE * stats["bytes_limit"])
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_SHARE * physical) // jax.local_device_count()


def shard_images(
    embeddings: np.ndarray,
    mesh: Mesh | None,
    *,
    bytes_per_row: int,
    budget_gib: float = 0.0,
) -> Rows:
    """Put embeddings on the devices if they fit, else leave them on the host.

    Where they are changes how a run computes, not what it gives.

    Args:
      embeddings: Float32 ``[n, d]``, also memory-mapped.
      mesh: The devices, or None for one.
      bytes_per_row: All that a run keeps on devices for each image.
      budget_gib: Memory for it on each device in GiB; 0 asks the device.
    """
    budget = device_budget(budget_gib)
    shared = 1 if mesh is None else mesh.size
    if len(embeddings) * bytes_per_row <= budget * shared:
        if mesh is None:
            return jnp.asarray(embeddings, jnp.float32)
        return shard_rows(embeddings, mesh, np.float32)
    # A block and what is computed from it take a small part of the budget.
    rows = budget // (8 * max(bytes_per_row, 1))
    block = int(np.clip(rows, _LEAST_BLOCK, _MOST_BLOCK))
    return HostRows(embeddings, block, mesh)


def mesh_of(rows: Any) -> Mesh | None:
    """The devices that a table is meant for; None for one device."""
    return rows.mesh if isinstance(rows, (ShardedRows, HostRows)) else None


def shard_like(values: Any, rows: Rows) -> Any:
    """Bring a table of a row for each of ``rows`` to where those are."""
    if isinstance(rows, HostRows):
        if isinstance(values, HostRows):
            return values
        return HostRows(np.asarray(values), rows.block_size, rows.mesh)
    if isinstance(rows, ShardedRows):
        return shard_rows(values, rows.mesh)
    return values if isinstance(values, jax.Array) else jnp.asarray(np.asarray(values))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Give every device a copy; keys of ``jax.random`` too.

    Args:
      tree: Arrays or numbers, the same on all hosts.
      mesh: The devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec())

    def copy(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        if jnp.issubdtype(getattr(x, "dtype", np.dtype(float)), jax.dtypes.prng_key):
            data = copy(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        host = np.asarray(x)
        host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype))
        return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])

    return jax.tree.map(copy, tree)


def pick_rows(rows: Any, picked: np.ndarray) -> Any:
    """Some rows of an array, where it is; one compiled function on a device."""
    return _pick(rows, picked) if isinstance(rows, jax.Array) else rows[picked]


@jax.jit
def _pick(rows: jax.Array, picked: jax.Array) -> jax.Array:
    return rows[picked]


def fetch_rows(rows: Any, picked: np.ndarray) -> np.ndarray:
    """Copy some rows of a table to every host, wherever the table is.

    Args:
      rows: The table; all hosts must ask for it.
      picked: Which rows, the same on all hosts.

    Returns:
      Those rows alone, floats of the host as float32.
    """
    if isinstance(rows, HostRows):
        kind = rows.block(slice(0)).dtype
        found = np.empty((len(picked), *rows.shape[1:]), kind)
        for start in range(0, len(picked), _PICKED):
            some = slice(start, start + _PICKED)
            found[some] = rows.array[picked[some]]
            release(rows.array)
        return found
    if not isinstance(rows, ShardedRows):
        return np.asarray(pick_rows(rows, picked))
    return fetch(_take(rows.mesh)(rows.array, replicate(picked, rows.mesh)))


# Kept, so that a second block finds what the first compiled.
@lru_cache(8)
def _take(mesh: Mesh) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return over_devices(
        partial(take_rows, axis_name=DATA_AXIS), mesh, split=(True, False)
    )


def fetch(array: jax.Array) -> np.ndarray:
    """Copy a whole array to the host, from all hosts where it is spread over them.

    All hosts must ask for it.
    """
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def first_columns(rows: Rows, count: int) -> Any:
    """The first columns of a table, where the table is."""
    if isinstance(rows, ShardedRows):
        return ShardedRows(rows.array[:, :count], rows.count, rows.mesh)
    if isinstance(rows, HostRows):
        return HostRows(rows.array[:, :count], rows.block_size, rows.mesh)
    return rows[:, :count]


def _parts(function: Callable[..., Any]) -> tuple[Callable[..., Any], Any]:
    """A function and its bound keywords, which a cache can compare."""
    if isinstance(function, partial) and not function.args:
        return function.func, tuple(sorted(function.keywords.items()))
    return function, ()


@lru_cache(64)
def _mapped(
    function: Callable[..., Any],
    keywords: tuple[tuple[str, Any], ...],
    mesh: Mesh,
    count: int,
    num_tables: int,
) -> Callable[..., Any]:
    def run(tables: tuple[jax.Array, ...], whole: tuple[Any, ...]) -> Any:
        valid = valid_rows(tables[0].shape[0], DATA_AXIS, count)

        def pad(x: jax.Array) -> jax.Array:
            # Padding stays zero, and so takes part in no sum.
            return jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, 0)

        return jax.tree.map(pad, function(*tables, *whole, **dict(keywords)))

    return over_devices(run, mesh, split=(True, False), split_out=True)


def map_rows(
    function: Callable[..., Any],
    rows: Rows,
    *others: Any,
    whole: tuple[Any, ...] = (),
    over_hosts: bool = False,
) -> Any:
    """Compute something of each row, wherever the rows are.

    Args:
      function: ``(block [b, ...], *blocks of others, *whole)`` to an array
        ``[b, ...]`` or a tree of them. Each row of it depends on the same row of the
        blocks alone.
      rows: The table.
      *others: Tables of as many rows, in any place.
      whole: Trees of arrays that every block needs.
      over_hosts: Of a table on the host, each of several hosts computes its share
        and gets the rest: for what costs more to compute than to send.

    Returns:
      Tables of the kind of ``rows`` in the tree of the result.
    """
    others = tuple(shard_like(other, rows) for other in others)
    if isinstance(rows, HostRows):
        return _map_host(function, (rows, *others), whole, over_hosts)
    if not isinstance(rows, ShardedRows):
        return _compiled(*_parts(function))(rows, *others, *whole)
    spread = _mapped(*_parts(function), rows.mesh, rows.count, 1 + len(others))
    arrays = (rows.array, *(other.array for other in others))
    found = spread(arrays, replicate(whole, rows.mesh))
    return jax.tree.map(lambda x: ShardedRows(x, rows.count, rows.mesh), found)


def _on_one_device(tree: Any) -> Any:
    """What may be on several devices, beside blocks that are on one."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), tree)


@lru_cache(64)
def _compiled(function: Callable[..., Any], keywords: Any) -> Callable[..., Any]:
    return jax.jit(partial(function, **dict(keywords)))


def _allocate(like: Any, count: int) -> Any:
    """Tables of so many rows, for a tree of what one block gives."""
    return jax.tree.map(lambda x: allocate_rows((count, *x.shape[1:]), x.dtype), like)


def _fill(tables: Any, rows: slice, parts: Any) -> None:
    """Keep what a block gave; waits for it, for all blocks at once are too much."""

    def keep(table: np.ndarray, part: jax.Array) -> None:
        table[rows] = np.asarray(part)[: rows.stop - rows.start]
        release(table)

    jax.tree.map(keep, tables, parts)


def _map_host(
    function: Callable[..., Any],
    tables: tuple[HostRows, ...],
    whole: tuple[Any, ...],
    over_hosts: bool,
) -> Any:
    """Block by block; a large result goes to a file without a name."""
    rows = tables[0]
    count, size = rows.shape[0], min(rows.block_size, rows.shape[0])
    compiled = _compiled(*_parts(function))
    whole = _on_one_device(whole)
    shapes = [
        jax.ShapeDtypeStruct((size, *x.shape[1:]), x.block(slice(0)).dtype)
        for x in tables
    ]
    like = jax.eval_shape(compiled, *shapes, *whole)
    found = _allocate(like, count)
    every = (
        slice(start, min(start + size, count)) for start in range(0, count, size or 1)
    )
    for block in own_blocks(count, size) if over_hosts else every:
        outputs = compiled(*(table.block(block) for table in tables), *whole)

        _fill(found, block, outputs)
        for table in tables:
            release(table.array)
    if over_hosts:
        jax.tree.map(fill_shares, found)
    return jax.tree.map(lambda x: HostRows(x, rows.block_size, rows.mesh), found)


def reduce_rows(
    function: Callable[..., Any], rows: Rows, *, whole: tuple[Any, ...] = ()
) -> Any:
    """Add up what a function makes of blocks of rows, wherever the rows are.

    Args:
      function: ``(block [b, ...], *whole)`` to an array or a tree of them; that of
        all rows is the sum of those of any blocks.
      rows: The table.
      whole: Trees of arrays that every block needs.

    Returns:
      The sums, on the first device of every host.
    """
    if not isinstance(rows, HostRows):
        return compute(function, rows, *whole)
    compiled = _compiled(*_parts(function))
    whole = _on_one_device(whole)
    shape = (max(1, min(rows.block_size, rows.shape[0])), *rows.shape[1:])
    block_like = jax.ShapeDtypeStruct(shape, rows.block(slice(0)).dtype)
    leaves, structure = jax.tree.flatten(jax.eval_shape(compiled, block_like, *whole))
    sums = [np.zeros(x.shape, np.float64) for x in leaves]
    for block in own_blocks(rows.shape[0], rows.block_size):
        found = compiled(rows.block(block), *whole)
        for total, part in zip(sums, jax.tree.leaves(found), strict=True):
            total += np.asarray(part)
        release(rows.array)
    narrow = (
        jnp.asarray(total, like.dtype)
        for total, like in zip(sum_over_hosts(sums), leaves, strict=True)
    )
    return jax.tree.unflatten(structure, narrow)


@lru_cache(64)
def _on_mesh(
    function: Callable[..., Any], keywords: Any, mesh: Mesh
) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        arrays = (x.true_rows() if isinstance(x, ShardedRows) else x for x in arguments)
        return function(*arrays, **dict(keywords))

    # Every device gets the result: a host can read it without the others.
    return jax.jit(run, out_shardings=NamedSharding(mesh, PartitionSpec()))


def compute(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of whole tables, on one device or over several.

    Over devices it is compiled for the true rows as one global array, and what it
    returns must be small.

    Args:
      function: Takes arrays in place of ``ShardedRows``, and returns a tree of
        arrays that every device may hold.
      *arguments: Tables, keys, and trees of arrays. A table on the host is copied
        to one device as a whole.

    Returns:
      What the function returns, on the first device of every host.
    """
    sharded = [x for x in arguments if isinstance(x, ShardedRows)]
    if not sharded:
        return _compiled(*_parts(function))(
            *(
                jnp.asarray(x.block(slice(None))) if isinstance(x, HostRows) else x
                for x in arguments
            )
        )
    mesh = sharded[0].mesh
    run = _on_mesh(*_parts(function), mesh)
    found = run(
        *(x if isinstance(x, ShardedRows) else replicate(x, mesh) for x in arguments)
    )
    return jax.tree.map(lambda x: jnp.asarray(fetch(x)), found)


def _with_sums(
    own: jax.Array, near: jax.Array, everyone: jax.Array, *, function: Any
) -> jax.Array:
    return function(own, jnp.sum(everyone[near], axis=1))


def map_neighborhoods(
    function: Callable[[jax.Array, jax.Array], jax.Array], rows: Rows, neighbors: Rows
) -> Any:
    """Compute something of each row and the sum of its neighbours.

    Args:
      function: ``(rows [b, d], sums [b, d])`` to ``[b, c]``.
      rows: The table. Every device gets all of it meanwhile; on the host the sums
        are made there.
      neighbors: Rows of each row's neighbours, ``[n, r]``.

    Returns:
      A table of the kind of ``rows``.
    """
    summed = partial(_with_sums, function=function)
    if isinstance(rows, ShardedRows):
        gather = _compiled_gather(rows.mesh)
        return map_rows(summed, rows, neighbors, whole=(gather(rows.array),))
    if not isinstance(rows, HostRows):
        return _compiled(*_parts(summed))(rows, neighbors, rows)
    near, compiled = np.asarray(neighbors), _compiled(*_parts(function))
    like = rows.block(slice(0, rows.block_size))
    mapped = _allocate(jax.eval_shape(compiled, like, like), rows.shape[0])
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def fill(start: int) -> None:
        block = slice(start, min(start + rows.block_size, rows.shape[0]))
        total = sum_picked(rows.array, near[block])
        # A device that was chosen for this thread is not known to others.
        with jax.default_device(device):
            _fill(mapped, block, compiled(rows.block(block), total))

    # Threads: to add up what lies here and there waits for memory most of the time.
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="mca-jax-sum") as pool:
        list(pool.map(fill, range(0, rows.shape[0], rows.block_size)))
    release(rows.array)
    return HostRows(mapped, rows.block_size, rows.mesh)


@lru_cache(8)
def _compiled_gather(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=everywhere)


Fold: TypeAlias = Callable[[Any, Any, Any, Any, Any], Any]
"""``(carry, queries [b, d], their ids, columns [c, d], their ids)`` to the carry.

Ids are rows of the whole tables, -1 for padding. The carry has a row for each query
and is None for the first columns; in which order columns come must not matter.
"""


def fold_pairs(function: Fold, queries: Rows, columns: Rows) -> Any:
    """Compute something of each row and all rows of a table of the same kind.

    Over devices the columns travel around a ring, one device's share at a time, so
    that none ever holds them all. On the host blocks of both go to the device; of
    several hosts each takes its share of the queries.

    Returns:
      The carry as tables of the kind of ``queries``.
    """
    if isinstance(queries, HostRows):
        assert isinstance(columns, HostRows)
        return _fold_host(function, queries, columns)
    if isinstance(queries, ShardedRows):
        assert isinstance(columns, ShardedRows)
        fold = _ring(*_parts(function), queries.mesh, columns.count)
        found = fold(queries.array, columns.array)
        return jax.tree.map(
            lambda x: ShardedRows(x, queries.count, queries.mesh), found
        )
    ids = (jnp.arange(x.shape[0], dtype=jnp.int32) for x in (queries, columns))
    query_ids, column_ids = ids
    return function(None, queries, query_ids, columns, column_ids)


@lru_cache(64)
def _ring(
    function: Fold, keywords: Any, mesh: Mesh, num_columns: int
) -> Callable[..., Any]:
    fold, devices = partial(function, **dict(keywords)), mesh.size
    ring = [(device, (device - 1) % devices) for device in range(devices)]

    def run(queries: jax.Array, columns: jax.Array) -> Any:
        own, share = jax.lax.axis_index(DATA_AXIS), columns.shape[0]
        query_ids = own * queries.shape[0] + jnp.arange(queries.shape[0])

        def visit(step: Any, carry: Any, columns: jax.Array) -> Any:
            ids = (own + step) % devices * share + jnp.arange(share)
            ids = jnp.where(ids < num_columns, ids, -1)
            return fold(carry, queries, query_ids, columns, ids)

        def pass_on(step: Any, state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            columns = jax.lax.ppermute(state[1], DATA_AXIS, ring)
            return visit(step, state[0], columns), columns

        state = visit(0, None, columns), columns
        return jax.lax.fori_loop(1, devices, pass_on, state)[0]

    return over_devices(run, mesh, split=(True, True), split_out=True)


def _fold_host(function: Fold, queries: HostRows, columns: HostRows) -> Any:
    fold = _compiled(*_parts(function))
    count, total = queries.shape[0], columns.shape[0]
    size, width = min(_QUERIES, queries.block_size, count), columns.block_size
    width = min(width, total)

    def padded(table: HostRows, start: int, stop: int, size: int) -> tuple[Any, Any]:
        block = np.zeros((size, *table.shape[1:]), np.float32)
        block[: stop - start] = table.block(slice(start, stop))
        ids = np.arange(start, start + size, dtype=np.int32)
        return jnp.asarray(block), np.where(ids < stop, ids, np.int32(-1))

    first_blocks = padded(queries, 0, size, size), padded(columns, 0, width, width)
    like = jax.eval_shape(fold, None, *first_blocks[0], *first_blocks[1])
    found = _allocate(like, count)
    for rows in own_blocks(count, size):
        block = padded(queries, rows.start, rows.stop, size)
        carry: Any = None
        for first in range(0, total, width):
            part = padded(columns, first, min(first + width, total), width)
            carry = fold(carry, *block, *part)
        _fill(found, rows, carry)
        release(queries.array)
        release(columns.array)
    jax.tree.map(fill_shares, found)
    return jax.tree.map(lambda x: HostRows(x, queries.block_size, queries.mesh), found)
