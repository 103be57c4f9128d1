"""Numbers as people have them, lists, tables of pandas, tensors of torch, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from mca_jax.core.errors import InputError

__all__ = ["as_numbers", "as_whole_number", "check_lengths"]

# Beyond these, squares of float32 overflow or vanish, and with them all cosines.
_SHORTEST, _LONGEST = 1e-15, 1e15


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Take real numbers from whatever holds them.

    Args:
      name: What a message calls them.
      values: Nested lists, an array of any library, a table of pandas, or a tensor of
        torch, also one on a GPU or with a gradient.

    Returns:
      An array: float16 and float32 as they are, all else as float32.

    Raises:
      InputError: They are something else, such as texts or rows of several lengths.

    Example:
      >>> as_numbers("weights", [[1, 2], [3, 4]]).dtype
      dtype('float32')
    """
    expected = f"Expected {name} as a table of real numbers, found "
    kind = type(values)
    if kind.__module__.partition(".")[0] == "torch":
        values = values.detach().cpu().float()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{expected}rows of several lengths or kinds") from error
    if array.dtype in (np.float16, np.float32):
        return array
    if array.dtype.kind in "USMmc":
        raise InputError(f"{expected}values of type {array.dtype}")
    try:
        return array.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{expected}{kind.__name__} of {array.dtype}") from error


def check_lengths(name: str, rows: np.ndarray, first: int = 0) -> None:
    """Check that all rows have a direction, which cosines are made of.

    Args:
      name: What a message calls them.
      rows: Finite numbers ``[n, d]``.
      first: Number of the first of these rows.

    Raises:
      InputError: A row is zero, or far from the length one.
    """
    # Wide enough for the bounds, which float16 is not.
    sizes = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    bad = np.flatnonzero((sizes < _SHORTEST) | (sizes > _LONGEST))
    if not bad.size:
        return
    size = float(sizes[bad[0]])
    found = "nothing but zeros" if not size else f"values of {size:.0e}"
    rest = f" and {bad.size - 1} more" if bad.size > 1 else ""
    raise InputError(
        f"Expected {name} with a direction, of a length near 1; found {found} in row "
        f"{first + int(bad[0])}{rest}; leave such rows out or normalize them"
    )


def as_whole_number(name: str, value: Any) -> int:
    """Take a whole number, also as NumPy or a float has it.

    Raises:
      InputError: It is none.

    Example:
      >>> as_whole_number("k", np.float32(3))
      3
      >>> as_whole_number("k", 2.5)
      Traceback (most recent call last):
      mca_jax.core.errors.InputError: Expected k as a whole number, found 2.5
    """
    try:
        whole = int(value)
        is_whole = whole == value and not isinstance(value, bool | np.bool_ | str)
    except (TypeError, ValueError, OverflowError):
        whole, is_whole = 0, False
    if not is_whole:
        raise InputError(f"Expected {name} as a whole number, found {value!r}")
    return whole
