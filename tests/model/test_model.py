"""What a run leaves behind: exact, verified, and no pickle."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from small_runs import small_run

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.data.files import SkippedImage
from mca_jax.model.files import (
    MODEL_FILES,
    read_artifact,
    read_model,
    write_artifact,
)
from mca_jax.model.result import read_result, write_result
from mca_jax.pipeline.assembly import measure_closeness
from mca_jax.report.write import write_outputs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_outputs(small_run(), folder)
    return folder


def same(one, other):
    """Whether two trees hold the same, to the last bit and the type."""
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and same(vars(one), vars(other))
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (tuple, list)):
        pairs = zip(one, other, strict=True)
        return len(one) == len(other) and all(same(*pair) for pair in pairs)
    if isinstance(one, np.ndarray) or hasattr(one, "dtype"):
        one, other = np.asarray(one), np.asarray(other)
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    return one == other or (one != one and other != other)


def test_a_result_comes_back_to_the_last_bit(tmp_path):
    history = ({"epoch": 1.0, "loss": float("nan")},)
    odd = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    result = dataclasses.replace(
        small_run(),
        history=history,
        paths=(odd, *small_run().paths[1:]),
        skipped=(SkippedImage("a.jpg", "empty file"),),
        warnings=("one",),
        seconds={},
    )
    write_result(result, tmp_path)
    again = read_result(tmp_path)
    for field in dataclasses.fields(result):
        one, other = getattr(result, field.name), getattr(again, field.name)
        assert same(one, other), field.name
    # And the same bytes when it is written again.
    (tmp_path / "again").mkdir()
    write_result(again, tmp_path / "again")
    for name in MODEL_FILES:
        written = (tmp_path / "again" / name).read_bytes()
        assert written == (tmp_path / name).read_bytes(), name


def test_the_arrays_are_what_the_library_reads(tmp_path):
    arrays = {
        "weights/0": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "odd": np.array([True, False, True]),
        "scalar": np.float32(2.5),
        "rows": np.array([1, -1], np.int64),
        "nothing": np.zeros((0, 4), np.int32),
        "half": np.ones(3, np.float16),
    }
    write_artifact(tmp_path, "model", {"name": "é"}, arrays)
    loaded = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    content, own = read_artifact(tmp_path, "model")
    assert content == {"name": "é"}
    assert same(own, loaded)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", MODEL_FILES)
@pytest.mark.parametrize("place", [40, -40])
def test_a_flipped_bit_is_noticed(run, tmp_path, name, place):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    flip(tmp_path / name, place)
    with pytest.raises(InputError, match=r"Damaged file .*run it again") as caught:
        read_result(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_file_that_is_cut_off_is_noticed(run, tmp_path, name):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="Damaged file"):
        read_result(tmp_path)


def test_files_of_two_runs_do_not_mix(run, tmp_path):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    write_artifact(tmp_path, "other", {}, {"a": np.zeros(3, np.float32)})
    shutil.copy(tmp_path / "other.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"Damaged file .*model\.safetensors"):
        read_model(tmp_path)


def test_what_is_no_run(run, tmp_path):
    with pytest.raises(InputError, match=r"found no model\.json"):
        read_model(tmp_path)
    with pytest.raises(InputError, match="No such folder"):
        read_model(tmp_path / "gone")
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="Can't read"):
        read_model(tmp_path)
    stored = json.loads((run / "model.json").read_text("utf-8"))
    (tmp_path / "model.json").write_text(json.dumps({**stored, "format_version": 9}))
    with pytest.raises(InputError, match="version 1, found .* version 9"):
        read_model(tmp_path)


def test_the_artifact_says_what_it_is_of(run):
    stored = json.loads((run / "model.json").read_text("utf-8"))
    assert stored["format"] == "mca_jax model"
    content = stored["content"]
    assert content["encoder"]["name"] == "given embeddings"
    assert [c["name"] for c in content["clusters"]] == [
        c.name for c in small_run().clusters
    ]
    assert content["config"]["train"]["epochs"] == 4
    assert content["constants"]["null_similarity"] != 0


def test_closeness_by_hand():
    embeddings = np.array([[1, 0], [3, 0], [0, 1], [0, 3]], np.float32)
    mean = embeddings.mean(axis=0)
    centers, quantiles = measure_closeness(embeddings, mean, np.array([0, 0, 1, 1]), 3)
    # Means (2, 0) and (0, 2) lie from (1, 1) in the directions (1, -1) and (-1, 1).
    half = np.sqrt(0.5)
    np.testing.assert_allclose(centers[:2], [[half, -half], [-half, half]], atol=1e-6)
    np.testing.assert_array_equal(centers[2], 0)
    # (1, 0) - (1, 1) = (0, -1) has cosine sqrt(1/2); (2, -1) has 3 / sqrt(10).
    outer = 3 / np.sqrt(10)
    np.testing.assert_allclose(quantiles[[0, 500, -1]], [half, half, outer], atol=1e-6)
    assert (np.diff(quantiles) >= 0).all()


def test_a_saved_result_is_loaded_whole(tmp_path):
    result = small_run()
    result.save(tmp_path / "new" / "folder")
    loaded = mca_jax.load(tmp_path / "new" / "folder")
    np.testing.assert_array_equal(loaded.result.assignments, result.assignments)
    found = loaded.predict(image_embeddings=result.embeddings)
    np.testing.assert_array_equal(found.nearest, result.assignments)
    with pytest.raises(InputError, match=r"mca_jax\.load, found one of a model alone"):
        _ = mca_jax.Predictor(result.model).result
    with pytest.raises(InputError, match="put together by hand"):
        dataclasses.replace(result, model=None).save(tmp_path)


def test_a_number_of_clusters_is_asked_for():
    with pytest.raises(InputError, match="num_clusters: how many groups"):
        mca_jax.cluster("photos")
