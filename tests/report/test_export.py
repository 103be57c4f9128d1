"""Clusters for other tools: read back as those tools read them."""

import builtins
import csv
import dataclasses
import json
import os
import shutil
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import pytest
from sample_results import build_result
from small_runs import small_run

from mca_jax.core.errors import InputError
from mca_jax.data.own_folders import EXPORT_MARK
from mca_jax.model.predict import Predictor
from mca_jax.report.export import (
    assigned_images,
    export_csv,
    export_embeddings,
    export_fiftyone,
    export_folders,
    export_label_studio,
    export_parquet,
)

ODD = (
    "a/same.jpg",
    "b/same.jpg",
    "b/SAME.JPG",
    b"caf\xe9.jpg".decode("utf-8", "surrogateescape"),
    "=1+1.jpg",
    "two words & 100%.jpg",
)
NAMES = ("../up", "dog / cat <b>")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Images with odd names, all of one cluster but the last."""
    return build_result(
        tmp_path_factory.mktemp("images"),
        paths=ODD,
        names=NAMES,
        assignments=np.array([0, 0, 0, 0, 0, 1]),
    )


def test_a_table_for_spreadsheets(result, tmp_path):
    export_csv(assigned_images(result), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "cluster", "confidence", "cluster_name", "uri"]
    assert [row[0] for row in rows][3:] == ["caf\\xe9.jpg", "./=1+1.jpg", ODD[5]]
    assert [int(row[1]) for row in rows] == result.assignments.tolist()
    assert rows[-1][3] == NAMES[1]
    # Names that can't be printed are opened by their addresses.
    for row, path in zip(rows, ODD, strict=True):
        opened = os.fsdecode(unquote_to_bytes(row[4].removeprefix("file://")))
        assert os.path.samefile(opened, f"{result.root}/{path}")
    # Excel takes the file for UTF-8 by its first character.
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbfpath,")


def test_a_table_for_programs(result, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export_parquet(assigned_images(result), tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert table["path"] == [*ODD[:3], "caf\\xe9.jpg", *ODD[4:]]
    assert table["cluster"] == result.assignments.tolist()
    np.testing.assert_array_equal(
        np.asarray(table["confidence"], np.float32), result.confidences
    )
    assert table["cluster_name"] == [NAMES[0]] * 5 + [NAMES[1]]


def test_without_pyarrow_the_message_says_what_to_do(result, tmp_path, monkeypatch):
    load = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install 'mca-jax\[export\]'"):
        export_parquet(assigned_images(result), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_tasks_for_label_studio(result, tmp_path):
    export_label_studio(assigned_images(result), tmp_path / "t.json", url_prefix="x?d=")
    tasks = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert len(tasks) == 6
    places = [task["data"]["image"].removeprefix("x?d=") for task in tasks]
    assert all(place.isascii() and " " not in place for place in places)
    read = [unquote(place, errors="surrogateescape") for place in places]
    assert read == list(ODD)
    (prediction,) = tasks[-1]["predictions"]
    assert prediction["score"] == pytest.approx(float(result.confidences[-1]), 1e-5)
    (choice,) = prediction["result"]
    assert choice["value"] == {"choices": [NAMES[1]]}
    assert (choice["from_name"], choice["type"]) == ("cluster", "choices")


def test_labels_for_fiftyone(result, tmp_path):
    with pytest.raises(InputError, match=r"names apart .* 'a/b'"):
        export_fiftyone(
            assigned_images(
                build_result(paths=("a/b.jpg", "a/b.png"), num_clusters=2, num_images=2)
            ),
            tmp_path / "labels.json",
        )
    assert list(tmp_path.iterdir()) == []
    export_fiftyone(assigned_images(result), tmp_path / "labels.json")
    stored = json.loads((tmp_path / "labels.json").read_text("utf-8"))
    assert stored["classes"] == list(NAMES)
    assert stored["labels"]["a/same"] == 0
    assert stored["labels"]["two words & 100%"] == 1
    assert len(stored["labels"]) == 6


@pytest.mark.parametrize("copy", [False, True])
def test_a_folder_a_cluster(result, tmp_path, copy):
    target = tmp_path / "out" / "clusters"
    target.parent.mkdir()
    assert export_folders(assigned_images(result), target, copy=copy) == 0
    names = sorted(path.name for path in target.iterdir())
    assert names == [EXPORT_MARK, "0000-up", "0001-dog-cat-b"]
    names = sorted(os.listdir(os.fsencode(target / "0000-up")))
    assert names == [
        b"=1+1.jpg",
        b"SAME-3.JPG",
        b"caf\xe9.jpg",
        b"same-2.jpg",
        b"same.jpg",
    ]
    sources = dict(zip(("same.jpg", "same-2.jpg", "SAME-3.JPG"), ODD, strict=False))
    for name, source in sources.items():
        own = target / "0000-up" / name
        assert own.is_symlink() != copy
        with open(os.path.join(result.root, source), "rb") as file:
            assert own.read_bytes() == file.read()
    if not copy:
        assert not os.path.isabs(os.readlink(target / "0000-up" / "same.jpg"))
    # Nothing is written over, and nothing half-done is left.
    with pytest.raises(InputError, match="an empty or new folder"):
        export_folders(assigned_images(result), target, copy=copy)
    assert [path.name for path in target.parent.iterdir()] == ["clusters"]


def test_links_survive_a_move_with_their_images(result, tmp_path):
    shutil.copytree(result.root, tmp_path / "one" / "images")
    images = assigned_images(result, root=str(tmp_path / "one" / "images"))
    (tmp_path / "one" / "clusters").mkdir()
    export_folders(images, tmp_path / "one" / "clusters")
    (tmp_path / "one").rename(tmp_path / "two")
    assert (tmp_path / "two" / "clusters" / "0000-up" / "same.jpg").read_bytes()


def test_images_that_are_gone_and_images_that_were_no_files(result, tmp_path):
    shutil.copytree(result.root, tmp_path / "images")
    (tmp_path / "images" / "a" / "same.jpg").unlink()
    images = assigned_images(result, root=str(tmp_path / "images"))
    assert export_folders(images, tmp_path / "clusters") == 1
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(InputError, match=r"No image .*images' any more.*--images=DIR"):
        export_folders(images, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="found arrays"):
        export_folders(assigned_images(build_result()), tmp_path / "more")


def test_embeddings_without_a_pickle(result, tmp_path):
    for name in ("a.npz", "b.npz"):
        export_embeddings(result, tmp_path / name)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["embeddings"], result.embeddings)
        assert stored["paths"].tolist() == list(ODD)
        np.testing.assert_array_equal(stored["clusters"], result.assignments)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_prediction_is_exported_like_a_run(tmp_path):
    placed = Predictor(small_run().model).predict(image_embeddings=np.eye(8)[3:5])
    images = assigned_images(placed)
    assert images.classes == tuple(sorted(placed.names))
    export_csv(images, tmp_path / "a.csv")
    assert "row-000001,-1," in (tmp_path / "a.csv").read_text()
    named = dataclasses.replace(placed, paths=("x.jpg", "y.jpg"))
    for name in named.paths:
        (tmp_path / name).write_bytes(b"x")
    export_folders(assigned_images(named, root=str(tmp_path)), tmp_path / "clusters")
    assert (tmp_path / "clusters" / "none-of-these" / "y.jpg").exists()
