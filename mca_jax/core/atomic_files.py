"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable

__all__ = ["refused_by_system", "write_file", "write_parts"]


def refused_by_system(action: str, path: Path, error: OSError) -> InputError:
    """Say in one line what the system refused, and what to do."""
    reason = error.strerror or str(error)
    advice = "choose another --workdir"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = (
            "files that are already there are whole; make room and run the same "
            "command again"
        )
    return InputError(f"Can't {action} {printable(str(path))!r}: {reason}; {advice}")


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or leave what was there.

    The content goes to a hidden file beside it, which then takes the name.

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
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            for part in parts:
                file.write(part.encode() if isinstance(part, str) else part)
            file.flush()
            # Without it a power cut may leave the new name on an empty file.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise refused_by_system("write", path, error) from error
    finally:
        # Also after Ctrl-C; a finished file has its name already.
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
