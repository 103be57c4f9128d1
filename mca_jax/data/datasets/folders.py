"""Reads ImageNet and what was cut from it: a folder for each class."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data import ImageFolder, find_images, open_source
from mca_jax.data.datasets.parts import Part
from mca_jax.data.files import SkippedImage

__all__ = ["class_folders", "imagenet_part", "tiny_part"]

_SYNSET = re.compile(r"n\d{8}")
_VAL_LIST = "val_annotations.txt"


def class_folders(folder: Path) -> list[str]:
    """List the sub-folders that are named by a WordNet id.

    Args:
      folder: Such as ImageNet's ``train``.

    Returns:
      Their names, sorted: that is the order of the classes.

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

    Returns:
      Their images, class by class.

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
            SkippedImage(f"{start}/{each.path}", each.reason) for each in found.skipped
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
    """Open a split of Tiny-ImageNet.

    Args:
      root: The unpacked folder, ``tiny-imagenet-200``.
      split: ``"train"`` or ``"val"``; the test split has no labels and is not
        offered.

    Returns:
      Its images of 64 x 64 pixels, and their classes: places in the sorted list
      of WordNet ids.

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
        [SkippedImage(f"val/images/{s.path}", s.reason) for s in found.skipped],
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
