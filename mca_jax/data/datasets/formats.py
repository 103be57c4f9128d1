"""Official files of data sets as images and labels, read where they lie."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data.files import FileIdentity, SkippedImage
from mca_jax.data.folder import ImageFolder, find_images
from mca_jax.data.sources import ImageSource, open_source

__all__ = [
    "Part",
    "cifar_part",
    "class_folders",
    "imagenet_part",
    "join_parts",
    "spread_rows",
    "stl_part",
    "tiny_part",
]

_CIFAR_SIDE, _STL_SIDE, _CHANNELS = 32, 96, 3
_STL_CLASSES = 10
_SYNSET = re.compile(r"n\d{8}")
_VAL_LIST = "val_annotations.txt"


class Part(NamedTuple):
    """Images of one file or folder, and the way to their labels.

    Attributes:
      images: The images; their content holds no label.
      read_labels: Reads the class of each, int32 ``[n]``, for evaluation only.
        Raises InputError where they have none.
    """

    images: ImageSource
    read_labels: Callable[[], np.ndarray]


def spread_rows(count: int, limit: int) -> np.ndarray:
    """Pick rows evenly over a set, so that sets in order of class keep them all.

    At most ``limit`` of ``count`` rows, in increasing order; 0 picks all.
    """
    if not limit or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def join_parts(parts: Sequence[Part], *, limit: int = 0) -> Part:
    """Put parts one after the other; nothing is copied.

    At most ``limit`` images are picked, spread evenly over all parts; 0 takes all.

    Raises:
      ValueError: Their images are decoded in different ways.
    """
    sources = [part.images for part in parts]
    if len({(source.salt, source.root) for source in sources}) > 1:
        raise ValueError("Expected parts that are decoded alike, in one folder")
    ends = list(accumulate(len(source.names) for source in sources))
    rows = spread_rows(ends[-1], limit).tolist()

    def find(row: int) -> tuple[ImageSource, int]:
        part = bisect_right(ends, rows[row])
        return sources[part], rows[row] - (ends[part - 1] if part else 0)

    def identify(row: int) -> FileIdentity | None:
        source, within = find(row)
        return source.identify(within)

    def read(row: int) -> tuple[bytes, FileIdentity | None]:
        source, within = find(row)
        return source.read(within)

    names = [name for source in sources for name in source.names]
    images = ImageSource(
        root=sources[0].root,
        names=tuple(names[row] for row in rows),
        skipped=tuple(image for source in sources for image in source.skipped),
        salt=sources[0].salt,
        identify=identify,
        read=read,
        decode=sources[0].decode,
    )
    return Part(
        images, lambda: np.concatenate([part.read_labels() for part in parts])[rows]
    )


def _map(path: Path, record: np.dtype) -> np.ndarray:
    """Map a file of records into memory.

    Raises:
      InputError: It isn't there, or its size is no whole number of records.
    """
    try:
        size = path.stat().st_size
        if size and size % record.itemsize == 0:
            return np.memmap(path, record, mode="r")
    except OSError as error:
        raise InputError(
            f"Can't read {printable(str(path))}: {error.strerror or error}; unpack the "
            "official archive again"
        ) from error
    raise InputError(
        f"{printable(str(path))} is truncated or no such file: expected a whole number "
        f"of records of {record.itemsize:,} bytes, found {size:,} bytes; unpack the "
        "official archive again"
    )


def _check_labels(labels: np.ndarray, count: int, path: Path) -> np.ndarray:
    """Return labels as int32.

    Raises:
      InputError: One is no class.
    """
    wrong = np.flatnonzero(labels >= count)
    if wrong.size:
        raise InputError(
            f"{printable(str(path))} is damaged: expected classes 0 to {count - 1}, "
            f"found {labels[wrong[0]]} at record {wrong[0]}; unpack the official "
            "archive again"
        )
    return labels.astype(np.int32)


def _named(pixels: np.ndarray, split: str, first: int) -> Part:
    """Name the images of an array after their split and place; no labels yet."""
    source = open_source(pixels)
    names = tuple(f"{split}/{first + row:06d}" for row in range(len(pixels)))
    return Part(source._replace(names=names), lambda: np.zeros(0, np.int32))


def cifar_part(
    path: Path, *, split: str, first: int, fine: bool, num_classes: int
) -> Part:
    """Open a file of CIFAR-10 or CIFAR-100 in its binary form.

    A record is a byte with the class, in CIFAR-100 the superclass and the class,
    and 3072 bytes of pixels: red, green and blue planes, row by row.

    Images, 32 x 32 pixels, are numbered within the split from ``first`` on.
    ``fine`` says whether there is a second byte of label; labels are the first.

    Raises:
      InputError: The file isn't there or is no whole number of records.
    """
    record = np.dtype(
        [
            ("label", np.uint8),
            ("fine", np.uint8, (int(fine),)),
            ("planes", np.uint8, (_CHANNELS, _CIFAR_SIDE, _CIFAR_SIDE)),
        ]
    )
    records = _map(path, record)
    part = _named(records["planes"].transpose(0, 2, 3, 1), split, first)
    return part._replace(
        read_labels=lambda: _check_labels(records["label"], num_classes, path)
    )


def stl_part(folder: Path, *, split: str) -> Part:
    """Open a split of STL-10 in its binary form.

    An image is 27,648 bytes: red, green and blue planes, column by column.
    Labels are in a file of their own, from 1 to 10, and counted from 0 here.

    Raises:
      InputError: The file isn't there or is no whole number of images.
    """
    image = np.dtype((np.uint8, (_CHANNELS, _STL_SIDE, _STL_SIDE)))
    # A sub-array type on its own would be taken for one more axis.
    records = _map(folder / f"{split}_X.bin", np.dtype([("planes", image)]))
    part = _named(records["planes"].transpose(0, 3, 2, 1), split, 0)

    def read_labels() -> np.ndarray:
        path = folder / f"{split}_y.bin"
        if split == "unlabeled":
            raise InputError(
                "Expected a split with labels to score STL-10 on, found unlabeled; "
                "choose train or test"
            )
        labels = _map(path, np.dtype(np.uint8))
        if len(labels) != len(records):
            raise InputError(
                f"Expected one label for each of {len(records):,} images in "
                f"{printable(str(path))}, found {len(labels):,}"
            )
        # A 0 wraps round to 255, which is no class either.
        return _check_labels(np.asarray(labels) - np.uint8(1), _STL_CLASSES, path)

    return part._replace(read_labels=read_labels)


def class_folders(folder: Path) -> list[str]:
    """List the sub-folders that are named by a WordNet id, in the order of classes.

    Raises:
      InputError: The folder can't be read, or there are none.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InputError(
            f"Can't read {printable(str(folder))}: {error.strerror or error}; name the "
            "folder that has it with --data_dir"
        ) from error
    found = sorted(name for name in names if _SYNSET.fullmatch(name))
    if not found:
        raise InputError(
            f"Expected a sub-folder for each class in {printable(str(folder))}, named "
            "by its WordNet id such as n02085936, found none; sort the images into "
            "them"
        )
    return found


