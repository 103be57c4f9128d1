"""Fetches one file: resumed where it broke off, checked, whole or not there.

pooch would check and show progress as well; but it begins a set of gigabytes anew
after each break of the line.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.core.progress import progress_bar
from mca_jax.core.text import printable

__all__ = ["Remote", "check_file", "fetch"]

_BLOCK_BYTES = 2**20
_TIMEOUT_SECONDS = 30.0
_BYTES = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
_HTTP_OK, _HTTP_PARTIAL, _HTTP_RANGE_UNMET = 200, 206, 416


class Remote(NamedTuple):
    """A file on the network.

    Attributes:
      url: Its official address.
      name: What it is called on disk.
      algorithm: ``"sha256"`` or ``"md5"``: what a checksum was published in.
      checksum: Hex digits.
    """

    url: str
    name: str
    algorithm: str
    checksum: str


def check_file(path: Path, remote: Remote) -> None:
    """Check that a file is what was published.

    Raises:
      InputError: Its checksum is another, or it can't be read.
    """
    hasher = hashlib.new(remote.algorithm, usedforsecurity=False)
    try:
        size = path.stat().st_size
        with (
            path.open("rb") as file,
            progress_bar(f"Checking {remote.name}", size, **_BYTES) as bar,
        ):
            while block := file.read(_BLOCK_BYTES):
                hasher.update(block)
                bar.update(len(block))
    except OSError as error:
        raise InputError(
            f"Can't read {printable(str(path))}: {error.strerror or error}"
        ) from error
    found = hasher.hexdigest()
    if found != remote.checksum:
        raise InputError(
            f"{printable(str(path))} is not the published {remote.name}: expected "
            f"{remote.algorithm} {remote.checksum}, found {found} ({size:,} bytes); "
            f"delete it and get it again from {remote.url}"
        )


def _unreachable(remote: Remote, folder: Path, reason: str) -> InputError:
    """Say what to do without a network."""
    return InputError(
        f"Can't download {remote.url}: {printable(reason)}; get {remote.name} "
        f"({remote.algorithm} {remote.checksum}) where there is a network, put it into "
        f"{printable(str(folder))} or another folder, and name that with --data_dir"
    )


def _open(remote: Remote, start: int) -> Any:
    """Ask for the rest of a file from a byte on."""
    request = urllib.request.Request(remote.url, headers={"User-Agent": "mca-jax"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)


def _receive(remote: Remote, partial: Path) -> None:
    """Append what is missing to the file so far."""
    start = partial.stat().st_size if partial.exists() else 0
    try:
        response = _open(remote, start)
    except urllib.error.HTTPError as error:
        if error.code != _HTTP_RANGE_UNMET:
            raise
        # Nothing is missing, or the file is longer than it should be: the
        # checksum will tell.
        error.close()
        return
    with response:
        if response.status == _HTTP_OK:
            # A server that knows no ranges sends everything.
            start = 0
        left = response.headers.get("Content-Length")
        total = None if left is None else start + int(left)
        with (
            partial.open("ab" if start else "wb") as file,
            progress_bar(
                f"Downloading {remote.name}", total, initial=start, **_BYTES
            ) as bar,
        ):
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
            received = file.tell()
    if total is not None and received < total:
        raise http.client.IncompleteRead(b"", total - received)


def fetch(remote: Remote, folder: Path) -> Path:
    """Download a file into a folder, which is made if need be, and check it.

    The content grows in ``NAME.part``, from where an earlier attempt broke off, and
    takes its name once its checksum is right.

    Raises:
      InputError: The network can't be reached, the connection broke (what came
        is kept, and the next attempt resumes), the checksum is wrong, or the system
        refuses. The message names the address, the file, and what to do without a
        network.
    """
    target = folder / remote.name
    partial = folder / f"{remote.name}.part"

    def count_kept() -> str:
        kept = partial.stat().st_size if partial.exists() else 0
        return f"{kept:,} bytes"

    try:
        folder.mkdir(parents=True, exist_ok=True)
        _receive(remote, partial)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
        raise _unreachable(remote, folder, reason) from error
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise _unreachable(remote, folder, reason) from error
    except (
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        ssl.SSLError,
    ) as error:
        raise _unreachable(
            remote,
            folder,
            f"the connection broke ({count_kept()} are kept, run it again to resume)",
        ) from error
    except KeyboardInterrupt as error:
        error.add_note(f"{count_kept()} of {remote.name} are kept in {folder}")
        raise
    except OSError as error:
        raise InputError(
            f"Can't write {printable(str(partial))}: {error.strerror or error}; make "
            "room or name another folder with --data_dir"
        ) from error
    try:
        check_file(partial, remote)
    except InputError:
        # Resuming from it could never give the right file.
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, target)
    return target
