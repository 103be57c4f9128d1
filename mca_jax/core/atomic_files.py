"""Files that are written whole or not at all, and what the system says against it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable

__all__ = [
    "is_disk_full",
    "open_atomic",
    "refused_by_system",
    "write_file",
    "write_parts",
]


def is_disk_full(error: OSError) -> bool:
    """Whether the system refused for want of room: disk, quota, size of a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def refused_by_system(
    action: str,
    path: Path,
    error: OSError,
    *,
    advice: str = "choose another --workdir",
) -> InputError:
    """Say in one line what the system refused, and what to do.

    ``advice`` is given but where the disk is full, which speaks for itself.
    """
    if is_disk_full(error):
        advice = (
            "files that are already there are whole; make room and run the same "
            "command again"
        )
    reason = error.strerror or str(error)
    return InputError(f"Can't {action} {printable(str(path))!r}: {reason}; {advice}")


@contextmanager
def open_atomic(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Open a file to be written whole; whatever breaks it off leaves what was there.

    The content goes to a hidden file beside it, which takes the name when the block
    ends and all is on the disk.

    Args:
      path: File to write; its folder exists.
      shared: Whether several processes may write it at once. A killed one then
        leaves a hidden file ``.<name>.<pid>.tmp`` that nothing writes over.

    Yields:
      The hidden file, to write bytes to.

    Raises:
      OSError: The system refused.
    """
    process = f".{os.getpid()}" if shared else ""
    unfinished = path.with_name(f".{path.name}{process}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            # Without it a power cut may leave the new name on an empty file.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        # Also after Ctrl-C; a finished file has its name already.
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or leave what was there.

    Args:
      path: File to write; its folder exists.
      content: Text, written as UTF-8 with its newlines as they are, or bytes.

    Raises:
      InputError: The system refused, for example for want of room; the file
        is named and what it held before is still there.
    """
    write_parts(path, (content,))


def write_parts(path: Path, parts: Iterable[str | bytes | memoryview]) -> None:
    """Write a whole file piece by piece, or leave what was there.

    Args:
      path: File to write; its folder exists.
      parts: Its content in order, text as UTF-8. What they raise passes, and
        the file stays as it was.

    Raises:
      InputError: The system refused, as with ``write_file``.
    """
    try:
        with open_atomic(path) as file:
            for part in parts:
                file.write(part.encode() if isinstance(part, str) else part)
    except OSError as error:
        raise refused_by_system("write", path, error) from error
