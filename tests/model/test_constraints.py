"""Constraints: what follows from them, what contradicts, and their files."""

import json

import numpy as np
import pytest

from mca_jax import Constraints, InputError
from mca_jax.model.constraints import (
    as_constraints,
    close_constraints,
    read_constraints,
    write_constraints,
)

PATHS = [f"{letter}.jpg" for letter in "abcdefgh"]


def close(**said):
    return close_constraints(as_constraints(Constraints(**said), PATHS), len(PATHS))


def test_links_close_over_each_other_and_over_labels():
    found = close(
        must_link=[(0, 1), ("b.jpg", 2)], labels=[(2, 5), (3, 5)], cannot_link=[(4, 0)]
    )
    assert found.components.tolist() == [0, 0, 0, 0, 1, -1, -1, -1]
    assert found.apart.tolist() == [[0, 1]]
    assert found.labels.tolist() == [5, -1]
    assert found.knows(0, 3)
    assert found.knows(4, 3)
    assert not found.knows(4, 5)


def test_images_of_two_groups_are_apart():
    assert close(labels=[(0, 1), (1, 2), (2, 3)]).apart.tolist() == [
        [0, 1],
        [0, 2],
        [1, 2],
    ]


def test_nothing_said_closes_to_nothing():
    found = close()
    assert (found.components == -1).all()
    assert found.apart.shape == (0, 2)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (
            {"must_link": [(0, 1), (1, 2)], "cannot_link": [(2, 0)]},
            r"images 2 and 0 .*cannot_link.*2 = 1 = 0",
        ),
        ({"cannot_link": [(3, 3)]}, "images 3 and 3"),
        (
            {"labels": [(0, 4), (1, 6)], "must_link": [(0, 1)]},
            "group 4 and of group 6",
        ),
        ({"labels": [(0, 4), (0, 6)]}, "group 4 and of group 6"),
        ({"nowhere": [3], "must_link": [(3, 4)]}, "image 3 to belong nowhere"),
        ({"nowhere": [3], "labels": [(3, 4)]}, "image 3 to belong nowhere"),
    ],
)
def test_a_contradiction_is_named_with_what_leads_there(said, named):
    with pytest.raises(InputError, match=named):
        close(**said)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"must_link": [(0, 8)]}, "rows between 0 and 7"),
        ({"must_link": [(0, -1)]}, "rows between 0 and 7"),
        ({"must_link": [(0, 1.5)]}, r"found 1\.5"),
        ({"must_link": [(0, True)]}, "found True"),
        ({"cannot_link": [(0, 1, 2)]}, "as pairs"),
        ({"cannot_link": ["ab"]}, "as pairs"),
        ({"nowhere": ["z.jpg"]}, r"'z\.jpg', which is not among"),
        ({"labels": [(0, -3)]}, "id of a group"),
        ({"labels": [(0, "cat")]}, "id of a group"),
    ],
)
def test_what_is_not_of_the_set_is_refused(said, named):
    with pytest.raises(InputError, match=named):
        as_constraints(said, PATHS)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="'must_links'"):
        as_constraints({"must_links": []}, PATHS)


def test_files_hold_paths_and_come_back(tmp_path):
    said = Constraints([(0, 1)], [(2, "d.jpg")], [(4, 9)], [7])
    path = tmp_path / "said.json"
    write_constraints(said, path, PATHS)
    assert json.loads(path.read_text())["must_link"] == [["a.jpg", "b.jpg"]]
    # Of a set in another order the rows are others, and the images the same.
    turned = read_constraints(path, PATHS[::-1])
    assert turned.must_link.tolist() == [[7, 6]]
    assert turned.labels.tolist() == [[3, 9]]
    for one, two in zip(
        as_constraints(said, PATHS), read_constraints(path, PATHS), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_labels_of_a_file_may_be_a_mapping(tmp_path):
    path = tmp_path / "said.json"
    path.write_text('{"labels": {"c.jpg": 2}}')
    assert read_constraints(path, PATHS).labels.tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "as JSON"),
        ("[1]", "an object"),
        ('{"nowhere": ["z.jpg"]}', "not among"),
        ('{"must_link": 5}', "must_link of constraints as a list, found 5"),
        ('{"cannot_link": null}', "as a list, found None"),
        ('{"nowhere": {"a.jpg": 1}}', "as a list, found .'a.jpg'"),
        ('{"labels": "a.jpg"}', "as a list, found 'a.jpg'"),
        ('{"labels": [["a.jpg", 9223372036854775808]]}', "id of a group"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, named):
    path = tmp_path / "said.json"
    path.write_text(text)
    with pytest.raises(InputError, match=named) as caught:
        read_constraints(path, PATHS)
    assert "said.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json"):
        read_constraints(tmp_path / "none.json", PATHS)
