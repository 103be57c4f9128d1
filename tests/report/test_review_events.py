"""The groups of a review: what each edit does, undo, and the file of events."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_reviews import open_desk, write_run
from small_runs import small_run

from mca_jax.core.errors import InputError
from mca_jax.report.review import (
    NOWHERE,
    History,
    apply_event,
    first_groups,
    open_review,
    read_review,
)

FIRST = first_groups(small_run())
MEMBERS = {id: np.flatnonzero(FIRST.of == id).tolist() for id in FIRST.names}
EDITS = (
    {"action": "rename", "group": 1, "name": "my boats"},
    {"action": "merge", "groups": [3, 0], "name": "both"},
    {"action": "move", "rows": MEMBERS[1][:3], "into": 2},
    {"action": "move", "rows": MEMBERS[1][3:5], "into": 8, "name": "new"},
    {"action": "mark", "rows": MEMBERS[2][:2], "mark": "outlier"},
    {"action": "mark", "rows": MEMBERS[2][2:4], "mark": "duplicate"},
    {"action": "refuse", "rows": MEMBERS[2][4:5], "into": [0]},
    {
        "action": "split",
        "group": 0,
        "parts": [
            {"id": 9, "name": "left", "rows": MEMBERS[0]},
            {"id": 10, "name": "right", "rows": [*MEMBERS[3], MEMBERS[2][4]]},
        ],
    },
    {"action": "answer", "rows": [4, 70], "same": False},
    {"action": "same", "groups": [10, 2]},
    {
        "action": "learn",
        "rows": [*MEMBERS[1][5:], MEMBERS[0][3]],
        "into": [*[11] * 25, -1],
        "made": [{"id": 11, "name": "learnt", "guess": True}],
        "gone": [1],
        "learned": "0001",
    },
)


def replayed(*events):
    history = History(small_run())
    for event in events:
        history.add(event)
    return history


def same(one, other):
    return (
        np.array_equal(one.of, other.of)
        and np.array_equal(one.placed, other.placed)
        and np.array_equal(one.duplicates, other.duplicates)
        and dict(one.names) == dict(other.names)
        and list(one.names) == list(other.names)
        and dict(one.refused) == dict(other.refused)
        and one.answers == other.answers
        and one.same == other.same
    )


def test_each_edit_does_what_it_says():
    after = replayed(*EDITS).groups
    assert [name.text for name in after.names.values()] == [
        *("new", "left", "right", FIRST.names[2].text, "learnt")
    ]
    sizes = after.sizes()
    assert sizes == {8: 2, 9: 29, 10: 31, 2: 30, 11: 25, NOWHERE: 3}
    assert after.learned == "0001"
    assert after.of[MEMBERS[2][4]] == 10
    assert after.placed.sum() == 7
    assert np.flatnonzero(after.duplicates).tolist() == MEMBERS[2][2:4]
    assert after.refused == {MEMBERS[2][4]: (2,)}
    assert after.answers == ((4, 70, False),)
    # The groups of before are as they were.
    assert same(FIRST, first_groups(small_run()))


def test_undo_goes_all_the_way_back_and_redo_all_the_way_again():
    history = replayed(*EDITS)
    last = history.groups
    seen = [last]
    while history.undo:
        history.add({"action": "undo"})
        seen.append(history.groups)
    assert len(seen) == len(EDITS) + 1
    assert same(history.groups, FIRST)
    for before in reversed(seen[:-1]):
        history.add({"action": "redo"})
        assert same(history.groups, before)
    with pytest.raises(InputError, match="nothing to do again"):
        history.add({"action": "redo"})
    history.add({"action": "undo"})
    history.add(EDITS[0] | {"name": "other"})
    assert not history.redo


def test_an_id_is_never_given_twice():
    history = replayed(*EDITS[:4])
    assert history.next_id == 9
    history.add({"action": "undo"})
    assert 8 not in history.groups.names
    assert history.next_id == 9


@pytest.mark.parametrize(
    ("event", "match"),
    [
        ({"action": "rename", "group": 7, "name": "x"}, "No group has the id 7"),
        ({"action": "rename", "group": 0, "name": " "}, "Expected a printable name"),
        ({"action": "rename", "group": 0, "name": "a\nb"}, "Expected a printable name"),
        ({"action": "rename", "group": 0, "name": "None of these"}, "no other group"),
        ({"action": "rename", "group": 0}, "lacks a part"),
        ({"action": "merge", "groups": [1], "name": "x"}, "two or more"),
        ({"action": "merge", "groups": [1, 1], "name": "x"}, "two or more"),
        ({"action": "merge", "groups": [0, 1, 2, 3], "name": "x"}, "found all 4"),
        ({"action": "move", "rows": [], "into": 1}, "at least one image"),
        ({"action": "move", "rows": [120], "into": 1}, "0 to 119"),
        ({"action": "move", "rows": [True], "into": 1}, "0 to 119"),
        ({"action": "move", "rows": [1, 1], "into": 1}, "found one twice"),
        ({"action": "move", "rows": "../x", "into": 1}, "at least one image"),
        ({"action": "move", "rows": [1], "into": 1, "name": "n"}, "id of a new group"),
        ({"action": "mark", "rows": [1], "mark": "odd"}, "Unknown mark"),
        ({"action": "refuse", "rows": [1], "into": [77]}, "groups that are there"),
        ({"action": "split", "group": 0, "parts": []}, "two or more parts"),
        ({"action": "answer", "rows": [3], "same": True}, "lacks a part"),
        (
            {
                **{"action": "learn", "rows": [], "into": [], "made": []},
                **{"gone": [1], "learned": "1"},
            },
            "a group that is gone",
        ),
        ({"action": "boom"}, "Unknown edit 'boom'"),
        ({}, "Unknown edit"),
    ],
)
def test_what_cannot_be_done_is_refused(event, match):
    with pytest.raises(InputError, match=match):
        apply_event(FIRST, event)


def test_a_part_of_another_group_is_refused():
    parts = [
        {"id": 8, "name": "a", "rows": MEMBERS[0][:4]},
        {"id": 9, "name": "b", "rows": [*MEMBERS[0][4:], MEMBERS[1][0]]},
    ]
    with pytest.raises(InputError, match="images of group 0"):
        apply_event(FIRST, {"action": "split", "group": 0, "parts": parts})
    parts[1]["rows"] = MEMBERS[0][5:]
    with pytest.raises(InputError, match="every image of group 0"):
        apply_event(FIRST, {"action": "split", "group": 0, "parts": parts})


def test_a_version_is_what_it_was(tmp_path):
    history = replayed(EDITS[0], {"action": "version", "name": "one"}, *EDITS[1:])
    assert same(history.versions["one"], replayed(EDITS[0]).groups)
    with pytest.raises(InputError, match="already"):
        history.add({"action": "version", "name": "one"})


def test_a_review_is_opened_where_it_was_left(tmp_path):
    run = write_run(tmp_path)
    with open_desk(run) as (_, review):
        for event in EDITS:
            review.add(event)
        review.add({"action": "undo"})
        left = review.history
    with open_desk(run) as (_, review):
        assert same(review.history.groups, left.groups)
        assert (review.history.undo, review.history.redo) == (left.undo, left.redo)
        assert review.history.count == len(EDITS) + 1
        assert not review.notes
    read = read_review(small_run_of(run), run)
    assert same(read.groups, left.groups)


def small_run_of(run):
    from mca_jax.model.result import read_result

    return read_result(run)


@pytest.mark.parametrize("torn", [b'{"action": "mer', b"\0\0\0", b'{"a": 1}'])
def test_a_line_cut_short_is_dropped_and_said(tmp_path, torn):
    run = write_run(tmp_path)
    with open_desk(run) as (_, review):
        review.add(EDITS[0])
    file = run / "review" / "events.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    with open_desk(run) as (desk, review):
        assert review.history.count == 1
        assert "cut short" in review.notes[0]
        assert desk.state()["notes"] == list(review.notes)
        review.add(EDITS[1])
    lines = file.read_bytes().splitlines()
    assert [json.loads(line).get("action") for line in lines] == [
        *(None, "rename", "merge")
    ]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    run = write_run(tmp_path)
    with open_desk(run) as (_, review):
        review.add(EDITS[0])
    file = run / "review" / "events.jsonl"
    header, event = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(header + b"{oops}\n" + event)
    with pytest.raises(InputError, match="Damaged line 2"), open_desk(run):
        pass


def test_edits_of_another_run_are_not_applied(tmp_path):
    run = write_run(tmp_path)
    with open_desk(run) as (_, review):
        review.add(EDITS[0])
    result = small_run_of(run)
    replace(result, paths=(*result.paths[1:], "new.jpg")).save(run)
    with pytest.raises(InputError, match="another state of the run"), open_desk(run):
        pass


def test_two_programs_don_t_write_one_review(tmp_path):
    run = write_run(tmp_path)
    with (
        open_desk(run),
        pytest.raises(InputError, match="open in another"),
        open_desk(run),
    ):
        pass


def test_nothing_is_written_through_a_link(tmp_path):
    run = write_run(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / "review").symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link"), open_desk(run):
        pass
    assert not list(elsewhere.iterdir())


def test_a_full_disk_changes_nothing(tmp_path):
    run = write_run(tmp_path)
    with open_desk(run) as (_, review):
        review.add(EDITS[0])

        class Full:
            """A file that takes half of a line."""

            def __init__(self, file):
                self.file = file

            def __getattr__(self, name):
                return getattr(self.file, name)

            def write(self, line):
                self.file.write(line[:5])
                raise OSError(28, "No space left on device")

        whole, review._file = review._file, Full(review._file)
        with pytest.raises(InputError, match="No space left"):
            review.add(EDITS[1])
        assert review.history.count == 1
        review._file = whole
        review.add(EDITS[2])
    with open_desk(run) as (_, review):
        assert review.history.count == 2


def test_open_review_needs_a_run(tmp_path):
    with pytest.raises(InputError, match="No such folder"):
        open_review(small_run(), tmp_path / "nowhere")
