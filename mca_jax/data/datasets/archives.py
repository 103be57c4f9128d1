"""Unpacks archives of strangers: nothing outside the folder, no links, no bombs."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.core.progress import progress_bar
from mca_jax.core.text import printable

__all__ = ["unpack"]

_COPY_BYTES = 2**20
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    # What zipfile raises for compression and encryption that it doesn't know.
    RuntimeError,
)


class _Member(NamedTuple):
    """One entry of an archive.

    Attributes:
      name: Its path as stored.
      kind: ``"file"``, ``"folder"``, or what else it is, in words.
      size: Bytes when unpacked.
      open: Opens its content.
    """

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes] | None]


def _tar_kind(info: tarfile.TarInfo) -> str:
    """Say what an entry of a tar file is."""
    if info.isfile():
        return "file"
    if info.isdir():
        return "folder"
    return "a link" if info.issym() or info.islnk() else "a device or pipe"


def _zip_kind(info: zipfile.ZipInfo) -> str:
    """Say what an entry of a zip file is; Unix keeps its type in the upper bits."""
    unix_type = info.external_attr >> 28
    if unix_type not in (0, 0o04, 0o10):
        return "a link" if unix_type == 0o12 else "a device or pipe"
    return "folder" if info.is_dir() else "file"


def _tar_members(taped: tarfile.TarFile) -> Iterator[_Member]:
    """Yield the entries of a tar file, then read what is behind the last.

    The checksum of a compressed file is at its very end, and without it a file
    that was cut short there would pass.
    """
    for info in taped:
        extract = partial(taped.extractfile, info)
        yield _Member(info.name, _tar_kind(info), info.size, extract)
    stream = taped.fileobj
    while stream is not None and stream.read(_COPY_BYTES):
        pass


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """Open an archive and yield its entries in their order.

    The content of an entry is to be taken before the next one is asked for: a
    compressed tar file is then read through once.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield (
                _Member(
                    info.filename,
                    _zip_kind(info),
                    info.file_size,
                    partial(zipped.open, info),
                )
                for info in zipped.infolist()
            )
        return
    with tarfile.open(archive, "r:*") as taped:
        yield _tar_members(taped)


def _check_member(member: _Member, archive: Path) -> PurePosixPath:
    """Return the path of an entry within the folder that it belongs to.

    Raises:
      InputError: It would come to lie elsewhere, or is neither file nor folder.
    """
    shown = f"{printable(repr(member.name))} in {printable(str(archive))}"
    path = PurePosixPath(member.name)
    # A backslash or a drive letter leads out of the folder on Windows.
    escapes = path.is_absolute() or ".." in path.parts or "\\" in member.name
    if escapes or ":" in member.name or "\0" in member.name:
        raise InputError(
            f"Refused {shown}: its path leads out of the folder; nothing is unpacked, "
            "get the archive from its official place"
        )
    if member.kind not in ("file", "folder"):
        raise InputError(
            f"Refused {shown}: it is {member.kind}, expected files and folders only; "
            "nothing is unpacked, get the archive from its official place"
        )
    return path


def _write(member: _Member, target: Path) -> None:
    """Write the content of one file.

    Raises:
      EOFError: There is less content than the archive says.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    content = member.open()
    if content is None:
        raise EOFError("entry without content")
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file, _COPY_BYTES)
        if file.tell() != member.size:
            raise EOFError("entry cut short")


def _unpack_into(
    archive: Path, staging: Path, top: str, max_bytes: int, max_files: int
) -> None:
    """Write the files below ``top``; see ``unpack``.

    Raises:
      InputError: An entry isn't to be trusted, or there is nothing below ``top``.
    """
    total = count = written = 0
    with (
        _members(archive) as members,
        progress_bar(f"Unpacking {archive.name}", unit="files") as bar,
    ):
        for member in members:
            path = _check_member(member, archive)
            total, count = total + member.size, count + 1
            if total > max_bytes or count > max_files:
                raise InputError(
                    f"Refused {printable(str(archive))}: it unpacks to more than "
                    f"{max_bytes / 2**20:,.0f} MiB or {max_files:,} files; get it from "
                    "its official place"
                )
            if member.kind == "file" and path.parts[:1] == (top,):
                _write(member, staging / path)
                written += 1
                bar.update()
    if not written:
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

    Files are written one by one under names that were checked, without owners,
    modes or links, whatever the archive says. They take their place when all
    are there.

    Args:
      archive: ``.tar``, compressed or not, or ``.zip``.
      folder: Where to unpack; it exists.
      top: Name of the folder in the archive that is wanted; entries beside it
        are checked and left out.
      max_bytes: Most bytes that all entries may have.
      max_files: Most entries.

    Returns:
      The unpacked folder, ``folder / top``.

    Raises:
      InputError: The archive is damaged or truncated, has an entry whose path
        leads out of the folder, a link or a device, is larger than it should
        be, or the system refuses.
    """
    staging: Path | None = None
    shown = printable(str(archive))
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{top}.", dir=folder))
        _unpack_into(archive, staging, top, max_bytes, max_files)
        os.replace(staging / top, folder / top)
    except FileExistsError as error:
        # Of an entry, or of a file that stands where a folder should be.
        raise InputError(f"Refused {shown}: an entry is in it twice") from error
    except _DAMAGE as error:
        reason = printable(str(error).partition("\n")[0]) or type(error).__name__
        raise InputError(
            f"{shown} is damaged or truncated ({reason}); delete it and get it again"
        ) from error
    except OSError as error:
        # gzip and bz2 use this class for damage, without a number.
        if error.errno is None:
            raise InputError(
                f"{shown} is damaged or truncated ({printable(str(error))}); delete it "
                "and get it again"
            ) from error
        raise InputError(
            f"Can't unpack {shown} into {printable(str(folder))}: "
            f"{error.strerror or error}; make room or unpack it yourself and name the "
            "folder with --data_dir"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return folder / top
