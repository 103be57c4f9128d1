"""Folders that are whole or known not to be: a manifest, written last, seals one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mca_jax.core.atomic_files import write_file
from mca_jax.core.text import dump_json, load_json

__all__ = [
    "MANIFEST_FILE",
    "numbered_folders",
    "read_manifest",
    "remove_folder",
    "seal",
]

MANIFEST_FILE = "manifest.json"
"""What a folder holds, with a checksum of each file and of itself."""


def seal(folder: Path, body: Mapping[str, Any]) -> None:
    """Write the manifest of a folder whose other files are complete.

    ``body`` says what the folder is, in anything that ``plain_json`` takes.

    Raises:
      InputError: The system refused; the folder stays unsealed.
    """
    content = {**body, "files": _checksums(folder)}
    sealed = {**content, "checksum": _digest(content)}
    write_file(folder / MANIFEST_FILE, dump_json(sealed) + "\n")


def read_manifest(folder: Path) -> dict[str, Any] | str:
    """Check a folder against its manifest.

    Returns:
      What was sealed with it, or in a few words what is wrong with it.
    """
    try:
        sealed = load_json((folder / MANIFEST_FILE).read_bytes())
        intact = sealed.pop("checksum") == _digest(sealed)
    except FileNotFoundError:
        return "is half-written"
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        intact = False
    if not intact:
        return f"is damaged: {MANIFEST_FILE} is not what was written"
    try:
        found = _checksums(folder)
    except OSError as error:
        return f"is damaged: {error.strerror}"
    for name, checksum in sealed.pop("files").items():
        if name not in found:
            return f"is damaged: {name} is missing"
        if found[name] != checksum:
            return f"is damaged: {name} is not what was written"
    return sealed


def numbered_folders(root: Path) -> list[Path]:
    """List the folders that are named by a number, by rising number.

    What a removal left is cleared. The root need not exist.
    """
    try:
        found = list(root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    for path in found:
        if path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)
    numbered = (path for path in found if path.name.isdigit())
    return sorted(numbered, key=lambda path: int(path.name))


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it exists; a break half-way leaves none that looks whole."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(dump_json(content).encode()).hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder but its manifest."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST_FILE:
            with path.open("rb") as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
