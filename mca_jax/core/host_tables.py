"""Tables too large for memory: in files without a name, read block by block.

What is mapped from a file counts as the program's memory while it is held, though
the system could take it back at any time. Who reads or writes such a table in order
gives each block back behind it, so that memory stays what it would be for a small
set.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable

__all__ = ["allocate_rows", "release", "reserve", "row_blocks", "sum_picked"]

# Beyond, a table goes to a file. Small sets never do.
_IN_MEMORY_BYTES = 2**28
# What is read at once where a table is read in order.
_BLOCK_BYTES = 2**26


def allocate_rows(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """Make room for a table: in memory, or in a file where it is large.

    The file lies in the system's folder of temporary files (``TMPDIR``) and has no
    name: its room is free again when the array is gone or the program has ended,
    however it ended.

    Args:
      shape: Shape of the table, rows first.
      dtype: Its type.

    Returns:
      Zeros; memory-mapped from 256 MiB on.

    Raises:
      InputError: There is no room for the file.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= _IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            reserve(file.fileno(), size)
            return np.memmap(file, dtype, "r+", shape=tuple(shape))
    except OSError as error:
        raise InputError(
            f"Can't make a temporary file of {size / 1e9:.1f} GB in "
            f"{printable(tempfile.gettempdir())!r}: {error.strerror or error}; make "
            "room, or set TMPDIR to a folder on a larger disk"
        ) from error


def reserve(descriptor: int, size: int) -> None:
    """Give a file its length, and its room where the file system can.

    Raises:
      OSError: There is no room.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            # A mapped file that finds the disk full kills the program.
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, size)


def release(array: Any) -> None:
    """Give the memory of a mapped file back; what it holds stays readable.

    Nothing happens to an array in memory.
    """
    shared = False
    while isinstance(array, np.ndarray):
        # A map of mode "c" would lose what was written to it.
        shared = isinstance(array, np.memmap) and array.mode != "c"
        array = array.base
    if shared and isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def sum_picked(table: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Add up some rows of a table for each line of picks ``[b, r]``.

    One that comes twice counts twice.
    """
    lines, each = picked.shape
    ends = np.arange(lines + 1, dtype=np.int64) * each
    weights = np.ones(picked.size, table.dtype)
    # A sparse product adds row after row; indexing would first copy them all.
    chosen = csr_array((weights, picked.ravel(), ends), shape=(lines, len(table)))
    return chosen @ table


def row_blocks(table: np.ndarray) -> Iterator[slice]:
    """Slices of some 64 MiB of rows, in order; each is released behind its reader."""
    width = max(1, table.nbytes // max(len(table), 1))
    size = max(1, _BLOCK_BYTES // width)
    for start in range(0, len(table), size):
        yield slice(start, min(start + size, len(table)))
        release(table)
