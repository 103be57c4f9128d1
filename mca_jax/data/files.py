"""Reads whole files, and tells whether a file is still the one that was read."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable

__all__ = [
    "HIDDEN",
    "DecodeError",
    "FileIdentity",
    "SkippedImage",
    "TooFewImagesError",
    "count_unread",
    "describe_unread",
    "identify_file",
    "list_reasons",
    "os_reason",
    "read_file",
]

HIDDEN = "hidden or of the system, left out"
"""Why files are left out that nobody takes for photographs of theirs."""

_MAX_BYTES = 2**29
# A clock tick of the coarsest file system in use (FAT). A file that was written
# within it may change again without a new time.
_SETTLING_NS = 2_000_000_000
# Of what a message names.
_MOST_NAMED = 3
_MOST_KINDS = 6


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
    """A file that was not read.

    Attributes:
      path: Path relative to the folder of images.
      reason: One line that says why.
      kind: ``"unreadable"`` for an image that can't be read, ``"other"`` for what is
        no image, ``"left_out"`` for what is hidden, or the system's, or our own.
    """

    path: str
    reason: str
    kind: Literal["unreadable", "other", "left_out"] = "unreadable"


class TooFewImagesError(InputError):
    """There are fewer readable images than the job needs.

    Attributes:
      skipped: All files that were not read.
    """

    def __init__(self, message: str, skipped: Iterable[SkippedImage]) -> None:
        """Keep the list beside the message, which names only the first."""
        super().__init__(message)
        self.skipped = tuple(skipped)


def count_unread(skipped: Iterable[SkippedImage]) -> int:
    """Count the files that were not read, but for those left out on purpose."""
    return sum(each.kind != "left_out" for each in skipped)


def list_reasons(skipped: Sequence[SkippedImage]) -> str:
    """Name the first few files that can't be read, each with its reason."""
    unreadable = [each for each in skipped if each.kind == "unreadable"]
    shown = unreadable or [each for each in skipped if each.kind == "other"]
    named = "; ".join(
        f"{printable(each.path)}: {each.reason}" for each in shown[:_MOST_NAMED]
    )
    more = len(shown) - _MOST_NAMED
    return f"{named}; and {more:,} more" if more > 0 else named


def describe_unread(skipped: Iterable[SkippedImage]) -> str:
    """Count what was not read by the ends of the names, in one line.

    Returns:
      Such as ``"3 files not read: 2 .mov, 1 .jpg (truncated JPEG file)"``; empty if
      every file was read.

    Example:
      >>> describe_unread([SkippedImage("a.mov", "a video, not an image", "other")])
      '1 file not read: 1 .mov'
    """
    counts: Counter[tuple[str, str]] = Counter()
    reasons: dict[tuple[str, str], Counter[str]] = {}
    num_hidden = 0
    for each in skipped:
        if each.kind == "left_out":
            # Folders of ours are told apart.
            num_hidden += each.reason == HIDDEN
            continue
        suffix = os.path.splitext(each.path)[1].lower()
        group = (each.kind, printable(suffix) or "without a suffix")
        counts[group] += 1
        if each.kind == "unreadable":
            reasons.setdefault(group, Counter())[each.reason] += 1
    parts = []
    for group, count in counts.most_common(_MOST_KINDS):
        known = reasons.get(group)
        why = ""
        if known:
            often = "most often: " if len(known) > 1 else ""
            why = f" ({often}{known.most_common(1)[0][0]})"
        parts.append(f"{count:,} {group[1]}{why}")
    rest = counts.total() - sum(count for _, count in counts.most_common(_MOST_KINDS))
    if rest:
        parts.append(f"{rest:,} others")
    hidden = f"{num_hidden:,} hidden or system files left out" if num_hidden else ""
    if not parts:
        return hidden
    total = counts.total()
    text = f"{total:,} file{'s' * (total > 1)} not read: {', '.join(parts)}"
    return f"{text}; {hidden}" if hidden else text
