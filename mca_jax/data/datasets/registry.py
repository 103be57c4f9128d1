"""The data sets of the literature by name: where they are, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mca_jax.data.datasets.classes import (
    CIFAR10,
    CIFAR20,
    IMAGENET10,
    IMAGENET_DOGS,
    STL10,
    ClassName,
)
from mca_jax.data.datasets.download import Remote
from mca_jax.data.datasets.folders import class_folders, imagenet_part, tiny_part
from mca_jax.data.datasets.parts import Part
from mca_jax.data.datasets.records import cifar_part, stl_part

__all__ = ["DATASETS", "Dataset"]


@dataclass(frozen=True)
class Dataset:
    """A named set of images.

    Attributes:
      name: What ``--dataset`` takes.
      title: What papers call it.
      num_classes: Number of its classes.
      splits: Official number of images of each split.
      train: Split that is clustered by default, as in the literature.
      score: Split that the scores are of by default.
      open_split: Folder and split to its parts, in order.
      read_classes: Folder to the classes, in the order of the labels.
      marker: A file or folder that tells the unpacked set.
      remote: Its archive, or None where that needs an account.
      folder: Folder in the archive that holds the set.
      max_bytes: Most bytes that the archive may unpack to.
      max_files: Most entries that the archive may have.
      homepage: Where it is described, with its terms.
    """

    name: str
    title: str
    num_classes: int
    splits: Mapping[str, int]
    train: str
    score: str
    open_split: Callable[[Path, str], Sequence[Part]]
    read_classes: Callable[[Path], Sequence[ClassName]]
    marker: str
    remote: Remote | None
    folder: str
    max_bytes: int
    max_files: int
    homepage: str


_CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
_IMAGENET_HOME = "https://image-net.org"
_MIB = 2**20

_CIFAR10_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_CIFAR100_FILES = {"train": ("train.bin",), "test": ("test.bin",)}


def _open_cifar(
    files: Mapping[str, Sequence[str]], fine: bool, num_classes: int
) -> Callable[[Path, str], Sequence[Part]]:
    """Read the files of a split of CIFAR, numbered through."""

    def open_split(root: Path, split: str) -> list[Part]:
        parts: list[Part] = []
        first = 0
        for name in files[split]:
            part = cifar_part(
                root / name,
                split=split,
                first=first,
                fine=fine,
                num_classes=num_classes,
            )
            parts.append(part)
            first += len(part.images.names)
        return parts

    return open_split


def _open_stl(root: Path, split: str) -> list[Part]:
    """Read a split of STL-10."""
    return [stl_part(root, split=split)]


def _open_tiny(root: Path, split: str) -> list[Part]:
    """Read a split of Tiny-ImageNet."""
    return [tiny_part(root, split=split)]


def _open_imagenet(
    root: Path, split: str, *, classes: Sequence[ClassName] = ()
) -> list[Part]:
    """Read some classes of ImageNet, or all that are there."""
    synsets = [each.synset for each in classes] or _synsets(root)
    return [imagenet_part(root, split=split, synsets=synsets)]


def _synsets(root: Path) -> list[str]:
    """All classes of ImageNet's folder, in the order of the labels."""
    return class_folders(root / "train" if (root / "train").is_dir() else root)


def _read_imagenet_classes(root: Path) -> tuple[ClassName, ...]:
    """List all classes of ImageNet's folder, which are named by their ids alone."""
    return tuple(ClassName("", synset) for synset in _synsets(root))


def _given(classes: Sequence[ClassName]) -> Callable[[Path], Sequence[ClassName]]:
    """Classes that don't depend on the files."""
    return lambda root: classes


def _subset_of_imagenet(
    name: str, title: str, classes: Sequence[ClassName], train: int, val: int
) -> Dataset:
    """Describe some classes of ImageNet."""
    return Dataset(
        name=name,
        title=title,
        num_classes=len(classes),
        splits={"train": train, "val": val},
        train="train",
        score="val",
        open_split=partial(_open_imagenet, classes=classes),
        read_classes=_given(classes),
        marker="train",
        remote=None,
        folder="",
        max_bytes=0,
        max_files=0,
        homepage=_IMAGENET_HOME,
    )


# Checksums: SHA-256 where independent projects publish the same (those of CIFAR go
# with the MD5 of its page), else the MD5 that torchvision (STL-10) and every
# published loader (Tiny-ImageNet) check.
_SETS = (
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        num_classes=10,
        splits={"train": 50_000, "test": 10_000},
        train="train",
        score="test",
        open_split=_open_cifar(_CIFAR10_FILES, False, 10),
        read_classes=_given(CIFAR10),
        marker="test_batch.bin",
        remote=Remote(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            name="cifar-10-binary.tar.gz",
            algorithm="sha256",
            checksum=(
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            ),
        ),
        folder="cifar-10-batches-bin",
        max_bytes=200 * _MIB,
        max_files=100,
        homepage=_CIFAR_HOME,
    ),
    Dataset(
        name="cifar20",
        title="CIFAR-20, the superclasses of CIFAR-100",
        num_classes=20,
        splits={"train": 50_000, "test": 10_000},
        train="train",
        score="test",
        open_split=_open_cifar(_CIFAR100_FILES, True, 20),
        read_classes=_given(CIFAR20),
        marker="test.bin",
        remote=Remote(
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            name="cifar-100-binary.tar.gz",
            algorithm="sha256",
            checksum=(
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
            ),
        ),
        folder="cifar-100-binary",
        max_bytes=200 * _MIB,
        max_files=100,
        homepage=_CIFAR_HOME,
    ),
    Dataset(
        name="stl10",
        title="STL-10",
        num_classes=10,
        splits={"train": 5_000, "test": 8_000, "unlabeled": 100_000},
        train="train",
        score="test",
        open_split=_open_stl,
        read_classes=_given(STL10),
        marker="test_X.bin",
        remote=Remote(
            url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            name="stl10_binary.tar.gz",
            algorithm="md5",
            checksum="91f7769df0f17e558f3565bffb0c7dfb",
        ),
        folder="stl10_binary",
        max_bytes=3_200 * _MIB,
        max_files=100,
        homepage="https://cs.stanford.edu/~acoates/stl10/",
    ),
    Dataset(
        name="tiny_imagenet",
        title="Tiny-ImageNet",
        num_classes=200,
        splits={"train": 100_000, "val": 10_000},
        train="train",
        score="val",
        open_split=_open_tiny,
        read_classes=_read_imagenet_classes,
        marker="wnids.txt",
        remote=Remote(
            url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            name="tiny-imagenet-200.zip",
            algorithm="md5",
            checksum="90528d7ca1a48142e341f4ef8d21d0de",
        ),
        folder="tiny-imagenet-200",
        max_bytes=1_024 * _MIB,
        max_files=130_000,
        homepage="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    ),
    _subset_of_imagenet("imagenet10", "ImageNet-10", IMAGENET10, 13_000, 500),
    _subset_of_imagenet("imagenet_dogs", "ImageNet-Dogs", IMAGENET_DOGS, 19_500, 750),
    Dataset(
        name="imagenet",
        title="ImageNet-1K",
        num_classes=1_000,
        splits={"train": 1_281_167, "val": 50_000},
        train="train",
        score="val",
        open_split=_open_imagenet,
        read_classes=_read_imagenet_classes,
        marker="train",
        remote=None,
        folder="",
        max_bytes=0,
        max_files=0,
        homepage=_IMAGENET_HOME,
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _SETS}
"""All named data sets."""
