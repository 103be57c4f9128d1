"""Files that ship with the package: where they are, whence, and unaltered.

``MANIFEST.json`` lists every file with its SHA-256, size, licence and the
packages it was built from. The scripts that build assets write their entries
with `record_asset`; `load_asset` trusts no file whose checksum differs.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mca_jax.core.errors import InputError

__all__ = [
    "ASSET_FOLDER",
    "asset_fingerprint",
    "load_asset",
    "read_manifest",
    "record_asset",
]

ASSET_FOLDER = Path(__file__).resolve().parent.parent / "assets"
_MANIFEST = "MANIFEST.json"
_REINSTALL = "; reinstall mca-jax"


def read_manifest(folder: Path = ASSET_FOLDER) -> dict[str, dict[str, Any]]:
    """Read the list of assets in their folder.

    Returns:
      For each file name a dict of ``sha256`` (hex), ``bytes``, ``licence``
      (SPDX name) and ``sources`` (a list of dicts of ``package``, ``version``
      and ``licence``).

    Raises:
      InputError: The manifest is missing or is not what `record_asset` wrote.
    """
    path = folder / _MANIFEST
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        for entry in files.values():
            int(entry["sha256"], 16)
    except OSError as error:
        raise InputError(f"Can't read {path}: {error.strerror}{_REINSTALL}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged{_REINSTALL}") from error
    return files


def _entry(name: str, folder: Path) -> dict[str, Any]:
    """Return the manifest's entry of one file."""
    files = read_manifest(folder)
    if name not in files:
        raise InputError(f"Asset {name} is not in {folder / _MANIFEST}{_REINSTALL}")
    return files[name]


def load_asset(name: str, folder: Path = ASSET_FOLDER) -> dict[str, np.ndarray]:
    """Load the arrays of an ``.npz`` asset after verifying its checksum.

    The bytes that are hashed are the bytes that are parsed, and pickles are
    refused, so that an altered file is never interpreted. Hashing costs some
    milliseconds for ten megabytes.

    Raises:
      InputError: The file is missing, is not in the manifest, or its SHA-256
        is another than the manifest's.
    """
    expected = _entry(name, folder)["sha256"]
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Can't read {path}: {error.strerror}{_REINSTALL}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise InputError(
            f"{path} was altered: expected SHA-256 {expected[:12]}..., "
            f"found {found[:12]}...{_REINSTALL}"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def asset_fingerprint(
    names: Sequence[str], *, version: str, folder: Path = ASSET_FOLDER
) -> str:
    """Return one SHA-256 over the checksums of assets and a version string.

    The order of the names counts; the version names what else the result depends
    on, such as preprocessing.

    Raises:
      InputError: A file is not in the manifest.
    """
    parts = [version, *(_entry(name, folder)["sha256"] for name in names)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def record_asset(
    name: str,
    *,
    licence: str,
    sources: Sequence[Mapping[str, str]],
    folder: Path = ASSET_FOLDER,
) -> None:
    """Write or renew the manifest's entry of a file that was just built.

    Args:
      name: File name inside ``folder``.
      licence: SPDX name of the licence of the file.
      sources: For each origin its ``package``, ``version`` and ``licence``.
      folder: Where the assets and their manifest are.

    Raises:
      InputError: An existing manifest is damaged.
    """
    content = (folder / name).read_bytes()
    path = folder / _MANIFEST
    files = read_manifest(folder) if path.exists() else {}
    files[name] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "licence": licence,
        "sources": [dict(source) for source in sources],
    }
    text = json.dumps({"files": dict(sorted(files.items()))}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
