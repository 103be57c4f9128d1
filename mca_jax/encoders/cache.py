"""Keeps embeddings on disk: by content, in chunks, verified when read.

A cache folder has one sub-folder for each encoder, in which

* ``chunk-<sha256>.npy`` holds up to 512 embeddings with the digests of what was
  embedded, named by the SHA-256 of the file itself: a damaged chunk is told by
  its name, two runs can't overwrite each other, and the same run always writes
  the same files;
* ``files.index`` says which content each file had, see ``FileIndex``.

None is a pickle. Every file is written under another name first, so it is whole
or absent.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from mca_jax.checks import InputError
from mca_jax.encoders.file_index import FileIndex
from mca_jax.plain import printable

__all__ = ["CHUNK_SIZE", "EmbeddingCache"]

CHUNK_SIZE = 512
"""Embeddings of a chunk; what a killed run may lose."""

_LAYOUT_VERSION = 1
_DIGEST_BYTES = 32
_STALE_SECONDS = 3600.0


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, also after a power cut.

    Raises:
      OSError: The system refused; nothing is left behind.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _digest(content: bytes | memoryview) -> str:
    """Name of a chunk with this content, without prefix and suffix."""
    return hashlib.sha256(content).hexdigest()[:_DIGEST_BYTES]


class EmbeddingCache:
    """Embeddings by the digest of what was embedded, for one encoder.

    Attributes:
      folder: Where its files are.
      files: Which content each file had when it was last read.
      warnings: One line for each damaged file; its embeddings count as absent.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], name: str, key: str) -> None:
        """Open the cache of one encoder, or begin it, and verify all chunks.

        Args:
          cache_dir: Folder for the caches of all encoders; made if absent.
          name: Name of the encoder, for the eye.
          key: What the embeddings depend on beside the images.

        Raises:
          InputError: The folder can't be made or read.
        """
        token = hashlib.sha256(f"{_LAYOUT_VERSION} {key}".encode()).hexdigest()[:16]
        plain_name = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip(".-")[:40]
        self.folder = Path(cache_dir) / f"{plain_name or 'encoder'}-{token}"
        self.warnings: list[str] = []
        self._found: dict[bytes, tuple[np.ndarray, int]] = {}
        self._waiting: list[tuple[bytes, np.ndarray]] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = sorted(os.listdir(self.folder))
        except OSError as error:
            raise self._refused("use", error) from error
        for entry in names:
            if entry.endswith(".tmp"):
                self._remove_stale(self.folder / entry)
            elif entry.startswith("chunk-") and entry.endswith(".npy"):
                self._read_chunk(self.folder / entry)
        self.files = FileIndex(self.folder / "files.index")
        if self.files.damaged:
            self._note_damage(self.folder / "files.index", "all files are read again")

    def _refused(self, action: str, error: OSError) -> InputError:
        """Say in one line what the system refused and what is safe."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "make room" if full else "choose a folder that can be written"
        kept = f", {len(self)} embeddings are kept there" if len(self) else ""
        return InputError(
            f"Can't {action} the embedding cache {printable(str(self.folder))}: "
            f"{(error.strerror or str(error)).lower()}; {advice} and run it again{kept}"
        )

    @staticmethod
    def _remove_stale(path: Path) -> None:
        """Remove what a killed run left behind, not what another is writing."""
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()

    def _note_damage(self, path: Path, consequence: str) -> None:
        """Tell of a damaged file and remove it; what it held is made again."""
        self.warnings.append(
            f"Damaged cache file {printable(str(path))} was removed; {consequence}"
        )
        with suppress(OSError):
            path.unlink()

    def _read_chunk(self, path: Path) -> None:
        """Verify a chunk and list what is in it; its pages stay on disk."""
        try:
            content = np.memmap(path, np.uint8, mode="r")
            if path.name != f"chunk-{_digest(content.data)}.npy":
                raise ValueError("another content than its name says")
            chunk = np.load(path, mmap_mode="r", allow_pickle=False)
            digests = np.ascontiguousarray(chunk["digest"])
            embeddings = chunk["embedding"]
        except PermissionError as error:
            raise self._refused("read", error) from error
        except (OSError, ValueError, KeyError, IndexError):
            self._note_damage(path, "its images are embedded again")
            return
        for place, digest in enumerate(digests):
            self._found[digest.tobytes()] = (embeddings, place)

    def __len__(self) -> int:
        """Number of embeddings on disk."""
        return len(self._found)

    @property
    def digests(self) -> frozenset[bytes]:
        """Digests of all embeddings on disk."""
        return frozenset(self._found)

    def get(self, digest: bytes) -> np.ndarray | None:
        """Look up one embedding.

        Args:
          digest: SHA-256 of what was embedded.

        Returns:
          Its embedding on disk, float32 ``[d]``, or None.
        """
        chunk, place = self._found.get(digest, (None, 0))
        return None if chunk is None else chunk[place]

    def add(self, digests: Sequence[bytes], embeddings: np.ndarray) -> None:
        """Add embeddings; they are written as soon as a chunk is full.

        Args:
          digests: SHA-256 of each image.
          embeddings: float32 ``[b, d]``.

        Raises:
          InputError: A chunk can't be written; what was before is kept.
        """
        self._waiting.extend(zip(digests, embeddings, strict=True))
        while len(self._waiting) >= CHUNK_SIZE:
            self._write_chunk(self._waiting[:CHUNK_SIZE])
            del self._waiting[:CHUNK_SIZE]

    def flush(self) -> None:
        """Write what waits for a full chunk, and the list of files.

        Raises:
          InputError: The system refused; what was before is kept.
        """
        if self._waiting:
            self._write_chunk(self._waiting)
            self._waiting = []
        try:
            content = self.files.changed_content()
            if content is not None:
                _write_whole(self.folder / "files.index", content)
        except OSError as error:
            raise self._refused("write", error) from error

    def _write_chunk(self, entries: Sequence[tuple[bytes, np.ndarray]]) -> None:
        """Write one chunk.

        Raises:
          InputError: The system refused.
        """
        width = entries[0][1].shape[0]
        kind = np.dtype(
            [("digest", np.uint8, (_DIGEST_BYTES,)), ("embedding", "<f4", (width,))]
        )
        chunk = np.empty(len(entries), kind)
        for place, (digest, embedding) in enumerate(entries):
            chunk["digest"][place] = np.frombuffer(digest, np.uint8)
            chunk["embedding"][place] = embedding
        buffer = io.BytesIO()
        np.save(buffer, chunk, allow_pickle=False)
        content = buffer.getvalue()
        path = self.folder / f"chunk-{_digest(content)}.npy"
        try:
            _write_whole(path, content)
            # From here on the pages are the file's, not the program's.
            embeddings = np.load(path, mmap_mode="r", allow_pickle=False)["embedding"]
        except OSError as error:
            raise self._refused("write", error) from error
        for place, (digest, _) in enumerate(entries):
            self._found[digest] = (embeddings, place)
