"""Images in a folder, and what the names of its sub-folders say of them."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data.files import SkippedImage, os_reason
from mca_jax.data.own_folders import left_out_reason, own_entries

__all__ = ["IMAGE_SUFFIXES", "ImageFolder", "find_images", "folder_labels"]

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
)
"""Ends of the names of image files, in lower case; case doesn't count."""

_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_MOST_SUFFIXES_NAMED = 4


class ImageFolder(NamedTuple):
    """The image files of a folder.

    Attributes:
      root: The folder, or empty where ``paths`` are taken as they are.
      paths: Paths relative to ``root`` with ``/`` between the parts, sorted by
        code points. Bytes of a name that aren't UTF-8 are held as Python does,
        so that every path can be opened; writers call ``printable``.
      skipped: What looks like an image or a folder and can't be read.
    """

    root: str
    paths: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]


class _Walk:
    """The state of one walk through a folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.paths: list[str] = []
        self.skipped: list[SkippedImage] = []
        self.others: Counter[str] = Counter()
        self.num_hidden = 0
        self._visited: set[tuple[int, int]] = set()
        self._linked: list[str] = []

    def run(self) -> None:
        """Visit each folder once, however many links lead to it.

        Links to folders wait until all that isn't linked has been seen. So a
        loop of links ends, and a folder that is reached both ways keeps its own
        name.
        """
        waiting = [""]
        while waiting:
            while waiting:
                waiting.extend(self._visit(waiting.pop()))
            # One link at a time, in order: it may lead to real folders again.
            self._linked.sort(reverse=True)
            if self._linked:
                waiting.append(self._linked.pop())

    def _visit(self, folder: str) -> list[str]:
        """List one folder; return its sub-folders that aren't links."""
        try:
            status = os.stat(os.path.join(self.root, folder))
            # Some file systems of Windows have no inode numbers.
            identity = (status.st_dev, status.st_ino)
            if status.st_ino and identity in self._visited:
                return []
            self._visited.add(identity)
            with os.scandir(os.path.join(self.root, folder)) as entries:
                found = list(entries)
        except OSError as error:
            self._skip(folder, f"folder can't be read: {os_reason(error)}")
            return []
        names = [entry.name for entry in found]
        own = own_entries(os.path.join(self.root, folder), names)
        if own:
            self._skip(folder, left_out_reason(names))
        folders = []
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name in own:
                continue
            if entry.name.startswith("."):
                self.num_hidden += 1
            elif self._is_folder(entry):
                (self._linked if entry.is_symlink() else folders).append(path)
            else:
                self._add_file(entry, path)
        return folders

    @staticmethod
    def _is_folder(entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a folder or leads to one."""
        try:
            return entry.is_dir()
        except OSError:
            # Links that lead to each other.
            return False

    def _add_file(self, entry: os.DirEntry[str], path: str) -> None:
        """Note a file by what its name ends in."""
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in IMAGE_SUFFIXES:
            self.others[suffix] += 1
            return
        try:
            regular = stat.S_ISREG(entry.stat().st_mode)
        except OSError as error:
            broken = entry.is_symlink()
            reason = "link to nothing" if broken else os_reason(error)
            self._skip(path, reason)
            return
        if regular:
            self.paths.append(path)
        else:
            self._skip(path, "not a regular file")

    def _skip(self, path: str, reason: str) -> None:
        """Note what can't be read."""
        self.skipped.append(SkippedImage(path or ".", reason))


def _check_folder(root: str, shown: str) -> None:
    """Check that ``root`` is a folder that can be listed.

    Raises:
      InputError: It isn't.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(root).st_mode)
        if is_folder:
            os.scandir(root).close()
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"No such folder: {shown}") from error
    except OSError as error:
        raise InputError(
            f"Can't read the folder {shown}: {os_reason(error)}"
        ) from error
    if not is_folder:
        packed = root.lower().endswith(_ARCHIVE_SUFFIXES)
        advice = "unpack it and name the folder" if packed else "name its folder"
        raise InputError(
            f"Expected a folder of images, found a file: {shown}; {advice}"
        )


def _no_images(walk: _Walk, shown: str) -> InputError:
    """Say what a folder without images holds instead."""
    if walk.skipped:
        first = walk.skipped[0]
        return InputError(
            f"No readable image in {shown}: {printable(first.path)}: {first.reason}"
        )
    hidden = f" ({walk.num_hidden} hidden left out)" if walk.num_hidden else ""
    total = walk.others.total()
    if not total:
        return InputError(f"Empty folder: {shown}{hidden}; expected images in it")
    named = ", ".join(
        f"{count} {printable(suffix) or 'without a suffix'}"
        for suffix, count in walk.others.most_common(_MOST_SUFFIXES_NAMED)
    )
    return InputError(
        f"No image in {shown}: saw {total} file{'s' * (total > 1)} ({named}){hidden}, "
        f"looked for {' '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}"
    )


def find_images(root: str | os.PathLike[str]) -> ImageFolder:
    """Find the image files of a folder and of all folders below it.

    A file is taken for an image by the end of its name. Files and folders whose
    name starts with a dot are left out, and so is what a run or an export wrote;
    ``skipped`` says where that was. Links are followed, also out of the
    folder; each folder is read once, so loops of links do no harm.
    A leading ``~`` is the home folder.

    Raises:
      InputError: There is no such folder, it is a file, it can't be read, it is
        empty, or there is no image in it.
    """
    given = os.path.expanduser(os.fspath(root))
    shown = printable(given) or "''"
    _check_folder(given, shown)
    walk = _Walk(given)
    walk.run()
    if not walk.paths:
        raise _no_images(walk, shown)
    return ImageFolder(
        walk.root,
        tuple(sorted(walk.paths)),
        tuple(sorted(walk.skipped, key=lambda skipped: skipped.path)),
    )


def folder_labels(paths: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label each image by the first folder of its path.

    Only evaluation may use them; nothing that trains takes labels.

    Returns:
      Labels, int32 ``[n]``, and the class names in the order of the labels,
      sorted by code points.

    Raises:
      InputError: An image lies in the root itself.

    Example:
      >>> folder_labels(["dog/a.jpg", "cat/b/c.jpg"])
      (array([1, 0], dtype=int32), ('cat', 'dog'))
    """
    folders = [path.partition("/")[0] if "/" in path else "" for path in paths]
    loose = [path for path, folder in zip(paths, folders, strict=True) if not folder]
    if loose:
        more = f" and {len(loose) - 1} more" if len(loose) > 1 else ""
        raise InputError(
            "Expected every image in a sub-folder that names its class, found "
            f"{printable(loose[0])}{more} in none"
        )
    names = tuple(sorted(set(folders)))
    number = {name: label for label, name in enumerate(names)}
    return np.asarray([number[folder] for folder in folders], np.int32), names
