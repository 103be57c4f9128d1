"""Learning from what a user says: honoured, the same each time, kept on disk."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import NOUNS, blobs, small_run

import mca_jax
from mca_jax import MCA, Constraints, InputError, learn, questions
from mca_jax.pipeline.command_line.main import main
from mca_jax.pipeline.edit.edits import _free_id, load_result, merge_clusters
from mca_jax.pipeline.teach import apply_constraints, read_given

SAID = Constraints(must_link=[(0, 31), (31, 60)], cannot_link=[(5, 0), (0, 95)])


def links_hold(said, groups):
    together = all(groups[a] == groups[b] for a, b in said.must_link)
    return together and all(groups[a] != groups[b] for a, b in said.cannot_link)


def test_what_is_said_holds_and_what_changed_is_told():
    before = small_run()
    result, changes, rows = learn(before, constraints=SAID)
    assert links_hold(SAID, result.assignments)
    assert rows.must_link.tolist() == [[0, 31], [31, 60]]
    ids = np.array([each.id for each in result.clusters])
    old = np.array([each.id for each in before.clusters])
    moved = np.flatnonzero(ids[result.assignments] != old[before.assignments])
    np.testing.assert_array_equal(changes.rows, moved)
    np.testing.assert_array_equal(changes.after, ids[result.assignments[moved]])
    np.testing.assert_array_equal(changes.before, old[before.assignments[moved]])
    assert set(changes.made) == set(ids.tolist()) - set(old.tolist())
    assert f"{len(moved)} image" in changes.sentence()


def test_the_same_seed_gives_the_same_result():
    one, two = (learn(small_run(), constraints=SAID, seed=3).result for _ in range(2))
    np.testing.assert_array_equal(one.probabilities, two.probabilities)
    assert one.clusters == two.clusters


def two_kinds_in_one():
    """The small run, two of its groups one, and an image that stands for neither."""
    before = small_run()
    one, two = (before.clusters[before.assignments[row]].id for row in (0, 30))
    merged = merge_clusters(before, [one, two])
    lead = questions(merged, 20)
    stands = {each.b for each in lead if min(one, two) == each.groups[1]}
    return merged, 0 if max(stands) >= 30 else 30


def test_one_picture_teaches_those_like_it(tmp_path):
    merged, row = two_kinds_in_one()
    one = learn(merged, constraints={"labels": [(row, 50)]})
    # Nothing foretells a single answer: nobody follows it.
    assert one.changes.rows.tolist() == [row]
    assert one.changes.sentence().endswith(
        "too little was said for other images to follow"
    )
    unsaid = np.arange(len(merged.paths)) != row
    np.testing.assert_array_equal(
        one.result.confidences[unsaid], merged.confidences[unsaid]
    )
    said = {"labels": [(row, 50), (row + 1, 50)]}
    result, changes, _ = learn(merged, constraints=said)
    (new,) = changes.made
    assert changes.given == {50: new}
    index = [each.id for each in result.clusters].index(new)
    # The thirty around the same axis, and new ones there.
    alike = slice(row, row + 30)
    np.testing.assert_array_equal(
        np.flatnonzero(result.assignments == index), np.arange(row, row + 30)
    )
    placed = mca_jax.Predictor(result.model).predict(image_embeddings=blobs(seed=1))
    assert (placed.nearest[alike] == index).all()

    # What was learnt is kept, and edited further.
    result.save(tmp_path)
    again = load_result(tmp_path)
    np.testing.assert_array_equal(again.assignments, result.assignments)
    np.testing.assert_array_equal(again.model.groups, result.model.groups)
    ids = [each.id for each in again.clusters]
    assert [each.id for each in merge_clusters(again, ids[:2]).clusters] == [
        ids[0],
        *ids[2:],
    ]
    # No id is given twice.
    assert _free_id(again) > max(ids)


def test_an_image_of_nowhere_is_sure_of_nothing():
    before = small_run()
    learned = learn(before, constraints={"nowhere": [before.paths[7]]})
    result = learned.result
    assert result.metrics["teaching"]["nowhere"] == [7]
    np.testing.assert_allclose(result.probabilities[7], 1 / len(result.clusters))
    assert not len(learned.changes.rows)


def test_labels_follow_merges_and_not_splits():
    before = small_run()
    one, two = (each.id for each in before.clusters[:2])
    merged = merge_clusters(before, [one, two])
    row = int(np.flatnonzero(before.assignments == 3)[0])
    result = learn(merged, constraints={"labels": [(row, max(one, two))]}).result
    index = [each.id for each in result.clusters].index(min(one, two))
    assert result.assignments[row] == index
    # As after a split: its parts have ids of their own.
    renewed = [replace(before.clusters[0], id=9), *before.clusters[1:]]
    parts = replace(before, clusters=tuple(renewed))
    with pytest.raises(InputError, match=f"group {one}, which is there no more"):
        learn(parts, constraints={"labels": [(0, one)]})


def test_questions_are_answered_one_by_one():
    asked = questions(small_run(), 3, choices=2)
    assert len(asked) == 3
    ids = {each.id for each in small_run().clusters}
    assert all(set(each.groups) <= ids for each in asked)
    said = asked[0].answer()
    again = questions(small_run(), 3, constraints=said)
    assert (asked[0].a, asked[0].b) not in [(each.a, each.b) for each in again]


@pytest.mark.parametrize(("count", "choices"), [(0, 1), (1, 0), (1.5, 1)])
def test_bad_counts_are_refused(count, choices):
    with pytest.raises(InputError, match="Expected"):
        questions(small_run(), count, choices=choices)


def test_embeddings_of_other_images_are_refused():
    with pytest.raises(InputError, match="embeddings of the 120 images"):
        learn(small_run(), np.zeros((3, 8), np.float32), constraints=SAID)


def test_a_new_run_honours_what_is_said():
    said = Constraints(
        must_link=[(0, 31)], cannot_link=[(64, 65)], labels=[(1, 70), (97, 3), (98, 3)]
    )
    # The estimator hands them to ``cluster``. All else is as in the small run, which
    # is compiled already.
    nouns = np.eye(len(NOUNS), dtype=np.float32)
    config = mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=4"])
    model = MCA(4, noun_embeddings=nouns, nouns=NOUNS, config=config)
    groups = model.fit_predict(blobs(), constraints=said)
    assert links_hold(said, groups)
    assert groups[97] == groups[98] != groups[1]


def test_nothing_said_changes_no_run():
    result = small_run()
    assert read_given(Constraints(), result.paths) is None
    assert apply_constraints(result, None, seed=0) is result


def test_the_command_refuses_a_contradiction_before_it_starts(tmp_path, capsys):
    from PIL import Image

    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    path = tmp_path / "said.json"
    path.write_text(
        '{"must_link": [["a.png", "b.png"]], "cannot_link": [["a.png", "b.png"]]}'
    )
    flags = [f"--images={tmp_path}", f"--workdir={tmp_path / 'out'}"]
    command = ["cluster", *flags, "--num_clusters=2", f"--constraints={path}"]
    assert main(command) == 2
    assert "constraints that agree" in capsys.readouterr().err
    assert not (tmp_path / "out" / "result.json").exists()
