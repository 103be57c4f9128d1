"""Rename, merge, split, run again: and the model follows."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from small_runs import blobs, small_encoder, small_run, small_vocabulary

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.evaluation import measure_risk
from mca_jax.model.predict import Predictor
from mca_jax.pipeline.edit.describe_again import describe_again
from mca_jax.report.write import write_outputs


@pytest.fixture(scope="module")
def split():
    """Two blobs merged and cut again."""
    merged = mca_jax.merge_clusters(small_run(), [0, 2], name="both")
    return mca_jax.split_cluster(jax.random.key(0), merged, 0, overrides=["seed=1"])


def check_consistent(result):
    """What holds for every result, however often it was edited."""
    model = result.model
    assert result.clusters == model.clusters
    assert [c.index for c in result.clusters] == list(range(len(result.clusters)))
    sizes = np.bincount(result.assignments, minlength=len(result.clusters))
    assert [c.size for c in result.clusters] == sizes.tolist()
    names = [c.name.casefold() for c in result.clusters]
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, atol=1e-5)
    for cluster in result.clusters:
        assert set(result.assignments[list(cluster.exemplars)]) <= {cluster.index}
    placed = Predictor(model).predict(image_embeddings=result.embeddings)
    np.testing.assert_array_equal(placed.nearest, result.assignments)
    np.testing.assert_allclose(placed.probabilities, result.probabilities, atol=1e-6)


def test_a_new_name_and_nothing_else():
    before = small_run()
    after = mca_jax.rename_cluster(before, 2, "  my boats ")
    check_consistent(after)
    assert after.clusters[2].name == "my boats"
    assert after.clusters[2].nouns == before.clusters[2].nouns
    np.testing.assert_array_equal(after.assignments, before.assignments)
    assert before.clusters[2].name != "my boats"
    assert before.model.edits == ()
    (edit,) = after.model.edits
    assert edit["action"] == "rename"
    assert (edit["cluster"], edit["to"]) == (2, "my boats")
    assert mca_jax.rename_cluster(after, 2, "my boats ") is after


@pytest.mark.parametrize(
    ("cluster", "name", "message"),
    [
        (4, "fine", "id of a cluster, one of 0, 1, 2, 3; found 4$"),
        (0, " ", "printable name of 1 to 100"),
        (0, "a\nb", "printable name"),
        (0, "x" * 101, "printable name"),
        (0, "None of these", "nothing else has"),
        (0, 3, "a name as text, found 3"),
        (0, None, "a name as text, found None"),
    ],
)
def test_names_that_will_not_do(cluster, name, message):
    with pytest.raises(InputError, match=message):
        mca_jax.rename_cluster(small_run(), cluster, name)


def test_a_name_that_another_cluster_has():
    taken = small_run().clusters[1].name.upper()
    with pytest.raises(InputError, match="nothing else has"):
        mca_jax.rename_cluster(small_run(), 0, taken)
    mca_jax.rename_cluster(small_run(), 1, taken)


def test_a_merged_cluster_holds_exactly_its_parts():
    before = small_run()
    after = mca_jax.merge_clusters(before, [3, 1])
    check_consistent(after)
    assert len(after.clusters) == 3
    np.testing.assert_array_equal(
        after.assignments, np.array([0, 1, 2, 1])[before.assignments]
    )
    np.testing.assert_allclose(
        after.probabilities[:, 1], before.probabilities[:, [1, 3]].sum(1), atol=1e-6
    )
    # Those that stay are what they were.
    for index in (0, 2):
        assert after.clusters[index] == before.clusters[index]
        np.testing.assert_array_equal(
            after.probabilities[:, index], before.probabilities[:, index]
        )
    parts = {before.clusters[index].name for index in (1, 3)}
    assert {noun.name for noun in after.clusters[1].nouns} >= parts
    assert mca_jax.merge_clusters(before, [0, 1], name="pair").clusters[0].name == (
        "pair"
    )


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([1], "two or more different clusters, found \\[1\\]"),
        ([1, 1], "two or more different"),
        ([1, 9], "one of 0, 1, 2, 3; found 9"),
        ([0, 1, 2, 3], "some of the clusters, found all 4"),
        ("01", "a list of ids, found '01'"),
        (None, "a list of ids, found None"),
        (["a", 1], "id of a cluster as a whole number, found 'a'"),
    ],
)
def test_clusters_that_cannot_be_merged(clusters, message):
    with pytest.raises(InputError, match=message):
        mca_jax.merge_clusters(small_run(), clusters)


def test_ids_stay_while_indices_move():
    before = small_run()
    after = mca_jax.merge_clusters(before, [0, 1], name="first two")
    assert [each.id for each in after.clusters] == [0, 2, 3]
    assert [each.name for each in after.clusters[1:]] == [
        each.name for each in before.clusters[2:]
    ]
    renamed = mca_jax.rename_cluster(after, 3, "the last")
    assert renamed.clusters[2].name == "the last"
    with pytest.raises(InputError, match="one of 0, 2, 3; found 1, .* merged into 0"):
        mca_jax.rename_cluster(after, 1, "gone")
    parts = mca_jax.split_cluster(renamed, 0, seed=0, overrides={"train.epochs": 2})
    check_consistent(parts)
    # Never the id that another cluster had.
    assert [each.id for each in parts.clusters] == [4, 2, 3, 5]
    edit = parts.model.edits[-1]
    assert (edit["into"], edit["overrides"]) == ([4, 5], ["train.epochs=2"])
    with pytest.raises(InputError, match=r"found 0, .* split into \[4, 5\]"):
        mca_jax.merge_clusters(parts, [0, 2])
    with pytest.raises(TypeError, match="split_cluster"):
        mca_jax.split_cluster(renamed, 0)


def test_the_metrics_are_those_of_the_result(split):
    for result in (small_run(), split, mca_jax.merge_clusters(small_run(), [0, 1])):
        near = small_run().neighbors
        risk = measure_risk(result.probabilities, near)
        for name, value in risk._asdict().items():
            assert result.metrics["label_free"][name] == float(value)


def test_an_edit_that_changes_nothing_changes_no_byte(tmp_path):
    before = small_run()
    count = len(before.clusters)
    again = describe_again(before, before.model, origins=range(count), ids={}, names={})
    for name, result in (("before", before), ("again", again)):
        (tmp_path / name).mkdir()
        write_outputs(result, tmp_path / name)
    mca_jax.save_version(before, tmp_path / "saved")
    mca_jax.save_version(mca_jax.load_result(tmp_path / "saved"), tmp_path / "resaved")
    for one, other in (("before", "again"), ("saved", "resaved")):
        files = sorted(path.name for path in (tmp_path / one).iterdir())
        assert files == sorted(path.name for path in (tmp_path / other).iterdir())
        for name in files:
            same = (tmp_path / one / name).read_bytes()
            assert same == (tmp_path / other / name).read_bytes(), name


def test_scores_of_the_old_clusters_are_left_out():
    scored = mca_jax.score_result(
        small_run(), np.repeat(np.arange(4), 30), ["a", "b", "c", "d"]
    )
    assert "scores" in scored.metrics
    after = mca_jax.merge_clusters(scored, [0, 1])
    assert "scores" not in after.metrics
    assert "contingency" not in after.metrics
    again = mca_jax.score_result(
        after, np.repeat(np.arange(4), 30), ["a", "b", "c", "d"]
    )
    assert again.metrics["scores"]["mca"]["acc"] == 0.75


def test_the_parts_of_a_split_are_exactly_the_cluster(split):
    # What was merged comes apart again.
    merged = mca_jax.merge_clusters(small_run(), [0, 2], name="both")
    after = split
    check_consistent(after)
    assert len(after.clusters) == 4
    inside = np.isin(after.assignments, [0, 3])
    np.testing.assert_array_equal(inside, merged.assignments == 0)
    np.testing.assert_array_equal(
        after.assignments[~inside], merged.assignments[~inside]
    )
    assert after.clusters[1].name == merged.clusters[1].name
    truth = small_run().assignments[inside]
    parts = after.assignments[inside]
    assert len({*zip(truth.tolist(), parts.tolist(), strict=True)}) == 2
    names = {small_run().clusters[index].name for index in (0, 2)}
    assert {after.clusters[index].name for index in (0, 3)} == names
    np.testing.assert_allclose(
        after.probabilities[:, [0, 3]].sum(1), merged.probabilities[:, 0], atol=1e-6
    )


def test_edits_follow_each_other_and_new_images_follow_them(split, tmp_path):
    # A part of the split with what was never touched.
    again = mca_jax.merge_clusters(split, [1, split.clusters[3].id])
    last = mca_jax.rename_cluster(again, 1, "mixed")
    check_consistent(last)
    mca_jax.save_version(last, tmp_path / "v2")
    fresh = blobs(seed=5)
    placed = mca_jax.load(tmp_path / "v2").predict(image_embeddings=fresh)
    before = Predictor(small_run().model).predict(image_embeddings=fresh)
    # Every old cluster is within one new one, and the name is the user's.
    pairs = {*zip(before.nearest.tolist(), placed.nearest.tolist(), strict=True)}
    assert len(pairs) == 4
    assert "mixed" in placed.names
    actions = [edit["action"] for edit in mca_jax.load(tmp_path / "v2").model.edits]
    assert actions == ["merge", "split", "merge", "rename"]
    settings = json.loads((tmp_path / "v2" / "config.json").read_text())["settings"]
    assert [line.split(":")[0] for line in settings["edits"]] == actions
    assert "mixed" in (tmp_path / "v2" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_the_same_key_gives_the_same_files(split, tmp_path):
    merged = mca_jax.merge_clusters(small_run(), [0, 2], name="both")
    again = mca_jax.split_cluster(jax.random.key(0), merged, 0, overrides=["seed=1"])
    assert again.model.edits[-1]["key"] == [0, 0]
    mca_jax.save_version(split, tmp_path / "one")
    mca_jax.save_version(again, tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_version_does_not_overwrite_another(tmp_path):
    mca_jax.save_version(mca_jax.rename_cluster(small_run(), 0, "one"), tmp_path)
    other = mca_jax.rename_cluster(small_run(), 0, "two")
    with pytest.raises(InputError, match=r"belongs to another configuration: edits"):
        mca_jax.save_version(other, tmp_path)
    mca_jax.save_version(other, tmp_path, overwrite=True)
    assert mca_jax.load_result(tmp_path).clusters[0].name == "two"


def test_splits_that_cannot_be(key):
    with pytest.raises(InputError, match="num_parts between 2 and"):
        mca_jax.split_cluster(key, small_run(), 0, num_parts=1)
    with pytest.raises(InputError, match="one of 0, 1, 2, 3; found 7"):
        mca_jax.split_cluster(key, small_run(), 7)
    with pytest.raises(InputError, match="did you mean"):
        mca_jax.split_cluster(key, small_run(), 0, overrides=["train.epoch=2"])
    bare = dataclasses.replace(small_run(), model=None)
    with pytest.raises(InputError, match="without a model"):
        mca_jax.split_cluster(key, bare, 0)


@pytest.mark.slow
def test_the_same_images_again(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (6, 40, 40, 3), np.uint8)
    result = mca_jax.rename_cluster(small_run(), 0, "first")
    with small_encoder() as encoder:
        changes = ["num_clusters=3", small_vocabulary(tmp_path), encoder]
        again = mca_jax.rerun(result, changes, images=pixels)
    assert len(again.clusters) == 3
    assert again.config["train"]["epochs"] == 4
    assert [edit["action"] for edit in again.model.edits] == ["rename", "rerun"]
    assert len(again.paths) == 6
    with pytest.raises(InputError, match="made from arrays"):
        mca_jax.rerun(result, [])
