"""Remembers which content each file had, so that it need not be read again."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np

from mca_jax.data import FileIdentity

__all__ = ["FileIndex"]

_DIGEST_BYTES = 32
_FIELDS = len(FileIdentity._fields)


class FileIndex:
    """Digest of the content of each file, as long as its identity is the same.

    This is what version control systems rely on, and a little more: size,
    modification time, change time and inode must all be what they were when the
    file was read, and ``read_file`` gives no identity for a file that was written
    less than two seconds before. A program would have to set back the system's
    clock to change a file unnoticed. Whoever doubts it deletes ``files.index``:
    then every file is read and hashed again, and nothing embedded again.

    On disk it is the SHA-256 of what follows, 32 bytes, and an ``npz`` archive.

    Attributes:
      damaged: Whether the file on disk was there and could not be read.
    """

    def __init__(self, path: Path) -> None:
        """Read the index from disk if there is one.

        Args:
          path: Its file.
        """
        self.damaged = False
        self._entries: dict[str, tuple[FileIdentity, bytes]] = {}
        self._changed = False
        try:
            self._entries = self._read(path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            self.damaged = True

    @staticmethod
    def _read(path: Path) -> dict[str, tuple[FileIdentity, bytes]]:
        """Read and verify the entries.

        Raises:
          OSError: The file is absent or can't be read.
          ValueError: It is damaged.
        """
        content = path.read_bytes()
        checksum, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != checksum:
            raise ValueError("checksum differs")
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            packed, identities, digests = (
                arrays[name] for name in ("paths", "identities", "digests")
            )
        names = packed.tobytes().split(b"\0")[:-1]
        return {
            os.fsdecode(name): (FileIdentity(*identity), digest.tobytes())
            for name, identity, digest in zip(
                names, identities.tolist(), digests, strict=True
            )
        }

    def __len__(self) -> int:
        """Number of files that are known."""
        return len(self._entries)

    def lookup(self, path: str, identity: FileIdentity | None) -> bytes | None:
        """Return the digest of a file that hasn't changed, or None.

        Args:
          path: Absolute path.
          identity: What the file is now.

        Returns:
          Its digest if it was recorded under this identity.
        """
        known, digest = self._entries.get(path, (None, b""))
        return digest if identity is not None and known == identity else None

    def entry(self, path: str) -> tuple[FileIdentity, bytes] | None:
        """Identity and digest that a file had when it was last read, or None."""
        return self._entries.get(path)

    def record(self, path: str, identity: FileIdentity | None, digest: bytes) -> None:
        """Record the content of a file; forget it where the identity is None."""
        if identity is None:
            self._changed |= self._entries.pop(path, None) is not None
        else:
            self._entries[path] = (identity, digest)
            self._changed = True

    def changed_content(self) -> bytes | None:
        """Give what to write to disk.

        Returns:
          Content of the file, or None if nothing has changed since the last call.
        """
        if not self._changed:
            return None
        names = sorted(self._entries)
        entries = [self._entries[name] for name in names]
        arrays = {
            "paths": np.frombuffer(
                b"".join(os.fsencode(name) + b"\0" for name in names), np.uint8
            ),
            "identities": np.asarray(
                [identity for identity, _ in entries], np.int64
            ).reshape(-1, _FIELDS),
            "digests": np.frombuffer(
                b"".join(digest for _, digest in entries), np.uint8
            ).reshape(-1, _DIGEST_BYTES),
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self._changed = False
        payload = buffer.getvalue()
        return hashlib.sha256(payload).digest() + payload
