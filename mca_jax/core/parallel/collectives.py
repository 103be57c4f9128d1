"""Sums, means and gathers over a batch or a set that devices share.

Each function is called inside a function that ``over_devices`` maps: there
``axis_name`` names the devices, and an array holds this device's rows of an array
that all devices hold together, cut evenly in the order of the devices. Rows that
only fill the last devices up come last and are told by the true number of rows.
With ``axis_name=None`` an array is the whole, and each function is the plain one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = [
    "all_rows",
    "valid_rows",
    "first_row",
    "global_sum",
    "mean_rows",
    "num_rows",
    "own_rows",
    "scatter_rows",
    "take_rows",
]


def first_row(num_local: int, axis_name: str | None) -> Int[Array, ""] | int:
    """Tell where this device's rows begin among all.

    Args:
      num_local: Rows of each device.
      axis_name: Axis of the devices, or None.

    Returns:
      Index of the first own row.
    """
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * num_local


def num_rows(num_local: int, axis_name: str | None, count: int | None) -> int:
    """Count the rows of all devices.

    Args:
      num_local: Rows of each device.
      axis_name: Axis of the devices, or None.
      count: Rows of the whole; None counts every row.

    Returns:
      The true number of rows.
    """
    if count is not None:
        return count
    return num_local if axis_name is None else num_local * jax.lax.axis_size(axis_name)


def valid_rows(
    num_local: int, axis_name: str | None, count: int | None
) -> Bool[Array, " b"]:
    """Mark the own rows that are part of the whole; the others fill up.

    Args:
      num_local: Rows of each device.
      axis_name: Axis of the devices, or None.
      count: Rows of the whole; None counts every row.

    Returns:
      True for each row that counts.
    """
    if count is None:
        return jnp.ones(num_local, bool)
    return first_row(num_local, axis_name) + jnp.arange(num_local) < count


def global_sum(x: Array, axis_name: str | None) -> Array:
    """Add up what the devices hold.

    Args:
      x: Part of this device, of one shape on all.
      axis_name: Axis of the devices, or None.

    Returns:
      The sum, the same on all devices.
    """
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def mean_rows(
    x: Float[Array, "b ..."], axis_name: str | None, batch_size: int | None = None
) -> Float[Array, "..."]:
    """Average over all rows of all devices.

    Args:
      x: Own rows; finite also where a row only fills up.
      axis_name: Axis of the devices, or None.
      batch_size: Rows of the whole; None counts every row.

    Returns:
      The mean, the same on all devices.
    """
    if axis_name is None:
        return jnp.mean(x, axis=0)
    if batch_size is None:
        return jax.lax.pmean(jnp.mean(x, axis=0), axis_name)
    valid = valid_rows(x.shape[0], axis_name, batch_size)
    kept = jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
    return jax.lax.psum(jnp.sum(kept, axis=0), axis_name) / batch_size


def all_rows(
    x: Array, axis_name: str | None, count: int | None = None
) -> Float[Array, "n ..."]:
    """Gather the rows of all devices, without those that fill up.

    Args:
      x: Own rows.
      axis_name: Axis of the devices, or None.
      count: Rows of the whole; None keeps every row.

    Returns:
      All rows, the same on all devices.
    """
    if axis_name is None:
        return x
    return jax.lax.all_gather(x, axis_name, tiled=True)[:count]


def own_rows(x: Array, num_local: int, axis_name: str | None) -> Array:
    """Cut the own rows out of an array that every device has.

    Args:
      x: All rows, at most ``num_local`` for each device.
      num_local: Rows of each device; what is missing is filled with zeros.
      axis_name: Axis of the devices, or None.

    Returns:
      The own rows.
    """
    if axis_name is None:
        return x
    total = num_local * jax.lax.axis_size(axis_name)
    padded = jnp.pad(x, [(0, total - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
    start = first_row(num_local, axis_name)
    return jax.lax.dynamic_slice_in_dim(padded, start, num_local)


def _owned(table: Array, rows: Int[Array, " b"], axis_name: str) -> Array:
    """Rows that this device holds, zeros for the others."""
    local = rows - first_row(table.shape[0], axis_name)
    mine = (local >= 0) & (local < table.shape[0])
    found = table[jnp.where(mine, local, 0)]
    keep = mine.reshape(-1, *[1] * (table.ndim - 1))
    return jnp.where(keep, found, jnp.zeros((), table.dtype))


def take_rows(table: Array, rows: Int[Array, " b"], axis_name: str | None) -> Array:
    """Look rows up in a table that is spread over devices.

    Args:
      table: Own rows of the table.
      rows: Rows of the whole table, the same on all devices.
      axis_name: Axis of the devices, or None.

    Returns:
      Those rows, the same on all devices and bit for bit those of the table.
    """
    if axis_name is None:
        return table[rows]
    # Every row has one owner: the sum adds zeros to it.
    return jax.lax.psum(_owned(table, rows, axis_name), axis_name)


def scatter_rows(table: Array, rows: Int[Array, " b"], axis_name: str | None) -> Array:
    """Look rows up in a spread table, each device its even share of them.

    Args:
      table: Own rows of the table.
      rows: Rows of the whole table, the same on all devices; their number is a
        multiple of that of the devices.
      axis_name: Axis of the devices, or None.

    Returns:
      This device's share of the rows, in order.
    """
    if axis_name is None:
        return table[rows]
    found = _owned(table, rows, axis_name)
    return jax.lax.psum_scatter(found, axis_name, scatter_dimension=0, tiled=True)
