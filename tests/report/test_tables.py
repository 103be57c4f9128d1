import math

import numpy as np
import pytest
from sample_results import build_result

from mca_jax.report.page.cards import choose_rows, make_cards
from mca_jax.report.page.matrix import Contingency, make_matrix, read_contingency
from mca_jax.report.page.tables import (
    audit_rows,
    flat_settings,
    label_free_rows,
    score_rows,
)


def test_this_run_comes_first_and_the_best_is_marked():
    rows = score_rows(
        {
            "kmeans": {"acc": 0.9, "nmi": 0.8, "ari": 0.7},
            "mca": {"acc": 0.8812, "nmi": 0.8, "ari": math.nan},
            "my_method": {"acc": 0.5},
        }
    )
    assert [row.method for row in rows] == [
        "This run",
        "k-means in the space of this run",
        "My method",
    ]
    assert [row.own for row in rows] == [True, False, False]
    assert rows[0].texts == ("88.1", "80.0", "–")
    assert rows[0].best == (False, True, False)
    assert rows[1].best == (True, True, True)
    assert rows[2].texts == ("50.0", "–", "–")
    assert score_rows({}) == []


def test_label_free_numbers_are_listed():
    rows = label_free_rows(
        {
            "consistency": np.float32(0.5),
            "risk": {"imbalance": 0.25},
            "status": "text",
            "flag": True,
            "rate_exponent": math.nan,
        }
    )
    assert [(row.name, row.value) for row in rows] == [
        ("Consistency", "0.5"),
        ("Risk: imbalance", "0.25"),
        ("Rate exponent", "not finite"),
    ]
    assert "0 is best" in rows[1].note


def test_audit_counts_down_to_what_is_kept():
    rows = audit_rows({"people": 60, "my_filter": 15, "kept": 25})
    assert [(row.taken, row.left, row.kept) for row in rows] == [
        (60, 40, False),
        (15, 25, False),
        (25, 25, True),
    ]
    assert rows[0].share == 0.6
    assert (rows[1].name, rows[1].note) == ("My filter", "")
    assert audit_rows({}) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/data/jane/photos", "…/photos"),
        ("~/nouns.txt", "…/nouns.txt"),
        ("C:\\Users\\jane\\photos", "…/photos"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("photos/2024", "photos/2024"),
        ("/", "/"),
        (3, "3"),
    ],
)
def test_no_more_than_the_end_of_an_absolute_path(value, shown):
    assert flat_settings({"name": value}) == [("name", shown)]


def test_settings_are_flat_and_printable():
    assert flat_settings({"a": {"b": 1, "c": [1, 2]}, "d": "x\ny", "e": {}}) == [
        ("a.b", "1"),
        ("a.c", "[1, 2]"),
        ("d", "x\\x0ay"),
        ("e", "{}"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"counts": None},
        [[1, 2]],
        [1, 2, 3],
        {"counts": [[1, 2, 3]], "classes": ["a", "b"]},
    ],
)
def test_no_table_of_that_shape(value):
    assert read_contingency(value, 3) is None


def test_contingency_with_and_without_names():
    named = read_contingency({"counts": [[1, 2], [3, 4]], "classes": ["a", "b\n"]}, 2)
    assert named.classes == ("a", "b\\x0a")
    np.testing.assert_array_equal(named.counts, [[1, 2], [3, 4]])
    assert read_contingency(np.eye(2), 2).classes == ("0", "1")


def make_cards_of(sizes):
    assignments = np.repeat(np.arange(len(sizes)), sizes)
    result = build_result(None, num_clusters=len(sizes), assignments=assignments)
    return make_cards(result, choose_rows(result), {})


def test_matrix_puts_a_good_clustering_on_the_diagonal():
    cards = make_cards_of([5, 9, 7])
    cards.sort(key=lambda card: -card.size)
    # Class a is cluster 0, b is cluster 2, c is cluster 1.
    counts = np.array([[5, 1, 0], [0, 0, 7], [0, 8, 0]])
    matrix = make_matrix(Contingency(("a", "b", "c"), counts), cards)
    assert matrix.full
    assert matrix.classes == ("c", "b", "a")
    assert [row.name for row in matrix.rows] == ["noun 1", "noun 2", "noun 0"]
    cells = [[count for count, _ in row.cells] for row in matrix.rows]
    assert cells == [[8, 0, 1], [0, 7, 0], [0, 0, 5]]
    assert [share for _, share in matrix.rows[0].cells] == [0.889, 0.0, 0.111]
    assert matrix.rows[0].top == (("c", 8), ("a", 1))


def test_a_matrix_too_large_to_read_lists_the_main_labels():
    cards = make_cards_of([2] * 120)
    counts = np.zeros((120, 120), np.int64)
    counts[np.arange(120), np.arange(120)] = 2
    counts[:5, 0] = [2, 5, 3, 4, 1]
    classes = tuple(f"c{index}" for index in range(120))
    matrix = make_matrix(Contingency(classes, counts), cards)
    assert not matrix.full
    assert all(row.cells == () for row in matrix.rows)
    assert matrix.rows[0].top == (("c1", 5), ("c3", 4), ("c2", 3))
    assert matrix.rows[7].top == (("c7", 2),)
