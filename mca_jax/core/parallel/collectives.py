"""Look-ups and the padding mask of rows that devices share.

Each function is called inside a function that ``over_devices`` maps: there
``axis_name`` names the devices, and an array holds this device's rows of an array
that all devices hold together, cut evenly in the order of the devices. Padding comes
last; ``count`` is the true number of rows, and None counts every row. With
``axis_name=None`` an array is the whole, and each function is the plain one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

__all__ = [
    "valid_rows",
    "first_row",
    "scatter_rows",
    "take_rows",
]


def first_row(num_local: int, axis_name: str | None) -> Int[Array, ""] | int:
    """Index of this device's first row among all."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * num_local


def valid_rows(
    num_local: int, axis_name: str | None, count: int | None
) -> Bool[Array, " b"]:
    """Mask of the own rows that are no padding."""
    if count is None:
        return jnp.ones(num_local, bool)
    return first_row(num_local, axis_name) + jnp.arange(num_local) < count


def _owned(table: Array, rows: Int[Array, " b"], axis_name: str) -> Array:
    """Rows that this device holds, zeros for the others."""
    local = rows - first_row(table.shape[0], axis_name)
    mine = (local >= 0) & (local < table.shape[0])
    found = table[jnp.where(mine, local, 0)]
    keep = mine.reshape(-1, *[1] * (table.ndim - 1))
    return jnp.where(keep, found, jnp.zeros((), table.dtype))


def take_rows(table: Array, rows: Int[Array, " b"], axis_name: str | None) -> Array:
    """Look rows up in a sharded table; every device gets them, bit for bit.

    ``rows`` are those of the whole table, the same on all devices.
    """
    if axis_name is None:
        return table[rows]
    # Every row has one owner: the sum adds zeros to it.
    return jax.lax.psum(_owned(table, rows, axis_name), axis_name)


def scatter_rows(table: Array, rows: Int[Array, " b"], axis_name: str | None) -> Array:
    """Look rows up in a sharded table, each device its even share of them.

    Their number is a multiple of that of the devices.
    """
    if axis_name is None:
        return table[rows]
    found = _owned(table, rows, axis_name)
    return jax.lax.psum_scatter(found, axis_name, scatter_dimension=0, tiled=True)
