"""Keeps embeddings on disk: by content, in chunks, verified when read.

A cache folder has one sub-folder for each encoder, in which

* ``chunk-<sha256>.npy`` holds some 512 embeddings with the digests of what was
  embedded, named by the SHA-256 of the file itself: the folder's listing is its
  manifest, a damaged chunk is told by its name, two runs can't overwrite each
  other, and the same run always writes the same files. A chunk ends where a batch
  ends, so that a run that goes on forms the batches of one that was never killed;
* ``files.index`` says which content each file had, see ``FileIndex``;
* ``rows-<token>.shared`` is there while several hosts run, see ``share_table``.

None is a pickle. Every file is written under another name first, so it is whole
or absent.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from mca_jax.core.atomic_files import is_disk_full, open_atomic
from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.host_tables import reserve
from mca_jax.core.text import printable
from mca_jax.encoders.cache.file_index import FileIndex
from mca_jax.encoders.cache.shared_table import remove_left_behind, share_table

__all__ = ["CHUNK_SIZE", "EmbeddingCache"]

CHUNK_SIZE = 512
"""Embeddings from which a chunk is written; what a killed run may lose."""

_LAYOUT_VERSION = 1
_DIGEST_BYTES = 32
_STALE_SECONDS = 3600.0
# Every mapped file holds a file descriptor, of which a program has some thousand.
_MOST_MAPPED = 64
_PLACE_BITS = 32
# Files that may be read again after a kill, at least; more where more are known,
# so that writing the index takes time in proportion to the number of files.
_INDEX_EVERY = 8192


def _digest(content: bytes | memoryview) -> str:
    """Name of a chunk with this content, without prefix and suffix."""
    return hashlib.sha256(content).hexdigest()[:_DIGEST_BYTES]


class EmbeddingCache:
    """Embeddings by the digest of what was embedded, for one encoder.

    Attributes:
      folder: Where its files are.
      dtype: Type of the embeddings.
      files: Which content each file had when it was last read.
      warnings: One line for each damaged file; its embeddings count as absent.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        name: str,
        key: str,
        *,
        dtype: str = "float32",
        part: int | None = None,
    ) -> None:
        """Open the cache of one encoder, or begin it, and verify all chunks.

        Args:
          cache_dir: Folder for the caches of all encoders; made if absent.
          name: Name of the encoder, for the eye.
          key: What the embeddings depend on beside the images.
          dtype: ``"float32"`` or ``"float16"``, of what is kept.
          part: Which of several hosts this is, each with a list of files of its
            own; None where there is one.

        Raises:
          InputError: The folder can't be made or read.
        """
        self.dtype = np.dtype(check_one_of("dtype", dtype, ("float16", "float32")))
        kept = f"{_LAYOUT_VERSION} {key}"
        if dtype != "float32":
            kept += f" {dtype}"
        token = hashlib.sha256(kept.encode()).hexdigest()[:16]
        plain_name = re.sub(r"[^A-Za-z0-9.-]+", "-", name)[-40:].strip(".-")
        self.folder = Path(cache_dir) / f"{plain_name or 'encoder'}-{token}"
        self.warnings: list[str] = []
        self._chunks: list[Path] = []
        # Number of the chunk and place in it, in one number: a million of them
        # take half the memory of pairs.
        self._found: dict[bytes, int] = {}
        self._map = lru_cache(_MOST_MAPPED)(self._map_chunk)
        self._waiting: list[tuple[bytes, np.ndarray]] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = sorted(os.listdir(self.folder))
        except OSError as error:
            raise self._refused("use", error) from error
        for entry in names:
            if entry.endswith(".tmp"):
                self._remove_stale(self.folder / entry)
            elif remove_left_behind(self.folder / entry):
                continue
            elif entry.startswith("chunk-") and entry.endswith(".npy"):
                self._read_chunk(self.folder / entry)
        index = "files.index" if part is None else f"files-{part}.index"
        self._index = self.folder / index
        self.files = FileIndex(self._index)
        self._index_due = max(_INDEX_EVERY, 2 * len(self.files))
        if self.files.damaged:
            self._note_damage(self._index, "all files are read again")

    def _refused(self, action: str, error: OSError) -> InputError:
        """Say in one line what the system refused and what is safe."""
        advice = (
            "make room"
            if is_disk_full(error)
            else "choose a folder that can be written"
        )
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
            if chunk["embedding"].dtype != self.dtype:
                raise ValueError("embeddings of another type")
        except PermissionError as error:
            raise self._refused("read", error) from error
        except (OSError, ValueError, KeyError, IndexError):
            self._note_damage(path, "its images are embedded again")
            return
        self._list_chunk(path, [digest.tobytes() for digest in digests])

    def _list_chunk(self, path: Path, digests: Sequence[bytes]) -> None:
        """Remember where embeddings are."""
        first = len(self._chunks) << _PLACE_BITS
        self._chunks.append(path)
        for place, digest in enumerate(digests):
            self._found[digest] = first | place

    def _map_chunk(self, number: int) -> np.ndarray:
        """Map a verified chunk."""
        path = self._chunks[number]
        return np.load(path, mmap_mode="r", allow_pickle=False)["embedding"]

    def __len__(self) -> int:
        """Number of embeddings on disk."""
        return len(self._found)

    @property
    def digests(self) -> Set[bytes]:
        """Digests of all embeddings on disk; a view that grows with them."""
        return self._found.keys()

    def get(self, digest: bytes) -> np.ndarray | None:
        """Look up one embedding.

        Args:
          digest: SHA-256 of what was embedded.

        Returns:
          Its embedding on disk, ``[d]`` in the cache's type, or None.

        Raises:
          InputError: A chunk can't be read any more.
        """
        found = self._found.get(digest)
        if found is None:
            return None
        place = found & (1 << _PLACE_BITS) - 1
        try:
            return self._map(found >> _PLACE_BITS)[place]
        except OSError as error:
            raise self._refused("read", error) from error

    def add(self, digests: Sequence[bytes], embeddings: np.ndarray) -> None:
        """Add a batch; what waits is written as soon as it fills a chunk.

        Args:
          digests: SHA-256 of each image.
          embeddings: ``[b, d]`` in the cache's type.

        Raises:
          InputError: A chunk can't be written; what was before is kept.
        """
        self._waiting.extend(zip(digests, embeddings, strict=True))
        if len(self._waiting) >= CHUNK_SIZE:
            self._write_waiting()
        if len(self.files) >= self._index_due:
            self._write_index()

    def flush(self) -> None:
        """Write what waits for a full chunk, and the list of files.

        Raises:
          InputError: The system refused; what was before is kept.
        """
        if self._waiting:
            self._write_waiting()
        self._write_index()

    def keep_partial(self, error: BaseException) -> None:
        """Write what is done after a failure, and say so in a note of the error.

        Args:
          error: What broke the run off.
        """
        try:
            self.flush()
        except InputError as second:
            error.add_note(str(second))
        else:
            error.add_note(
                f"{len(self)} embeddings are kept in {printable(str(self.folder))}; "
                "the same command goes on from them"
            )

    def share(self, own: np.ndarray, first: int, count: int) -> np.ndarray | None:
        """Put the embeddings of several hosts into one file; see ``share_table``.

        Args:
          own: This host's rows, in the cache's type.
          first: Where they begin in the whole table.
          count: Rows of the whole table.

        Returns:
          The whole table, memory-mapped and read-only, or None where the hosts have
          folders of their own.

        Raises:
          InputError: There is no room.
        """
        try:
            return share_table(self.folder, own, first, count)
        except OSError as error:
            raise self._refused("write", error) from error

    def allocate(self, rows: int, width: int) -> np.ndarray:
        """Make room for the embeddings of a large set: on disk, not in memory.

        The file has no name; its room is free again when the array is gone or the
        program has ended, however it ended.

        Args:
          rows: Number of images, at least 1.
          width: Embedding width.

        Returns:
          Zeros ``[rows, width]`` in the cache's type, memory-mapped.

        Raises:
          InputError: There is no room.
        """
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                # A mapped file that finds the disk full kills the program.
                reserve(file.fileno(), rows * width * self.dtype.itemsize)
                return np.memmap(file, self.dtype, "r+", shape=(rows, width))
        except OSError as error:
            raise self._refused("write", error) from error

    def _write_index(self) -> None:
        """Write the list of files if it has changed.

        Raises:
          InputError: The system refused.
        """
        self._index_due = max(_INDEX_EVERY, 2 * len(self.files))
        try:
            content = self.files.changed_content()
            if content is not None:
                # Two runs on one folder may write it at once.
                with open_atomic(self._index, shared=True) as file:
                    file.write(content)
        except OSError as error:
            raise self._refused("write", error) from error

    def _write_waiting(self) -> None:
        """Write one chunk of all that waits.

        Raises:
          InputError: The system refused.
        """
        entries = self._waiting
        width = entries[0][1].shape[0]
        fields = [
            ("digest", np.uint8, (_DIGEST_BYTES,)),
            ("embedding", self.dtype.newbyteorder("<"), (width,)),
        ]
        chunk = np.empty(len(entries), fields)
        for place, (digest, embedding) in enumerate(entries):
            chunk["digest"][place] = np.frombuffer(digest, np.uint8)
            chunk["embedding"][place] = embedding
        buffer = io.BytesIO()
        np.save(buffer, chunk, allow_pickle=False)
        content = buffer.getvalue()
        path = self.folder / f"chunk-{_digest(content)}.npy"
        try:
            with open_atomic(path, shared=True) as file:
                file.write(content)
        except OSError as error:
            raise self._refused("write", error) from error
        self._list_chunk(path, [digest for digest, _ in entries])
        self._waiting = []