def _part(
    root: Path, paths: Sequence[str], skipped: Sequence[SkippedImage], labels: list[int]
) -> Part:
    """Open some files of a folder, with labels at hand."""
    images = open_source(ImageFolder(os.fspath(root), tuple(paths), tuple(skipped)))
    return Part(images, lambda: np.asarray(labels, np.int32))


def imagenet_part(root: Path, *, split: str, synsets: Sequence[str]) -> Part:
    """Open some classes of a split of ImageNet, a sub-folder for each.

    Args:
      root: Folder with ``train`` and ``val`` in it; for ``"train"`` also one
        that has the classes themselves.
      split: ``"train"`` or ``"val"``.
      synsets: WordNet ids of the classes, in the order of the labels.

    Raises:
      InputError: The split or a class is missing, or has no image.
    """
    within = split if (root / split).is_dir() else ""
    if not within and split != "train":
        raise InputError(
            f"No folder {split} in {printable(str(root))}; put the {split} split "
            "there, a sub-folder for each class, or score another split"
        )
    present = set(class_folders(root / within))
    missing = [synset for synset in synsets if synset not in present]
    if missing:
        raise InputError(
            f"No sub-folder {missing[0]} in {printable(str(root / within))}, which "
            f"lacks {len(missing)} of {len(synsets)} classes; get them from "
            "https://image-net.org"
        )
    paths: list[str] = []
    skipped: list[SkippedImage] = []
    labels: list[int] = []
    for label, synset in enumerate(synsets):
        start = f"{within}/{synset}" if within else synset
        found = find_images(root / start)
        paths += [f"{start}/{path}" for path in found.paths]
        skipped += [
            replace(each, path=f"{start}/{each.path}") for each in found.skipped
        ]
        labels += [label] * len(found.paths)
    return _part(root, paths, skipped, labels)


def _read_val_list(path: Path, label_of: dict[str, int]) -> dict[str, int]:
    """Read the class of each validation image of Tiny-ImageNet.

    Raises:
      InputError: The file can't be read or a line makes no sense.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Can't read {printable(str(path))}: {error}; unpack the official archive "
            "again"
        ) from error
    labels = {}
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("\t")
        synset = rest.partition("\t")[0]
        if synset not in label_of:
            raise InputError(
                f"{printable(str(path))} is damaged: line {number} names no class of "
                "the set; unpack the official archive again"
            )
        labels[name] = label_of[synset]
    return labels


def tiny_part(root: Path, *, split: str) -> Part:
    """Open a split of Tiny-ImageNet, whose classes are in the order of their ids.

    The test split has no labels and is not offered.

    Raises:
      InputError: The folder is incomplete or damaged.
    """
    synsets = class_folders(root / "train")
    if split == "train":
        return imagenet_part(root, split="train", synsets=synsets)
    folder = root / "val"
    found = find_images(folder / "images")
    part = _part(
        root,
        [f"val/images/{path}" for path in found.paths],
        [replace(each, path=f"val/images/{each.path}") for each in found.skipped],
        [],
    )

    def read_labels() -> np.ndarray:
        label_of = {synset: label for label, synset in enumerate(synsets)}
        labels = _read_val_list(folder / _VAL_LIST, label_of)
        missing = [path for path in found.paths if path not in labels]
        if missing:
            raise InputError(
                f"No class for {printable(missing[0])} in "
                f"{printable(str(folder / _VAL_LIST))}; unpack the official archive "
                "again"
            )
        return np.asarray([labels[path] for path in found.paths], np.int32)

    return part._replace(read_labels=read_labels)
