"""Unpacks archives of strangers: nothing outside the folder, no devices, no bombs."""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.core.progress import progress_bar
from mca_jax.core.text import printable

__all__ = ["unpack"]

_READ_BYTES = 2**20
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    # Names that are no text or hold a zero byte, and numbers beyond the file.
    ValueError,
    struct.error,
    # What zipfile raises for compression and encryption that it doesn't know.
    RuntimeError,
)


class _Entry(NamedTuple):
    """Path and unpacked size of one entry, and what writes it below a folder."""

    name: str
    size: int
    extract: Callable[[Path], Any]


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    """Yield the entries of a tar file, then read what is behind the last.

    The checksum of a compressed file is at its very end, and without it a file
    that was cut short there would pass.
    """
    for info in archive:
        # Refuses devices and what leads out of the folder, and drops owners.
        extract = partial(archive.extract, info, filter="data")
        yield _Entry(info.name, info.size, extract)
    stream = archive.fileobj
    while stream is not None and stream.read(_READ_BYTES):
        pass


@contextmanager
def _entries(archive: Path) -> Iterator[Iterator[_Entry]]:
    """Open an archive and yield its entries in their order.

    An entry is to be extracted before the next one is asked for: a compressed tar
    file is then read through once.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            # Drops what leads out of the folder from a path, and makes no links.
            yield (
                _Entry(each.filename, each.file_size, partial(zipped.extract, each))
                for each in zipped.infolist()
            )
        return
    with tarfile.open(archive, "r:*") as tape:
        yield _tar_entries(tape)


def _unpack_into(
    archive: Path, staging: Path, top: str, max_bytes: int, max_files: int
) -> None:
    """Write the files below ``top``; see ``unpack``.

    Raises:
      InputError: The archive is too large, or there is nothing below ``top``.
    """
    total = count = 0
    with (
        _entries(archive) as entries,
        progress_bar(f"Unpacking {archive.name}", unit="files") as bar,
    ):
        for entry in entries:
            total, count = total + entry.size, count + 1
            if total > max_bytes or count > max_files:
                raise InputError(
                    f"Refused {printable(str(archive))}: it unpacks to more than "
                    f"{max_bytes / 2**20:,.0f} MiB or {max_files:,} files; get it from "
                    "its official place"
                )
            if PurePosixPath(entry.name).parts[:1] == (top,):
                entry.extract(staging)
                bar.update()
    if not (staging / top).is_dir():
        raise InputError(
            f"Expected a folder {top!r} in {printable(str(archive))}, found none; it "
            "is another archive"
        )


def unpack(
    archive: Path,
    folder: Path,
    *,
    top: str,
    max_bytes: int,
    max_files: int,
) -> Path:
    """Unpack one folder of a tar or zip archive, whole or not at all.

    What is in it takes its place when all is there. Python's filters for data apply:
    nothing comes to lie outside the folder, without owners, devices or special modes.

    Args:
      archive: ``.tar``, compressed or not, or ``.zip``.
      folder: Where to unpack; it exists.
      top: Name of the folder in the archive that is wanted; entries beside it
        are left out.
      max_bytes: Most bytes that all entries may have.
      max_files: Most entries.

    Returns:
      The unpacked folder, ``folder / top``.

    Raises:
      InputError: The archive is damaged or truncated, has an entry that leads out
        of the folder or a device, is larger than it should be, or the system
        refuses.
    """
    staging: Path | None = None
    shown = printable(str(archive))
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{top}.", dir=folder))
        _unpack_into(archive, staging, top, max_bytes, max_files)
        os.replace(staging / top, folder / top)
    except InputError:
        raise
    except tarfile.FilterError as error:
        raise InputError(
            f"Refused {shown}: {printable(str(error))}; nothing is unpacked, get the "
            "archive from its official place"
        ) from error
    except _DAMAGE as error:
        raise _damaged(shown, error) from error
    except OSError as error:
        # gzip and bz2 use this class for damage, without a number.
        if error.errno is None:
            raise _damaged(shown, error) from error
        raise InputError(
            f"Can't unpack {shown} into {printable(str(folder))}: "
            f"{error.strerror or error}; make room or unpack it yourself and name the "
            "folder with --data_dir"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return folder / top


def _damaged(shown: str, error: Exception) -> InputError:
    reason = printable(str(error).partition("\n")[0]) or type(error).__name__
    return InputError(
        f"{shown} is damaged or truncated ({reason}); delete it and get it again"
    )
