"""Reads whole files, and tells whether a file is still the one that was read."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "DecodeError",
    "FileIdentity",
    "SkippedImage",
    "identify_file",
    "os_reason",
    "read_file",
]

_MAX_BYTES = 2**29
# A clock tick of the coarsest file system in use (FAT). A file that was written
# within it may change again without a new time.
_SETTLING_NS = 2_000_000_000


class DecodeError(ValueError):
    """An image that can't be read; the message is the reason, one short line."""


class FileIdentity(NamedTuple):
    """What changes when a file's content does, as far as a ``stat`` can tell.

    The change time is among it: a program may set a file back to its old size
    and modification time (``cp -p``, ``rsync -t``, ``touch -d``), not its change
    time. On Windows that field is the time of creation and says less.

    Attributes:
      size: Bytes.
      mtime_ns: Time of the last modification, in nanoseconds.
      ctime_ns: Time of the last change of content or metadata, in nanoseconds.
      inode: Number of the file within its file system.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def os_reason(error: OSError) -> str:
    """Say in lower case what the system refused, without the path."""
    if isinstance(error, FileNotFoundError):
        return "no such file any more"
    return (error.strerror or str(error) or "unknown error").lower()


def _identity(status: os.stat_result) -> FileIdentity:
    """Pick what matters; the inode is cut to what a signed 64-bit number holds."""
    return FileIdentity(
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino & (2**63 - 1),
    )


def identify_file(path: str) -> FileIdentity | None:
    """Return the identity of a file now; None for anything but a regular file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _identity(status) if stat.S_ISREG(status.st_mode) else None


def read_file(path: str) -> tuple[bytes, FileIdentity | None]:
    """Read a file once.

    Returns:
      Its content, and its identity where that can stand for the content later:
      None when the file was written in the last two seconds or while it was
      read, since another write may then leave the same identity.

    Raises:
      DecodeError: It is gone, not a regular file, empty, larger than half a
        gibibyte, or the system refuses.
    """
    try:
        # Before opening: to open a named pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DecodeError("not a regular file")
        with open(path, "rb") as file:
            before = _identity(os.fstat(file.fileno()))
            if before.size > _MAX_BYTES:
                raise DecodeError(
                    f"file of {before.size / 2**20:,.0f} MiB, more than the limit of "
                    f"{_MAX_BYTES // 2**20} MiB"
                )
            content = file.read()
            after = _identity(os.fstat(file.fileno()))
    except OSError as error:
        raise DecodeError(os_reason(error)) from error
    if not content:
        raise DecodeError("empty file")
    newest = max(after.mtime_ns, after.ctime_ns)
    settled = before == after and time.time_ns() - newest > _SETTLING_NS
    return content, after if settled else None


@dataclass(frozen=True)
class SkippedImage:
    """A file that could not be read.

    Attributes:
      path: Path relative to the folder of images.
      reason: One line that says why.
    """

    path: str
    reason: str
