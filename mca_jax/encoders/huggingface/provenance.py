"""What an encoder was made from: a hash of its files, and their licence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["hash_files", "read_licence"]

# Names of licences on model cards that are SPDX's but for case.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    "mit": "MIT",
}


def hash_files(settings: object, files: Iterable[Path]) -> str:
    """Hash settings, and name and content of files.

    Args:
      settings: Anything whose ``repr`` says all there is to it.
      files: Those that are absent don't count.

    Returns:
      SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(settings).encode())
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                part = hashlib.file_digest(stream, "sha256")
            digest.update(f"{file.name} {part.hexdigest()}".encode())
    return digest.hexdigest()


def read_licence(folder: Path) -> str:
    """Return the licence in the front matter of a checkpoint's model card.

    Args:
      folder: Local folder of the checkpoint.

    Returns:
      SPDX name where it is known, else what the card says; ``"unknown"`` without
      a card or a licence on it.
    """
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = (
        re.search(r"^license:\s*['\"]?([\w.+-]+)", front[1], re.M) if front else None
    )
    if found is None:
        return "unknown"
    return _SPDX.get(found[1].lower(), found[1])
