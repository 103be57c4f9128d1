"""Builds small data sets in their official formats, written out from their pages."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mca_jax.data.datasets import DATASETS


class Truth(NamedTuple):
    """What was written: pixels ``[n, h, w, 3]`` and classes of each split."""

    pixels: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    """Smooth patches of colour, all different."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.stack(
        [
            np.asarray(
                Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC)
            )
            for each in small
        ]
    )


def cifar_record(pixels: np.ndarray, labels: tuple[int, ...]) -> bytes:
    """Label bytes, then 1024 red, 1024 green, 1024 blue, row by row."""
    planes = b"".join(
        bytes(int(pixels[y, x, channel]) for y in range(32) for x in range(32))
        for channel in range(3)
    )
    return bytes(labels) + planes


def stl_record(pixels: np.ndarray) -> bytes:
    """All red, then green, then blue, column by column."""
    return b"".join(pixels[:, :, channel].T.tobytes() for channel in range(3))


def write_cifar10(folder: Path, *, batch: int = 4) -> Truth:
    """Five training files and a test file of ``batch`` images each."""
    folder = folder / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    pixels, labels = pictures(6 * batch, 32, 0), np.arange(6 * batch) % 10
    files = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for number, name in enumerate(files):
        rows = range(number * batch, (number + 1) * batch)
        records = [cifar_record(pixels[row], (int(labels[row]),)) for row in rows]
        (folder / name).write_bytes(b"".join(records))
    (folder / "readme.html").write_text("<html></html>")
    cut = 5 * batch
    return Truth(
        {"train": pixels[:cut], "test": pixels[cut:]},
        {"train": labels[:cut], "test": labels[cut:]},
    )


def write_cifar20(folder: Path, *, train: int = 24, test: int = 20) -> Truth:
    """CIFAR-100: superclass, class, pixels. The class here is no superclass."""
    folder = folder / "cifar-100-binary"
    folder.mkdir(parents=True)
    truth = Truth({}, {})
    for split, count in (("train", train), ("test", test)):
        pixels = pictures(count, 32, len(split))
        labels = np.arange(count) * 7 % 20
        records = [
            cifar_record(pixels[row], (int(labels[row]), 99 - row))
            for row in range(count)
        ]
        (folder / f"{split}.bin").write_bytes(b"".join(records))
        truth.pixels[split], truth.labels[split] = pixels, labels
    return truth


def write_stl10(folder: Path, *, train: int = 20, test: int = 20) -> Truth:
    """Images and labels, from 1 to 10, in files of their own."""
    folder = folder / "stl10_binary"
    folder.mkdir(parents=True)
    truth = Truth({}, {})
    for split, count in (("train", train), ("test", test), ("unlabeled", 3)):
        pixels = pictures(count, 96, len(split))
        records = [stl_record(each) for each in pixels]
        (folder / f"{split}_X.bin").write_bytes(b"".join(records))
        truth.pixels[split] = pixels
        if split != "unlabeled":
            labels = np.arange(count) * 3 % 10
            (folder / f"{split}_y.bin").write_bytes(bytes((labels + 1).tolist()))
            truth.labels[split] = labels
    return truth


def jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95)
    return content.getvalue()


def write_tiny_imagenet(folder: Path, synsets: list[str], *, each: int = 5) -> None:
    """A folder a class for training, one folder and a list for validation."""
    folder = folder / "tiny-imagenet-200"
    listed = []
    images = pictures(2 * each * len(synsets), 64, 3)
    (folder / "val" / "images").mkdir(parents=True)
    for place, synset in enumerate(synsets):
        train = folder / "train" / synset / "images"
        train.mkdir(parents=True)
        (train.parent / f"{synset}_boxes.txt").write_text("")
        for number in range(each):
            row = 2 * (place * each + number)
            (train / f"{synset}_{number}.JPEG").write_bytes(jpeg(images[row]))
            # Validation images are numbered across the classes.
            name = f"val_{number * len(synsets) + place}.JPEG"
            (folder / "val" / "images" / name).write_bytes(jpeg(images[row + 1]))
            listed.append(f"{name}\t{synset}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(sorted(listed)))
    (folder / "wnids.txt").write_text("".join(f"{each}\n" for each in synsets))


def write_imagenet(folder: Path, synsets: list[str], *, each: int = 2) -> None:
    """``train`` and ``val`` with a folder a class."""
    images = pictures(2 * each * len(synsets), 80, 4)
    row = 0
    for split in ("train", "val"):
        for synset in synsets:
            (folder / split / synset).mkdir(parents=True)
            for number in range(each):
                name = f"{synset}_{split}_{number}.JPEG"
                (folder / split / synset / name).write_bytes(jpeg(images[row]))
                row += 1


def pack(folder: Path, archive: Path) -> Path:
    """Pack a folder as a tar.gz or zip archive under its own name."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(folder.rglob("*")):
                zipped.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz") as taped:
            taped.add(folder, folder.name)
    return archive


def pin(monkeypatch, name: str, archive: Path, **changes) -> None:
    """Publish an archive as the official one of a data set."""
    dataset = DATASETS[name]
    assert dataset.remote is not None
    hasher = hashlib.new(dataset.remote.algorithm, archive.read_bytes())
    remote = dataset.remote._replace(checksum=hasher.hexdigest())
    changes = {"remote": remote, **changes}
    monkeypatch.setitem(DATASETS, name, replace(dataset, **changes))
