"""What has happened to a folder of images since the last run of it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mca_jax.data import ImageSource
from mca_jax.data.decode import content_digest
from mca_jax.data.files import DecodeError, FileIdentity
from mca_jax.encoders.cache.file_index import FileIndex
from mca_jax.model.result import ClusterResult

__all__ = ["FolderChanges", "compare_folder", "reuse_pictures"]


class FolderChanges(NamedTuple):
    """The images of a folder beside those of a run; paths are relative to it.

    Attributes:
      same: As they were, also those that could not be read then.
      added: New ones.
      changed: Other content under the same path.
      renamed: The path that an image had, by the path that it has now; in another
        folder it was moved.
      deleted: Those that are gone.
      unread: How many that are as they were could not be read.
    """

    same: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    renamed: dict[str, str]
    deleted: tuple[str, ...]
    unread: int = 0

    @property
    def any(self) -> bool:
        """Whether anything is not as it was."""
        return bool(self.added or self.changed or self.renamed or self.deleted)

    def counts(self) -> dict[str, int]:
        """Number of images by what happened to them, without what did not happen."""
        moved = sum(
            os.path.dirname(now) != os.path.dirname(was)
            for now, was in self.renamed.items()
        )
        found = {
            "added": len(self.added),
            "changed": len(self.changed),
            "renamed": len(self.renamed) - moved,
            "moved": moved,
            "deleted": len(self.deleted),
        }
        return {name: count for name, count in found.items() if count}

    def sentence(self) -> str:
        """Say in a line what happened.

        Example:
          >>> FolderChanges(("a", "b"), ("c",), (), {}, ("d", "e")).sentence()
          'since the last run 1 image was added, 2 deleted; 2 are as they were'
        """
        parts = [f"{count:,} {name}" for name, count in self.counts().items()]
        # Whether they can be read now is not known: they are tried again in the run.
        unread = f" ({self.unread:,} could not be read)" if self.unread else ""
        count = f"{len(self.same):,}"
        if not parts:
            return f"all {count} images are as they were in the last run{unread}"
        first, rest = parts[0].split(" ", 1)
        verb = "image was" if first == "1" else "images were"
        parts[0] = f"{first} {verb} {rest}"
        kept = "is as it was" if len(self.same) == 1 else "are as they were"
        return f"since the last run {', '.join(parts)}; {count} {kept}{unread}"


class _Files:
    """Content of files: from the indices of a cache, or else read and hashed."""

    def __init__(self, source: ImageSource, cache_dir: str | os.PathLike[str]) -> None:
        self._source = source
        self._folder = os.path.abspath(source.root)
        self._indices = [
            FileIndex(path) for path in sorted(Path(cache_dir).glob("*/files*.index"))
        ]

    def identity(self, row: int) -> FileIdentity | None:
        """Identity of a file now."""
        return self._source.identify(row)

    def known(self, row: int) -> bytes | None:
        """Digest of a file that is as it was when it was embedded."""
        identity = self.identity(row)
        path = os.path.join(self._folder, self._source.names[row])
        found = (index.lookup(path, identity) for index in self._indices)
        return next(filter(None, found), None)

    def digest(self, row: int) -> bytes | None:
        """Digest of a file, which is read if need be; None if it can't be."""
        digest = self.known(row)
        if digest is None:
            try:
                content, _ = self._source.read(row)
            except DecodeError:
                return None
            digest = content_digest(content, self._source.salt)
        return digest

    def before(self, root: str, name: str) -> tuple[int | None, bytes | None]:
        """Size and digest of a file when it was embedded, where that is known."""
        path = os.path.join(os.path.abspath(root), name)
        for index in self._indices:
            entry = index.entry(path)
            if entry is not None:
                return entry[0].size, entry[1]
        return None, None


def compare_folder(
    result: ClusterResult,
    source: ImageSource,
    cache_dir: str | os.PathLike[str],
) -> FolderChanges:
    """Compare the images of a folder with those of a run.

    Files whose size, times and inode are as they were when they were embedded are not
    read; of new ones only those that may be one that is gone under another name.

    Args:
      result: The run.
      source: The folder as it is now.
      cache_dir: Embeddings of the run.
    """
    files = _Files(source, cache_dir)
    before: dict[str, bytes | None]
    if result.digests is None:
        before = {name: files.before(result.root, name)[1] for name in result.paths}
    else:
        digests = (digest.tobytes() for digest in result.digests)
        before = dict(zip(result.paths, digests, strict=True))
    unread = {image.path for image in result.skipped}
    same, changed, new = [], [], []
    for row, name in enumerate(source.names):
        if name in before:
            was = before[name]
            as_it_was = was is None or files.digest(row) == was
            (same if as_it_was else changed).append(name)
        elif name in unread:
            same.append(name)
        else:
            new.append(row)
    present = set(source.names)
    gone = {name: before[name] for name in result.paths if name not in present}
    renamed = _find_renamed(files, source.names, new, gone, result.root)
    added = (source.names[row] for row in new)
    was = set(renamed.values())
    return FolderChanges(
        same=tuple(same),
        added=tuple(name for name in added if name not in renamed),
        changed=tuple(changed),
        renamed=renamed,
        deleted=tuple(name for name in gone if name not in was),
        unread=sum(name in unread for name in same),
    )


def _find_renamed(
    files: _Files,
    names: tuple[str, ...],
    new: Iterable[int],
    gone: Mapping[str, bytes | None],
    root: str,
) -> dict[str, str]:
    """Find files that are gone among the new ones, by their content."""
    left: dict[bytes, list[str]] = defaultdict(list)
    sizes = set()
    for name, digest in gone.items():
        if digest is not None:
            left[digest].append(name)
            sizes.add(files.before(root, name)[0])
    renamed = {}
    for row in new if left else ():
        identity = files.identity(row)
        if identity is None or not {identity.size, None} & sizes:
            continue
        candidates = left.get(files.digest(row) or b"")
        if candidates:
            # A file that was moved keeps its own name.
            own = os.path.basename(names[row])
            best = next((n for n in candidates if os.path.basename(n) == own), None)
            renamed[names[row]] = best or candidates[0]
            candidates.remove(renamed[names[row]])
    return renamed


def reuse_pictures(
    result: ClusterResult, before: ClusterResult | None
) -> ClusterResult:
    """Take the small pictures of equal content from another result, where it has them.

    Args:
      result: A result without small pictures.
      before: The other one.

    Returns:
      The result with those; the others are black, and will be read.
    """
    if before is None or before.pictures is None or before.digests is None:
        return result
    if result.digests is None or result.pictures is not None:
        return result
    known = {digest.tobytes(): row for row, digest in enumerate(before.digests)}
    rows = [known.get(digest.tobytes(), -1) for digest in result.digests]
    pictures = np.zeros((len(rows), *before.pictures.shape[1:]), np.uint8)
    found = np.flatnonzero(np.array(rows) >= 0)
    pictures[found] = before.pictures[np.array(rows)[found]]
    return replace(result, pictures=pictures)
