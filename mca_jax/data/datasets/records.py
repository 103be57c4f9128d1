"""Reads the binary forms of CIFAR and STL-10 where they lie, mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data import open_source
from mca_jax.data.datasets.parts import Part

__all__ = ["cifar_part", "stl_part"]

_CIFAR_SIDE, _STL_SIDE, _CHANNELS = 32, 96, 3
_STL_CLASSES = 10


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

    Args:
      path: The file, such as ``data_batch_1.bin``.
      split: Name of its split, for the names of images.
      first: Number of its first image within the split.
      fine: Whether records have a second byte of label (CIFAR-100).
      num_classes: Classes of the first byte.

    Returns:
      Its images, 32 x 32 pixels, and the classes of the first byte.

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
    Labels are in a file of their own, from 1 to 10.

    Args:
      folder: With ``train_X.bin`` and its like.
      split: ``"train"``, ``"test"`` or ``"unlabeled"``.

    Returns:
      Its images, 96 x 96 pixels, and their classes from 0.

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
