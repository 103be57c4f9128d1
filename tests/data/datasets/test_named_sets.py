"""Each named data set, read from a small one in its official format."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tiny_datasets import (
    jpeg,
    pack,
    pictures,
    pin,
    write_cifar10,
    write_cifar20,
    write_imagenet,
    write_stl10,
    write_tiny_imagenet,
)

from mca_jax.core.errors import InputError
from mca_jax.data import load_image
from mca_jax.data.datasets import DATASETS, load_dataset
from mca_jax.data.datasets.formats import spread_rows
from mca_jax.data.datasets.registry import (
    CIFAR10,
    CIFAR20,
    IMAGENET10,
    IMAGENET_DOGS,
    STL10,
)
from mca_jax.semantics import load_nouns, name_synsets

WRITERS = {"cifar10": write_cifar10, "cifar20": write_cifar20, "stl10": write_stl10}
TINY_SYNSETS = ["n01443537", "n02085936", "n07747607"]


def check_pixels(dataset, pixels):
    assert len(dataset.images.names) == len(pixels)
    for row, expected in enumerate(pixels):
        found = np.asarray(load_image(dataset.images, row))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", WRITERS)
def test_pixels_and_labels_from_the_official_archive(name, tmp_path, monkeypatch):
    truth = WRITERS[name](tmp_path / "made")
    official = DATASETS[name]
    archive = pack(tmp_path / "made" / official.folder, tmp_path / official.remote.name)
    counts = {split: len(pixels) for split, pixels in truth.pixels.items()}
    pin(monkeypatch, name, archive, splits=counts)
    for split in ("train", "test"):
        dataset = load_dataset(name, tmp_path, split=split)
        check_pixels(dataset, truth.pixels[split])
        np.testing.assert_array_equal(dataset.read_labels(), truth.labels[split])
        assert dataset.read_labels().dtype == np.int32
        assert dataset.official
        assert dataset.images.names[-1] == f"{split}/{counts[split] - 1:06d}"
    both = load_dataset(name, tmp_path, split="train+test")
    check_pixels(both, np.concatenate([truth.pixels["train"], truth.pixels["test"]]))
    np.testing.assert_array_equal(
        both.read_labels(),
        np.concatenate([truth.labels["train"], truth.labels["test"]]),
    )


@pytest.mark.parametrize("name", WRITERS)
def test_the_content_of_an_image_is_its_pixels(name, tmp_path):
    truth = WRITERS[name](tmp_path)
    dataset = load_dataset(name, tmp_path, any_size=True)
    for row, expected in enumerate(truth.pixels["train"]):
        assert dataset.images.read(row) == (expected.tobytes(), None)


@pytest.mark.parametrize("name", WRITERS)
def test_the_unpacked_folder_itself_may_be_named(name, tmp_path):
    truth = WRITERS[name](tmp_path)
    folder = tmp_path / DATASETS[name].folder
    dataset = load_dataset(name, folder, split="test", any_size=True)
    np.testing.assert_array_equal(dataset.read_labels(), truth.labels["test"])
    assert not dataset.official


def test_a_limit_takes_images_from_all_over_the_set(tmp_path):
    truth = write_cifar10(tmp_path)
    dataset = load_dataset("cifar10", tmp_path, limit=6, any_size=True)
    rows = [0, 3, 6, 10, 13, 16]
    check_pixels(dataset, truth.pixels["train"][rows])
    np.testing.assert_array_equal(dataset.read_labels(), truth.labels["train"][rows])
    assert dataset.images.names[3] == "train/000010"


def test_spread_rows_by_hand():
    assert spread_rows(10, 4).tolist() == [0, 2, 5, 7]
    assert spread_rows(3, 4).tolist() == [0, 1, 2]
    assert spread_rows(3, 0).tolist() == [0, 1, 2]


def test_the_unlabeled_split_has_no_labels(tmp_path):
    truth = write_stl10(tmp_path)
    dataset = load_dataset("stl10", tmp_path, split="unlabeled", any_size=True)
    check_pixels(dataset, truth.pixels["unlabeled"])
    with pytest.raises(InputError, match="split with labels.*found unlabeled"):
        dataset.read_labels()


def test_a_large_file_is_not_read_when_it_is_opened(tmp_path):
    write_stl10(tmp_path)
    # Two gigabytes of nothing, and one image behind them.
    image = pictures(1, 96, 9)[0]
    with (tmp_path / "stl10_binary" / "unlabeled_X.bin").open("wb") as file:
        file.seek(99_999 * 27_648)
        file.write(b"".join(image[:, :, c].T.tobytes() for c in range(3)))
    tracemalloc.start()
    dataset = load_dataset("stl10", tmp_path, split="unlabeled")
    found = load_image(dataset.images, 99_999)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, image)
    assert dataset.official
    assert peak < 100 * 2**20


def test_tiny_imagenet(tmp_path, monkeypatch):
    write_tiny_imagenet(tmp_path / "made", TINY_SYNSETS)
    official = DATASETS["tiny_imagenet"]
    archive = pack(tmp_path / "made" / official.folder, tmp_path / official.remote.name)
    counts = {"train": 15, "val": 15}
    pin(monkeypatch, "tiny_imagenet", archive, splits=counts, num_classes=3)
    train = load_dataset(
        "tiny_imagenet", tmp_path, split="train", name_synsets=name_synsets
    )
    val = load_dataset("tiny_imagenet", tmp_path, split="val")
    assert [each.synset for each in train.classes] == TINY_SYNSETS
    assert [each.name for each in train.classes] == [
        "goldfish",
        "Maltese dog",
        "orange",
    ]
    assert train.images.names[5] == "train/n02085936/images/n02085936_0.JPEG"
    assert train.read_labels().tolist() == [0] * 5 + [1] * 5 + [2] * 5
    numbers = [int(name.split("_")[-1].split(".")[0]) for name in val.images.names]
    assert sorted(numbers) == list(range(15))
    assert val.read_labels().tolist() == [number % 3 for number in numbers]
    assert np.asarray(load_image(val.images, 0)).shape == (64, 64, 3)
    # Without a table they keep their ids.
    assert [each.name for each in val.classes] == TINY_SYNSETS
    both = load_dataset("tiny_imagenet", tmp_path, split="train+val")
    assert len(both.images.names) == 30
    assert both.official


@pytest.mark.parametrize("name", ["imagenet10", "imagenet_dogs"])
def test_subsets_of_imagenet(name, tmp_path):
    classes = DATASETS[name].read_classes(tmp_path)
    synsets = [each.synset for each in classes]
    # Another class of ImageNet, which is no part of the set.
    write_imagenet(tmp_path, [*synsets, "n01443537"])
    (tmp_path / "train" / synsets[0] / "broken.JPEG").symlink_to("nowhere")
    train = load_dataset(name, tmp_path, any_size=True)
    np.testing.assert_array_equal(
        train.read_labels(), np.repeat(range(len(synsets)), 2)
    )
    assert {path.split("/")[1] for path in train.images.names} == set(synsets)
    assert [each.path for each in train.images.skipped] == [
        f"train/{synsets[0]}/broken.JPEG"
    ]
    val = load_dataset(name, tmp_path, split="val", any_size=True)
    assert val.images.names[0].startswith(f"val/{synsets[0]}/")
    # Also a folder with the classes themselves is fine to train on.
    flat = load_dataset(name, tmp_path / "train", any_size=True)
    assert flat.images.names[0].startswith(synsets[0])
    with pytest.raises(InputError, match="No folder val"):
        load_dataset(name, tmp_path / "train", split="val", any_size=True)


def test_imagenet_in_the_layout_of_its_archive(tmp_path):
    write_imagenet(tmp_path / "ILSVRC" / "Data" / "CLS-LOC", TINY_SYNSETS)
    options = {"split": "val", "any_size": True}
    dataset = load_dataset("imagenet", tmp_path, **options)
    assert [each.name for each in dataset.classes] == TINY_SYNSETS
    dataset = load_dataset("imagenet", tmp_path, name_synsets=name_synsets, **options)
    assert [each.name for each in dataset.classes] == [
        "goldfish",
        "Maltese dog",
        "orange",
    ]
    assert dataset.read_labels().tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(InputError, match="Expected 50,000 images"):
        load_dataset("imagenet", tmp_path, split="val")


def test_a_missing_class_of_imagenet_is_named(tmp_path):
    write_imagenet(tmp_path, [each.synset for each in IMAGENET10[1:]])
    with pytest.raises(InputError, match="No sub-folder n02056570.*1 of 10 classes"):
        load_dataset("imagenet10", tmp_path, any_size=True)


def test_classes_that_are_no_folders(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg(pictures(1, 8, 0)[0]))
    with pytest.raises(InputError, match="sub-folder for each class"):
        load_dataset("imagenet", tmp_path)


def test_imagenet_is_not_downloaded():
    with pytest.raises(InputError, match=r"https://image-net.org asks.*--data_dir"):
        load_dataset("imagenet_dogs")


@pytest.mark.parametrize(
    "classes", [CIFAR10, CIFAR20, STL10, IMAGENET10, IMAGENET_DOGS]
)
def test_classes_are_nouns_of_wordnet(classes):
    table = load_nouns("wordnet")
    row_of = {synset: row for row, synset in enumerate(table.synsets)}
    for name, synset in classes:
        if synset and classes is not CIFAR20:
            assert name in table.lemmas[row_of[synset]]
        elif synset:
            # Superclasses are described, such as "large carnivores".
            lemmas = " ".join(table.lemmas[row_of[synset]])
            stems = [word.rstrip("s") for word in name.split()]
            known = {
                "fruit and vegetables": "produce",
                "household electrical devices": "home appliance",
                "people": "person",
                "large natural outdoor scenes": "geological formation",
                "large man-made outdoor things": "structure",
            }.get(name)
            assert known in lemmas if known else any(s in lemmas for s in stems), name


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_said_of_a_set_holds_together(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    assert {dataset.train, dataset.score} <= set(dataset.splits)
    if dataset.remote is not None:
        digits = {"md5": 32, "sha256": 64}[dataset.remote.algorithm]
        assert len(bytes.fromhex(dataset.remote.checksum)) * 2 == digits
        assert dataset.remote.url.endswith(dataset.remote.name)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("val", "Unknown split of cifar10 'val'"),
        ("train+train", "each split once"),
        ("train+", "Unknown split of cifar10 ''"),
    ],
)
def test_bad_splits(split, message, tmp_path):
    write_cifar10(tmp_path)
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        load_dataset("cifar10", tmp_path, split=split, any_size=True)


def test_a_set_of_another_size_is_refused(tmp_path):
    write_cifar10(tmp_path)
    with pytest.raises(InputError) as caught:
        load_dataset("cifar10", tmp_path)
    for word in ("50,000 images", "found 20", str(tmp_path), "data.any_size=true"):
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_3.bin: No such file"):
        load_dataset("cifar10", tmp_path, any_size=True)
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(InputError, match="Expected test_batch.bin"):
        load_dataset("cifar10", tmp_path, any_size=True)


@pytest.mark.parametrize("size", [0, 3073 * 3 + 3072])
def test_a_truncated_file_is_named(size, tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=rf"data_batch_3.bin is truncated.*{size:,}"):
        load_dataset("cifar10", tmp_path, any_size=True)


def test_labels_that_are_no_classes(tmp_path):
    write_cifar20(tmp_path)
    path = tmp_path / "cifar-100-binary" / "test.bin"
    content = bytearray(path.read_bytes())
    content[3074 * 2] = 20
    path.write_bytes(content)
    dataset = load_dataset("cifar20", tmp_path, split="test", any_size=True)
    with pytest.raises(InputError, match="classes 0 to 19, found 20 at record 2"):
        dataset.read_labels()


@pytest.mark.parametrize(
    ("labels", "message"),
    [(bytes(20), "is damaged"), (bytes([1] * 19), "one label for each of 20")],
)
def test_bad_labels_of_stl(labels, message, tmp_path):
    write_stl10(tmp_path)
    (tmp_path / "stl10_binary" / "train_y.bin").write_bytes(labels)
    dataset = load_dataset("stl10", tmp_path, any_size=True)
    with pytest.raises(InputError, match=message):
        dataset.read_labels()


@pytest.mark.parametrize("line", ["val_0.JPEG\tn00000000\t0", "nonsense"])
def test_a_bad_list_of_tiny_imagenet(line, tmp_path):
    write_tiny_imagenet(tmp_path, TINY_SYNSETS)
    path = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text(f"{line}\n")
    dataset = load_dataset("tiny_imagenet", tmp_path, split="val", any_size=True)
    with pytest.raises(InputError, match="line 1 names no class"):
        dataset.read_labels()
    path.write_text("val_0.JPEG\tn01443537\t0\n")
    with pytest.raises(InputError, match=r"No class for val_1.JPEG"):
        dataset.read_labels()
    path.unlink()
    with pytest.raises(InputError, match="Can't read"):
        dataset.read_labels()


def test_too_few_classes_are_refused(tmp_path, monkeypatch):
    write_tiny_imagenet(tmp_path, TINY_SYNSETS)
    tiny = DATASETS["tiny_imagenet"]
    smaller = replace(tiny, splits={"train": 15, "val": 15})
    monkeypatch.setitem(DATASETS, "tiny_imagenet", smaller)
    with pytest.raises(InputError, match="Expected 200 classes.*found 3"):
        load_dataset("tiny_imagenet", tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such folder for --data_dir"):
        load_dataset("cifar10", tmp_path / "nowhere")
