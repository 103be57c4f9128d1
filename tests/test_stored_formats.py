"""Files that earlier versions left on disk: read for ever, or refused in so many words.

Each folder of ``goldens/formats`` was written by the version that it is named after.
"""

import json
import shutil

import jax
import numpy as np
import pytest
from goldens.make_format_goldens import (
    ENCODER,
    FOLDERS,
    GOLDENS,
    cluster_blobs,
    cluster_images,
)
from sklearn.metrics import adjusted_rand_score

import mca_jax

VERSIONS = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())

# A checkpoint or a cache is of one identity, which holds settings and the way that
# embeddings are made: a version may change it for good reason, and say so here.
# Trainings of these versions are not resumed.
OUTDATED_CHECKPOINTS: frozenset[str] = frozenset(
    # Other keys are made of a seed, and the null noun had an offset that never got a
    # gradient.
    {"v0.1"}
)
# Kept embeddings that count as another encoder's now, and are made again.
OUTDATED_CACHES: frozenset[str] = frozenset()

# Other versions of XLA, and other processors, round otherwise.
TOLERANCE = 1e-4

RUNS = [(version, run) for version in VERSIONS for run in ("run", "edited")]


class Told:
    """A callback that remembers what is logged."""

    def __init__(self):
        self.events = []

    def start(self, stage, total):
        pass

    def advance(self, count):
        pass

    def log(self, event, values):
        self.events.append((event, values))

    def of(self, event):
        return [values for name, values in self.events if name == event]


@pytest.fixture
def stored(request, tmp_path, monkeypatch):
    """A copy of a version's folder, as the working directory that it was made in."""
    version = getattr(request, "param", VERSIONS[-1])
    # Copied with its times: whatever has other times afterwards was written.
    folder = shutil.copytree(FOLDERS / version, tmp_path / version)
    (folder / "clip").symlink_to((GOLDENS / ENCODER).parent)
    monkeypatch.chdir(folder)
    return folder


def expected(folder, name):
    with np.load(folder / "expected.npz", allow_pickle=False) as arrays:
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): arrays[key]
            for key in arrays
            if key.startswith(prefix)
        }


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same_result(result, want):
    np.testing.assert_array_equal(result.embeddings, want["embeddings"])
    np.testing.assert_array_equal(result.assignments, want["assignments"])
    np.testing.assert_array_equal(result.probabilities, want["probabilities"])
    assert [cluster.name for cluster in result.clusters] == want["names"].tolist()
    sizes = np.bincount(want["assignments"], minlength=len(want["names"]))
    assert [cluster.size for cluster in result.clusters] == sizes.tolist()


def test_there_is_something_to_read():
    assert "v0.1" in VERSIONS
    # Else the versions above would be told apart by nothing.
    assert set(VERSIONS) >= OUTDATED_CHECKPOINTS | OUTDATED_CACHES


@pytest.mark.parametrize("version", VERSIONS)
def test_the_goldens_came_through_version_control_whole(version):
    # Git leaves out what it is told to ignore, and empty folders: a checkpoint that
    # lacks a file would be taken for a half-written one below.
    (kept,) = (FOLDERS / version / "checkpoints").glob("**/train/00000002")
    listed = json.loads((kept / "manifest.json").read_text())["files"]
    found = {path for path in contents(kept) if path != "manifest.json"}
    assert found == set(listed)


@pytest.mark.parametrize(("version", "run"), RUNS)
def test_a_result_comes_back_to_the_last_bit(version, run):
    folder = FOLDERS / version
    result = mca_jax.load_result(folder / run)
    same_result(result, expected(folder, run))
    settings = json.loads((folder / run / "config.json").read_text())["settings"]
    assert result.config == settings
    actions = [edit["action"] for edit in result.model.edits]
    assert actions == {"run": [], "edited": ["rename", "merge", "split"]}[run]
    assert len(result.model.splits) == {"run": 0, "edited": 1}[run]
    assert result.root == {"run": "images", "edited": ""}[run]
    assert len(result.history) == {"run": 2, "edited": 4}[run]
    assert all(cluster.nouns and cluster.exemplars for cluster in result.clusters)


@pytest.mark.parametrize(("version", "run"), RUNS)
def test_a_model_places_new_images_as_it_did(version, run):
    folder = FOLDERS / version
    want = expected(folder, run)
    predictor = mca_jax.load(folder / run)
    placed = predictor.predict(image_embeddings=want["new"])
    np.testing.assert_array_equal(placed.clusters, want["new_clusters"])
    np.testing.assert_array_equal(placed.nearest, want["new_nearest"])
    np.testing.assert_allclose(
        placed.probabilities, want["new_probabilities"], atol=TOLERANCE
    )
    again = predictor.predict(image_embeddings=want["embeddings"])
    np.testing.assert_array_equal(again.nearest, want["assignments"])
    np.testing.assert_allclose(
        again.probabilities, want["probabilities"], atol=TOLERANCE
    )


