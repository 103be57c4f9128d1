"""What the lines beside teaching do, and what the page makes of an answer."""

import numpy as np
import pytest

from benchmarks.teaching import _edits, penalized_kmeans
from mca_jax import Constraints
from mca_jax.model.constraints import as_constraints

POINTS = np.array([[1, 0], [0.98, 0.2], [0.75, 0.66], [0, 1]])
POINTS /= np.linalg.norm(POINTS, axis=1, keepdims=True)


def clusters(**said):
    rows = as_constraints(Constraints(**said), [""] * len(POINTS))
    return penalized_kmeans(POINTS, np.eye(2), rows).tolist()


def test_a_broken_link_costs_what_a_distance_may():
    assert clusters() == [0, 0, 0, 1]
    # The third is nearly as near to the other cluster; the first is not.
    assert clusters(must_link=[(2, 3)]) == [0, 0, 1, 1]
    assert clusters(cannot_link=[(0, 2)]) == [0, 0, 1, 1]
    assert clusters(must_link=[(0, 3)]) == [0, 0, 0, 1]


WHICH = {"rows": [0, 4, 5, 6], "groups": [7, 8, 9], "same": False}
PAIR = {"rows": [4, 5], "groups": [7, 8], "same": True}


@pytest.mark.parametrize(
    ("asked", "kinds", "there", "edits"),
    [
        (WHICH, "a___bac", {7, 8, 9}, [{"action": "move", "rows": [0], "into": 8}]),
        (WHICH, "a___bbc", {7, 8, 9}, [{"action": "move", "rows": [0]}]),
        (
            WHICH,
            "a___aba",
            {7, 8, 9},
            [
                {"action": "same", "groups": [7, 9]},
                {"action": "move", "rows": [0], "into": 7},
            ],
        ),
        (WHICH, "a___aaa", {7}, []),
        (PAIR, "____aa_", {7, 8}, [{"action": "same", "groups": [7, 8]}]),
        (
            PAIR,
            "____ab_",
            {7, 8},
            [{"action": "answer", "rows": [4, 5], "same": False}],
        ),
    ],
)
def test_an_answer_is_edits(asked, kinds, there, edits):
    assert _edits(asked, there, np.array(list(kinds))) == edits
