"""A set too large for memory: tables in files from end to end, the same result."""

import dataclasses

import numpy as np
import pytest
from small_runs import NOUNS, blobs, small_run

import mca_jax
from mca_jax.alignment import forward as evaluator
from mca_jax.core import host_tables as scratch
from mca_jax.evaluation import risk
from mca_jax.model import files
from mca_jax.model.result import read_result, write_result
from mca_jax.report.write import write_outputs


@pytest.fixture
def everything_is_large(monkeypatch):
    """Tables go to files, and blocks hold a few rows."""
    monkeypatch.setattr(scratch, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(scratch, "_BLOCK_BYTES", 500)
    monkeypatch.setattr(files, "_IN_MEMORY_BYTES", 200)
    monkeypatch.setattr(evaluator, "_MOST_PROBABILITIES", 50)
    monkeypatch.setattr(risk, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(risk, "_BLOCK_BYTES", 500)


def test_the_whole_job_from_a_file_in_files(everything_is_large, tmp_path):
    np.save(tmp_path / "images.npy", blobs())
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    settings = ["train.epochs=4", "train.memory_budget_gib=1e-9"]
    found = mca_jax.cluster(
        image_embeddings=images,
        noun_embeddings=np.eye(len(NOUNS), dtype=np.float32),
        nouns=NOUNS,
        num_clusters=4,
        config=mca_jax.apply_overrides(mca_jax.Config(), settings),
    )
    expected = small_run()
    assert isinstance(found.probabilities, np.memmap)
    assert np.shares_memory(found.embeddings, images)
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(found.confidences, expected.confidences, atol=1e-4)
    assert [each.name for each in found.clusters] == [
        each.name for each in expected.clusters
    ]
    for name, value in expected.metrics["label_free"].items():
        assert found.metrics["label_free"][name] == pytest.approx(
            value, rel=1e-3, nan_ok=True
        )


def test_half_precision_stays_where_it_was_given(tmp_path):
    np.save(tmp_path / "images.npy", blobs().astype(np.float16))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    given = {
        "noun_embeddings": np.eye(len(NOUNS), dtype=np.float32),
        "nouns": NOUNS,
        "num_clusters": 4,
        "config": mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=2"]),
    }
    found = mca_jax.cluster(image_embeddings=images, **given)
    assert found.embeddings.dtype == np.float16
    assert np.shares_memory(found.embeddings, images)
    whole = mca_jax.cluster(image_embeddings=np.float64(images), **given)
    assert whole.embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)


def test_files_of_a_run_do_not_depend_on_where_its_tables_are(
    everything_is_large, tmp_path
):
    result = small_run()
    mapped = {}
    for name in ("probabilities", "embeddings"):
        np.save(tmp_path / f"{name}.npy", getattr(result, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    folders = tmp_path / "memory", tmp_path / "files"
    for folder, each in zip(
        folders, (result, dataclasses.replace(result, **mapped)), strict=True
    ):
        folder.mkdir()
        write_outputs(each, folder)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == sorted(path.name for path in folders[1].iterdir())
    for name in names:
        one, other = ((folder / name).read_bytes() for folder in folders)
        assert one == other, name


def test_a_large_result_is_mapped_and_not_read(everything_is_large, tmp_path):
    result = small_run()
    write_result(result, tmp_path)
    found = read_result(tmp_path)
    assert isinstance(found.probabilities, np.memmap)
    for name in ("probabilities", "embeddings", "assignments", "neighbors"):
        one, other = getattr(found, name), getattr(result, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    # Into the folder that it is mapped from.
    write_result(found, tmp_path)
    np.testing.assert_array_equal(found.probabilities, result.probabilities)
    np.testing.assert_array_equal(
        read_result(tmp_path).probabilities, result.probabilities
    )