@pytest.mark.slow
@pytest.mark.parametrize("stored", VERSIONS, indirect=True)
def test_an_old_run_can_be_edited_and_saved(stored):
    before = mca_jax.load_result("edited")
    # The settings of the split are those that the old run noted.
    after = mca_jax.split_cluster(
        jax.random.key(0), before, 1, overrides=["train.epochs=1"]
    )
    assert len(after.clusters) == len(before.clusters) + 1
    parts = after.model.edits[-1]["into"]
    # In a run of before there were ids, they are the indices.
    assert not {each.id for each in before.clusters} & set(parts)
    merged = mca_jax.merge_clusters(after, parts, name="one again")
    np.testing.assert_array_equal(merged.assignments, before.assignments)
    mca_jax.save_version(merged, "newer")
    newer = mca_jax.load_result("newer")
    assert [edit["action"] for edit in newer.model.edits] == [
        *("rename", "merge", "split", "split", "merge")
    ]
    placed = mca_jax.load("newer").predict(image_embeddings=before.embeddings)
    np.testing.assert_array_equal(placed.nearest, before.assignments)
    # A workdir is taken by the run that it belongs to, as it is by a rerun.
    mca_jax.save_version(before, "edited")
    same_result(mca_jax.load_result("edited"), expected(stored, "edited"))


@pytest.mark.slow
@pytest.mark.parametrize("stored", VERSIONS, indirect=True)
def test_training_goes_on_from_an_old_checkpoint_or_begins_anew(stored):
    want, before = expected(stored, "checkpoints"), contents(stored / "checkpoints")
    told = Told()

    result = cluster_blobs(
        want["embeddings"],
        "checkpoint.every_steps=2",
        checkpoint_dir=stored / "checkpoints",
        callback=told,
    )
    assert told.of("warning") == []
    if stored.name in OUTDATED_CHECKPOINTS:
        assert told.of("resume") == []
        assert contents(stored / "checkpoints").items() >= before.items()
        return
    assert [(each["run"], each["step"]) for each in told.of("resume")] == [("train", 2)]
    # Two passes are read, two are made.
    assert [row["epoch"] for row in told.of("epoch")] == [3.0, 4.0]
    losses = [row["loss"] for row in result.history]
    np.testing.assert_allclose(losses, want["losses"], rtol=1e-3)
    np.testing.assert_array_equal(losses[:2], want["losses"][:2])
    np.testing.assert_array_equal(result.assignments, want["assignments"])
    np.testing.assert_allclose(
        result.probabilities, want["probabilities"], atol=10 * TOLERANCE
    )


@pytest.mark.parametrize("stored", VERSIONS, indirect=True)
@pytest.mark.parametrize("change", [{"settings": "losses.instance=2"}, {"scale": 0.5}])
def test_a_checkpoint_of_another_run_is_not_resumed_and_left_alone(stored, change):
    embeddings = expected(stored, "checkpoints")["embeddings"]
    before = contents(stored / "checkpoints")
    told = Told()
    cluster_blobs(
        embeddings * change.get("scale", 1),
        change.get("settings", "checkpoint.keep=2"),
        checkpoint_dir=stored / "checkpoints",
        callback=told,
    )
    assert told.of("resume") == []
    assert contents(stored / "checkpoints").items() >= before.items()


def chunks(folder):
    """Each file of embeddings, and which one it is of those that had its name."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.glob("*-cache/*/chunk-*.npy"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("stored", VERSIONS, indirect=True)
def test_kept_embeddings_are_found_again(stored):
    want, before = expected(stored, "run"), chunks(stored)
    assert len(before) == 2
    # Views, which version 0.1 did not embed, would be new.
    result = cluster_images("encoder.views=0")
    after = chunks(stored)
    # Nothing is lost that an earlier version, still in use, would look for.
    assert before.items() <= after.items()
    assert not [text for text in result.warnings if "cache" in text]
    if stored.name in OUTDATED_CACHES:
        assert len(after) > len(before)
        np.testing.assert_allclose(result.embeddings, want["embeddings"], atol=0.02)
        return
    # An embedding that was made again would have been written again.
    assert after == before
    np.testing.assert_array_equal(result.embeddings, want["embeddings"])
    assert adjusted_rand_score(result.assignments, want["assignments"]) == 1


@pytest.mark.parametrize("stored", VERSIONS, indirect=True)
@pytest.mark.parametrize("kept", ["image-cache", "noun-cache"])
def test_a_damaged_old_cache_is_named_and_made_again(stored, kept):
    if stored.name in OUTDATED_CACHES:
        pytest.skip("nobody reads it any more")
    want = expected(stored, "run")
    (path,) = (stored / kept).glob("*/chunk-*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = cluster_images()
    (warning,) = [text for text in result.warnings if "Damaged cache file" in text]
    assert path.name in warning
    np.testing.assert_allclose(result.embeddings, want["embeddings"], atol=1e-5)
    assert adjusted_rand_score(result.assignments, want["assignments"]) == 1
    # And once it is made again, nothing is said of it.
    assert not [text for text in cluster_images().warnings if "cache" in text]
