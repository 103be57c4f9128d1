"""Finds, fetches and opens a named data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.text import printable
from mca_jax.data.datasets.archives import unpack
from mca_jax.data.datasets.download import check_file, fetch
from mca_jax.data.datasets.formats import join_parts
from mca_jax.data.datasets.registry import DATASETS, ClassName, Dataset
from mca_jax.data.sources import ImageSource

__all__ = ["ImageDataset", "default_data_dir", "load_dataset"]

# Where ImageNet's own archive has its splits.
_IMAGENET_WITHIN = Path("ILSVRC", "Data", "CLS-LOC")


class ImageDataset(NamedTuple):
    """One or more splits of a named data set.

    Training takes ``images`` and nothing else. Labels are read by a call of their
    own, from bytes that never enter the content of an image.

    Attributes:
      name: Its name, such as ``"cifar10"``.
      split: Its splits, such as ``"train"`` or ``"train+test"``.
      images: The images, read and decoded one by one when they are needed.
      read_labels: Reads the class of each image, int32 ``[n]``, for evaluation
        only. Raises InputError where a split has none.
      classes: Names and WordNet ids of the classes, in the order of the labels.
      official: Whether it is all of these splits as they were published.
    """

    name: str
    split: str
    images: ImageSource
    read_labels: Callable[[], np.ndarray]
    classes: tuple[ClassName, ...]
    official: bool


def default_data_dir() -> Path:
    """``mca_jax/datasets`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(cache).expanduser() / "mca_jax" / "datasets"


def _split_names(dataset: Dataset, split: str) -> list[str]:
    """Names of the splits that ``+`` joins."""
    names = split.split("+")
    for name in names:
        check_one_of(f"split of {dataset.name}", name, dataset.splits)
    if len(set(names)) < len(names):
        raise InputError(f"Expected each split once, found {split!r}")
    return names


def _find_imagenet(dataset: Dataset, folder: Path | None) -> Path:
    """Return the folder with the splits of ImageNet.

    Raises:
      InputError: None is named.
    """
    if folder is None:
        raise InputError(
            f"{dataset.title} can't be downloaded from here, {dataset.homepage} asks "
            "for an account; name a folder with train and val in it, a sub-folder for "
            "each class, with --data_dir"
        )
    within = folder / _IMAGENET_WITHIN
    return within if within.is_dir() else folder


def _find(dataset: Dataset, data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder of a data set; fetch and unpack it if need be.

    Raises:
      InputError: It isn't there and can't be fetched, or its archive is wrong.
    """
    folder = None
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"No such folder for --data_dir: {printable(str(folder))}; name the "
                f"folder that holds {dataset.title}"
            )
    if dataset.remote is None:
        return _find_imagenet(dataset, folder)
    folder = folder or default_data_dir()
    for unpacked in (folder / dataset.folder, folder):
        if (unpacked / dataset.marker).exists():
            return unpacked
    if (folder / dataset.folder).is_dir():
        raise InputError(
            f"Expected {dataset.marker} in {printable(str(folder / dataset.folder))}, "
            f"found none; delete that folder to unpack {dataset.remote.name} again"
        )
    archive = folder / dataset.remote.name
    if archive.is_file():
        check_file(archive, dataset.remote)
    else:
        archive = fetch(dataset.remote, folder)
    return unpack(
        archive,
        folder,
        top=dataset.folder,
        max_bytes=dataset.max_bytes,
        max_files=dataset.max_files,
    )


def _named(
    classes: Sequence[ClassName],
    name_synsets: Callable[[Sequence[str]], Sequence[str]] | None,
) -> tuple[ClassName, ...]:
    """Name the classes that bring no name along."""
    ids = [each.synset for each in classes if not each.name]
    names = dict(zip(ids, name_synsets(ids) if name_synsets else ids, strict=True))
    return tuple(
        each if each.name else each._replace(name=names[each.synset])
        for each in classes
    )


def _check_classes(
    dataset: Dataset, classes: Sequence[ClassName], root: Path, any_size: bool
) -> None:
    """Check the number of classes where the files tell it.

    Raises:
      InputError: It is another than it should be.
    """
    if len(classes) != dataset.num_classes and not any_size:
        raise InputError(
            f"Expected {dataset.num_classes:,} classes of {dataset.title} in "
            f"{printable(str(root))}, found {len(classes):,}; complete them, or take "
            "what is there with --set=data.any_size=true"
        )


def load_dataset(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "",
    limit: int = 0,
    any_size: bool = False,
    name_synsets: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> ImageDataset:
    """Open a named data set without decoding anything yet.

    The set is looked for in ``data_dir``, unpacked or as its official archive;
    else its archive is downloaded there. An archive must have the published
    checksum. Files of an unpacked set must have the right size.

    Args:
      name: One of ``DATASETS``.
      data_dir: Folder with the set; None takes ``default_data_dir()``.
      split: Splits joined by ``+``; empty takes the one that is clustered by
        default.
      limit: Most images, spread evenly over the splits; 0 takes all.
      any_size: Whether a set with another number of images or classes than
        the published one will do.
      name_synsets: Names classes that are known by their WordNet ids, as those of
        ImageNet's folder are; None leaves them their ids.

    Raises:
      InputError: The name or split is unknown, the set isn't there and can't be
        downloaded, or a file is damaged or incomplete. One line says which, and
        what to do.

    Example:
      >>> load_dataset("cifar11")
      Traceback (most recent call last):
      mca_jax.core.errors.InputError: Unknown dataset 'cifar11'; did you mean 'cifar10'?
    """
    dataset = DATASETS[check_one_of("dataset", name, DATASETS)]
    check_in_range("limit", limit, low=0)
    split = split or dataset.train
    names = _split_names(dataset, split)
    root = _find(dataset, data_dir)
    whole = join_parts(
        [part for each in names for part in dataset.open_split(root, each)]
    )
    # Lists and boxes lie beside some sets' images; they are none of them.
    lost = [each for each in whole.images.skipped if each.kind == "unreadable"]
    found = len(whole.images.names) + len(lost)
    expected = sum(dataset.splits[each] for each in names)
    if found != expected and not any_size:
        raise InputError(
            f"Expected {expected:,} images in split {split} of {dataset.title}, found "
            f"{found:,} in {printable(str(root))}; complete them, or take what is "
            "there with --set=data.any_size=true"
        )
    classes = _named(dataset.read_classes(root), name_synsets)
    _check_classes(dataset, classes, root, any_size)
    chosen = join_parts([whole], limit=limit)
    return ImageDataset(
        name=name,
        split=split,
        images=chosen.images,
        read_labels=chosen.read_labels,
        classes=classes,
        official=found == expected and len(chosen.images.names) == expected,
    )
