"""One table of embeddings for all hosts of a run: a file that each writes a part of.

Every host maps the file and reads what it needs of it, so that none holds the others'
rows in memory or on a disk of its own. Who maps it holds a lock on it: one that nobody
holds was left behind by a run that was killed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mca_jax.core.host_tables import reserve, row_blocks
from mca_jax.core.parallel import is_first_host, on_first_host
from mca_jax.core.parallel.shares import exchange

__all__ = ["remove_left_behind", "share_table"]

_SUFFIX = ".shared"
_TOKEN_BYTES = 8
# Where a file system has no locks, a table this old is nobody's.
_STALE_SECONDS = 7 * 24 * 3600.0


def _create(path: Path, size: int) -> BinaryIO:
    """Make the file with all its room, and hold on to it.

    Raises:
      OSError: The system refused; nothing is left behind.
    """
    file = path.open("xb")
    try:
        _lock(file)
        reserve(file.fileno(), size)
    except OSError:
        file.close()
        path.unlink()
        raise
    return file


def _lock(file: BinaryIO) -> None:
    """Say that the file is in use, where the file system has locks."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)


def _write(path: Path, own: np.ndarray, first: int) -> None:
    """Write this host's rows to where they belong."""
    # Not mapped: of a page that two hosts share, each would write the whole.
    with path.open("r+b") as file:
        file.seek(first * own.shape[1] * own.itemsize)
        for rows in row_blocks(own):
            file.write(np.ascontiguousarray(own[rows]).data)
        file.flush()
        os.fsync(file.fileno())


def _open(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
    """Map the file for reading; lock and, on the first host, file go with the map."""
    file = path.open("rb")
    _lock(file)
    table = np.memmap(file, dtype, "r", shape=shape)
    owner = is_first_host()

    def close() -> None:
        file.close()
        if owner:
            path.unlink(missing_ok=True)

    # Views of the table hold on to the map, not to the array.
    weakref.finalize(table._mmap, close)  # pyright: ignore[reportAttributeAccessIssue]
    return table


def share_table(
    folder: Path, own: np.ndarray, first: int, count: int
) -> np.ndarray | None:
    """Put the rows of all hosts into one file that all of them map.

    All hosts have to call it.

    Args:
      folder: On a file system of all hosts.
      own: This host's rows, ``[m, d]``.
      first: Where they begin in the whole table.
      count: Rows of the whole table.

    Returns:
      The table ``[count, d]``, mapped read-only, or None where the hosts turn out not
      to share the folder. The file goes with the array.

    Raises:
      OSError: On the first host, there is no room for it.
      InputError: On the others, that it failed there.
    """
    shape = (count, own.shape[1])
    token = np.frombuffer(secrets.token_bytes(_TOKEN_BYTES), np.uint8)
    path = folder / f"rows-{exchange(token)[0].tobytes().hex()}{_SUFFIX}"
    size = count * own.shape[1] * own.itemsize
    held = on_first_host(lambda: _create(path, size))
    try:
        if not exchange(np.array(path.exists())).all():
            if held is not None:
                path.unlink()
            return None
        _write(path, own, first)
        # Nobody reads before all have written.
        exchange(np.zeros(1, np.uint8))
        return _open(path, own.dtype, shape)
    finally:
        if held is not None:
            held.close()


def remove_left_behind(path: Path) -> bool:
    """Remove a file of :func:`share_table` that no run uses any more.

    Args:
      path: Any file of the folder.

    Returns:
      Whether it was one of these files, in use or not.
    """
    if path.suffix != _SUFFIX:
        return False
    with suppress(OSError):
        old = time.time() - path.stat().st_mtime > _STALE_SECONDS
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                if not old:
                    return True
            os.unlink(path)
    return True
