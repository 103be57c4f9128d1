"""The data sets of the literature by name: files, splits, and names of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mca_jax.data.datasets.download import Remote
from mca_jax.data.datasets.formats import (
    Part,
    cifar_part,
    class_folders,
    imagenet_part,
    stl_part,
    tiny_part,
)

__all__ = [
    "CIFAR10",
    "CIFAR20",
    "DATASETS",
    "IMAGENET10",
    "IMAGENET_DOGS",
    "STL10",
    "ClassName",
    "Dataset",
]


class ClassName(NamedTuple):
    """A class as its data set calls it.

    Attributes:
      name: Its name.
      synset: WordNet 3.0 id of its noun, such as ``"n02084071"``. Empty where WordNet
        has no such noun, as for "medium-sized mammals".
    """

    name: str
    synset: str


def _table(text: str) -> tuple[ClassName, ...]:
    """Read lines of a name and, if there is one, an id."""
    rows = []
    for line in text.strip().splitlines():
        name, _, synset = line.strip().partition(" | ")
        rows.append(ClassName(name, synset))
    return tuple(rows)


CIFAR10 = _table("""
    airplane | n02691156
    automobile | n02958343
    bird | n01503061
    cat | n02121620
    deer | n02430045
    dog | n02084071
    frog | n01639765
    horse | n02374451
    ship | n04194289
    truck | n04490091
""")
"""Classes of CIFAR-10, in the order of its ``batches.meta.txt``."""

CIFAR20 = _table("""
    aquatic mammals | n02062017
    fish | n02512053
    flowers | n11669335
    food containers
    fruit and vegetables | n07705711
    household electrical devices | n03528263
    household furniture | n03405725
    insects | n02159955
    large carnivores | n02075296
    large man-made outdoor things | n04341686
    large natural outdoor scenes | n09287968
    large omnivores and herbivores
    medium-sized mammals
    non-insect invertebrates | n01905661
    people | n00007846
    reptiles | n01661091
    small mammals
    trees | n13104059
    vehicles 1 | n04524313
    vehicles 2 | n04524313
""")
"""Superclasses of CIFAR-100, in the order of its ``coarse_label_names.txt``."""

STL10 = _table("""
    airplane | n02691156
    bird | n01503061
    car | n02958343
    cat | n02121620
    deer | n02430045
    dog | n02084071
    horse | n02374451
    monkey | n02484322
    ship | n04194289
    truck | n04490091
""")
"""Classes of STL-10, in the order of its ``class_names.txt``."""

# The ten and fifteen classes of Chang et al., "Deep Adaptive Image Clustering",
# ICCV 2017, as the lists of Li et al., "Contrastive Clustering", AAAI 2021 give
# them; later work uses the same.
IMAGENET10 = _table("""
    king penguin | n02056570
    Maltese dog | n02085936
    snow leopard | n02128757
    airliner | n02690373
    airship | n02692877
    container ship | n03095699
    soccer ball | n04254680
    sports car | n04285008
    trailer truck | n04467665
    orange | n07747607
""")
"""Classes of ImageNet-10."""

IMAGENET_DOGS = _table("""
    Maltese dog | n02085936
    Blenheim spaniel | n02086646
    basset | n02088238
    Norwegian elkhound | n02091467
    giant schnauzer | n02097130
    golden retriever | n02099601
    Brittany spaniel | n02101388
    clumber | n02101556
    Welsh springer spaniel | n02102177
    groenendael | n02105056
    kelpie | n02105412
    Shetland sheepdog | n02105855
    Doberman | n02107142
    pug | n02110958
    chow | n02112137
""")
"""Classes of ImageNet-Dogs: 15 breeds."""


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
    """Classes of ImageNet's folder, which are named by their ids alone."""
    return tuple(ClassName("", synset) for synset in _synsets(root))


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
        read_classes=lambda root: classes,
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
        read_classes=lambda root: CIFAR10,
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
        read_classes=lambda root: CIFAR20,
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
        open_split=lambda root, split: [stl_part(root, split=split)],
        read_classes=lambda root: STL10,
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
        open_split=lambda root, split: [tiny_part(root, split=split)],
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
