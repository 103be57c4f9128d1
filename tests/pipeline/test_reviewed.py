"""A run with the edits of its review: from Python, and in exports."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from command import run_command
from small_reviews import open_desk, write_run
from small_runs import blobs, small_run

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.model.cluster_model import NONE_OF_THESE
from mca_jax.model.predict import Predictor
from mca_jax.pipeline.edit.edits import _free_id
from mca_jax.pipeline.edit.lessons import _base, _join
from mca_jax.pipeline.edit.reviewed import apply_groups
from mca_jax.report.review import History


def groups_after(*events):
    history = History(small_run())
    for event in events:
        history.add(event)
    return history.groups


def rows_of(index):
    return np.flatnonzero(small_run().assignments == index).tolist()


def test_without_edits_it_is_the_result_itself(tmp_path):
    run = write_run(tmp_path)
    assert mca_jax.load_result(run).model.edits == ()
    result = small_run()
    same = apply_groups(result, groups_after())
    np.testing.assert_array_equal(same.assignments, result.assignments)
    np.testing.assert_array_equal(same.probabilities, result.probabilities)
    assert same.clusters == result.clusters
    assert same.tree is result.tree


def test_a_rename_keeps_the_tree_and_renames_in_it():
    result = small_run()
    event = {"action": "rename", "group": 1, "name": "mine"}
    edited = apply_groups(result, groups_after(event))
    assert edited.clusters[1].name == "mine"
    assert not edited.clusters[1].guess
    assert "mine" in edited.tree.names
    assert edited.clusters[0] == result.clusters[0]


def test_a_merge_is_that_of_python():
    result = small_run()
    event = {"action": "merge", "groups": [3, 1], "name": "both"}
    edited = apply_groups(result, groups_after(event))
    merged = mca_jax.merge_clusters(result, [1, 3], name="both")
    np.testing.assert_array_equal(edited.assignments, merged.assignments)
    np.testing.assert_allclose(edited.probabilities, merged.probabilities, atol=1e-6)
    np.testing.assert_array_equal(edited.model.groups, merged.model.groups)
    assert [(each.id, each.name, each.size) for each in edited.clusters] == [
        (each.id, each.name, each.size) for each in merged.clusters
    ]
    # New images, too.
    new = blobs(seed=3)
    one, other = (Predictor(each.model).assign(new) for each in (edited, merged))
    np.testing.assert_array_equal(one.clusters, other.clusters)


def test_images_that_were_moved_are_sure_and_those_of_nowhere_apart():
    result, rows = small_run(), rows_of(2)
    edited = apply_groups(
        result,
        groups_after(
            {"action": "move", "rows": rows[:3], "into": 0},
            {"action": "mark", "rows": rows[3:5], "mark": "outlier"},
            {"action": "move", "rows": rows[5:9], "into": 7, "name": "new"},
        ),
    )
    names = [each.name for each in edited.clusters]
    assert names[0] == "new"
    assert names[-1] == NONE_OF_THESE
    own = [names[index] for index in edited.assignments[rows[:9]]]
    assert own == [names[1]] * 3 + [NONE_OF_THESE] * 2 + ["new"] * 4
    np.testing.assert_allclose(edited.confidences[rows[:9]], 1.0)
    np.testing.assert_allclose(edited.probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert [each.size for each in edited.clusters] == np.bincount(
        edited.assignments
    ).tolist()
    assert len({each.id for each in edited.clusters}) == len(edited.clusters)
    assert edited.tree is None
    # No new image falls where only hands put some.
    new = Predictor(edited.model).assign(blobs(seed=3))
    assert set(new.clusters.tolist()) == {1, 2, 3, 4}


def test_groups_that_are_one_wait_to_be_put_together():
    said = [{"action": "same", "groups": pair} for pair in ([2, 1], [3, 2], [0, 3])]
    groups = groups_after(*said)
    assert sorted(groups.names) == [0, 1, 2, 3]
    joined, into = _join(groups)
    # The last would leave one group of all.
    assert into == {2: 1, 3: 1}
    assert {*joined.of[rows_of(3)], *joined.of[rows_of(1)]} == {1}
    assert sorted(joined.names) == [0, 1]
    # A group that is gone is in nothing.
    gone = {"action": "merge", "groups": [1, 2], "name": "both"}
    assert _join(groups_after(said[0], gone))[1] == {}


def test_what_was_placed_is_news_to_learning():
    result, rows = small_run(), rows_of(2)
    event = {"action": "move", "rows": rows[:2], "into": 0}
    new = {"action": "move", "rows": rows[2:3], "into": 9, "name": "new"}
    base = _base(result, groups_after(event, new))
    # Where each was before; the group that only a hand made is there, and empty.
    np.testing.assert_array_equal(base.assignments - 1, result.assignments)
    sizes = [(each.id, each.size) for each in base.clusters]
    assert sizes == [(9, 0), (0, 30), (1, 30), (2, 30), (3, 30)]


def test_parts_of_a_split_share_what_the_whole_had():
    result, rows = small_run(), rows_of(1)
    parts = [
        {"id": 8, "name": "more", "rows": rows[:20]},
        {"id": 9, "name": "less", "rows": rows[20:]},
    ]
    event = {"action": "split", "group": 1, "parts": parts}
    edited = apply_groups(result, groups_after(event))
    np.testing.assert_allclose(
        edited.confidences[rows], result.confidences[rows], atol=1e-6
    )
    # Who is split again in Python gets ids that nobody had.
    assert _free_id(edited) == 10
    assert _free_id(result) == 4


@pytest.fixture
def edited(tmp_path):
    """A run with a merge, a kept version, and a move after it."""
    run = write_run(tmp_path)
    with open_desk(run) as (_, review):
        review.add({"action": "merge", "groups": [0, 1], "name": "both"})
        review.add({"action": "version", "name": "merged"})
        rows = rows_of(2)[:2]
        review.add({"action": "move", "rows": rows, "into": 3})
        review.add({"action": "mark", "rows": rows[:1], "mark": "duplicate"})
    return run


def test_python_sees_the_edits(edited, tmp_path):
    sizes = [each.size for each in mca_jax.load_result(edited).clusters]
    assert sizes == [60, 28, 32]
    kept = mca_jax.load_result(edited, version="merged")
    assert [each.size for each in kept.clusters] == [60, 30, 30]
    trained = mca_jax.load_result(edited, reviewed=False)
    assert [each.size for each in trained.clusters] == [30] * 4
    with pytest.raises(InputError, match="one of 'merged'; found 'other'"):
        mca_jax.load_result(edited, version="other")
    # An edited run is one like any other.
    mca_jax.load_result(edited).save(tmp_path / "own")
    again = mca_jax.load_result(tmp_path / "own")
    assert [each.size for each in again.clusters] == sizes
    assert again.model.edits[-1]["action"] == "review"


def test_edits_of_another_state_are_said(edited):
    result = mca_jax.load_result(edited, reviewed=False)
    replace(result, paths=(*result.paths[1:], "new.jpg")).save(edited)
    with pytest.raises(InputError, match="another state of the run"):
        mca_jax.load_result(edited)
    assert len(mca_jax.load_result(edited, reviewed=False).clusters) == 4


def exported(run, folder, *flags):
    done = run_command("export", f"--run={run}", f"--workdir={folder}", *flags)
    assert done.returncode == 0, done.stderr
    with (folder / "assignments.csv").open(encoding="utf-8-sig", newline="") as file:
        return done.stdout, list(csv.DictReader(file))


def test_export_takes_the_edits_and_says_so(edited, tmp_path):
    said, rows = exported(edited, tmp_path / "a")
    assert "With 3 edits of mca-jax review" in said
    assert sum(row["cluster_name"] == "both" for row in rows) == 60
    marks = sorted(row["mark"] for row in rows if row["mark"])
    assert marks == ["placed by hand", "placed by hand, duplicate"]
    said, rows = exported(edited, tmp_path / "b", "--version=merged")
    assert "Version 'merged'" in said
    assert not any(row["mark"] for row in rows)
    said, rows = exported(edited, tmp_path / "c", "--noreviewed")
    assert "review" not in said
    assert len({row["cluster"] for row in rows}) == 4


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "Expected --run"),
        (["nowhere"], "No such folder: 'nowhere'"),
        (["{run}", "--port=99999"], "between 0 and 65535"),
        (["{run}", "more"], "Unknown argument"),
    ],
)
def test_the_command_says_what_it_lacks(tmp_path, flags, match):
    flags = [flag.format(run=tmp_path) for flag in flags]
    if flags and flags[0] == str(tmp_path):
        flags[0] = str(write_run(tmp_path))
    done = run_command("review", "--nobrowser", *flags)
    assert done.returncode == 2
    assert match in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "mca_jax.report.review.app", raising=False)
    done = run_command("review", str(write_run(tmp_path)), "--nobrowser")
    assert done.returncode == 2
    assert "pip install 'mca-jax[review]'" in done.stderr
