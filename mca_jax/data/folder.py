"""Images in a folder, and what the names of its sub-folders say of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data.files import (
    HIDDEN,
    DecodeError,
    SkippedImage,
    TooFewImagesError,
    describe_unread,
    list_reasons,
    os_reason,
)
from mca_jax.data.formats import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    describe_stranger,
    identify,
    is_system_file,
)
from mca_jax.data.own_folders import left_out_reason, own_entries
from mca_jax.data.tiff import count_pages

__all__ = ["ImageFolder", "find_images", "folder_labels"]

_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_TIFF_SUFFIXES = (".tif", ".tiff")


class ImageFolder(NamedTuple):
    """The image files of a folder.

    Attributes:
      root: The folder, or empty where ``paths`` are taken as they are.
      paths: Paths relative to ``root`` with ``/`` between the parts, sorted by
        code points. Bytes of a name that aren't UTF-8 are held as Python does,
        so that every path can be opened; writers call ``printable``.
      skipped: All else that is there, and why it is not read.
      notes: What to say of the images, a line each.
    """

    root: str
    paths: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    notes: tuple[str, ...] = ()


class _Walk:
    """The state of one walk through a folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.paths: list[str] = []
        self.skipped: list[SkippedImage] = []
        self.several_pages: list[str] = []
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
            self._skip(folder, left_out_reason(names), "left_out")
        folders = []
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name in own:
                continue
            is_folder = self._is_folder(entry)
            if is_system_file(entry.name, folder=is_folder):
                self._skip(path, HIDDEN, "left_out")
            elif is_folder:
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
        """Note a file by the end of its name, or else by how it starts."""
        suffix = os.path.splitext(entry.name)[1].lower()
        known = suffix in IMAGE_SUFFIXES
        kind = "unreadable" if known else "other"
        try:
            if not stat.S_ISREG(entry.stat().st_mode):
                self._skip(path, "not a regular file", kind)
                return
        except OSError as error:
            broken = entry.is_symlink()
            self._skip(path, "link to nothing" if broken else os_reason(error), kind)
            return
        # Most files need no look inside, which takes time in a large folder.
        if not known or suffix in _TIFF_SUFFIXES:
            self._look_inside(path, known)
        else:
            self.paths.append(path)

    def _look_inside(self, path: str, known: bool) -> None:
        """Note a file by how it starts, and a TIFF by how many pages it has."""
        try:
            with open(os.path.join(self.root, path), "rb") as file:
                head = file.read(HEAD_BYTES)
                kind = identify(head)
                if kind == "TIFF" and count_pages(file) > 1:
                    self.several_pages.append(path)
        except DecodeError:
            # Whoever decodes it says what is wrong.
            kind = "TIFF"
        except OSError as error:
            if not known:
                self._skip(path, os_reason(error))
                return
            kind, head = "TIFF", b""
        if kind or known:
            self.paths.append(path)
        else:
            reason = describe_stranger(head) if head else "empty file"
            self._skip(path, reason, "other")

    def _skip(
        self,
        path: str,
        reason: str,
        kind: Literal["unreadable", "other", "left_out"] = "unreadable",
    ) -> None:
        """Note what is not read."""
        self.skipped.append(SkippedImage(path or ".", reason, kind))

    def notes(self) -> tuple[str, ...]:
        """Say what is to be known of the images."""
        if not self.several_pages:
            return ()
        number = len(self.several_pages)
        first = printable(min(self.several_pages))
        if number == 1:
            return (f"{first} has several pages, of which the first is read.",)
        return (
            f"{number:,} TIFF files have several pages, of which the first is read: "
            f"{first} and others.",
        )


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
    if any(each.kind == "unreadable" for each in walk.skipped):
        return TooFewImagesError(
            f"No readable image in {shown}: {list_reasons(walk.skipped)}", walk.skipped
        )
    what = describe_unread(walk.skipped)
    if all(each.kind == "left_out" for each in walk.skipped):
        hidden = f" ({what})" if what else ""
        return InputError(f"Empty folder: {shown}{hidden}; expected images in it")
    return TooFewImagesError(f"No image in {shown}: {what}", walk.skipped)


def find_images(root: str | os.PathLike[str]) -> ImageFolder:
    """Find the image files of a folder and of all folders below it.

    A file is taken for an image by the end of its name or else by how it starts.
    Files and folders whose name starts with a dot, those that systems make in
    folders of pictures, and what a run or an export wrote are left out. ``skipped``
    has all that is not taken. Links are followed, also out of the folder; each folder
    is read once, so loops of links do no harm. A leading ``~`` is the home folder.

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
        walk.notes(),
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
