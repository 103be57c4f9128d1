"""Tables of rows that are spread over devices or stay on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mca_jax.core.host_tables import allocate_rows, release
from mca_jax.core.parallel.collectives import take_rows
from mca_jax.core.parallel.drivers import over_devices
from mca_jax.core.parallel.mesh import DATA_AXIS

__all__ = [
    "HostRows",
    "Rows",
    "ShardedRows",
    "Table",
    "fetch",
    "fetch_rows",
    "mesh_of",
    "shard_like",
    "shard_picked",
    "shard_rows",
    "replicate",
]

# Rows of all hosts that one has at once.
_BLOCK = 65_536
# Rows that are read here and there from a file: the system maps their surroundings too.
_PICKED = 4_096


@dataclass(frozen=True, eq=False)
class ShardedRows:
    """Rows over the devices of a mesh, filled up to a multiple of their number.

    Attributes:
      array: The rows and zeros that fill up, split along the first axis.
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
      array: Floats ``[n, d]``, float32 on the device.
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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The table itself."""
        return np.asarray(self.array, dtype)


Rows: TypeAlias = jax.Array | ShardedRows | HostRows
"""A table on one device, over several, or on the host."""

Table: TypeAlias = jax.Array | ShardedRows | np.ndarray
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

    Returns:
      The table over the devices.
    """
    if isinstance(rows, ShardedRows):
        return rows
    if isinstance(rows, jax.Array):
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
      The rows over the devices, and zeros that fill up to a multiple of them.
    """
    kind = table.dtype if dtype is None else dtype
    if mesh is None:
        return jax.device_put(np.asarray(table[picked], kind))
    shape = (len(picked), *table.shape[1:])
    return _place(lambda a, b: table[picked[a:b]], shape, kind, mesh)


def mesh_of(rows: Any) -> Mesh | None:
    """Tell which devices a table is meant for.

    Args:
      rows: The table.

    Returns:
      Their mesh, or None for one device.
    """
    return rows.mesh if isinstance(rows, (ShardedRows, HostRows)) else None


def shard_like(values: np.ndarray, rows: Any) -> Any:
    """Put a table of the same rows where another is.

    Args:
      values: A row for each of ``rows``, on the host.
      rows: The other table.

    Returns:
      The values over the same devices, on the host, or on the one device.
    """
    if isinstance(rows, HostRows):
        return values
    if isinstance(rows, ShardedRows):
        return shard_rows(values, rows.mesh)
    return jnp.asarray(values)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Give every device a copy; keys of ``jax.random`` too.

    Args:
      tree: Arrays or numbers, the same on all hosts.
      mesh: The devices.

    Returns:
      The same tree over the mesh.
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


def fetch_rows(rows: Rows | Table, picked: np.ndarray) -> np.ndarray:
    """Copy some rows of a table to every host, wherever the table is.

    Args:
      rows: The table; all hosts must ask for it.
      picked: Which rows, the same on all hosts.

    Returns:
      Those rows alone, float32 where they were stored narrower.
    """
    if isinstance(rows, HostRows):
        found = np.empty((len(picked), *rows.shape[1:]), np.float32)
        for start in range(0, len(picked), _PICKED):
            some = slice(start, start + _PICKED)
            found[some] = rows.array[picked[some]]
            release(rows.array)
        return found
    if not isinstance(rows, ShardedRows):
        return np.asarray(rows[picked])
    return fetch(_take(rows.mesh)(rows.array, replicate(picked, rows.mesh)))


# Kept, so that a second block finds what the first compiled.
@lru_cache(8)
def _take(mesh: Mesh) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return over_devices(
        partial(take_rows, axis_name=DATA_AXIS), mesh, split=(True, False)
    )


def fetch(array: jax.Array) -> np.ndarray:
    """Copy an array to the host, from all hosts where it is spread over them.

    Args:
      array: Any array; all hosts must ask for it.

    Returns:
      The whole array.
    """
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
