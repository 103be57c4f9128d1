"""Draws of classes and the table of errors."""

import numpy as np

from benchmarks.cluster_count import Labelled, draw_classes, join_sets, table_row
from mca_jax.neighbors.cluster_count import ClusterCount


def _set(name, sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(labels), dtype=np.float32)[:, None]
    return Labelled(name, np.concatenate([rows, labels[:, None]], axis=1), labels)


def test_a_draw_keeps_whole_classes():
    given = _set("a", [3, 5, 4, 6])
    drawn = draw_classes(given, 2, 0)
    assert drawn.num_classes == 2
    kept = drawn.embeddings[:, 1].astype(int)
    for label in range(2):
        (source,) = set(kept[drawn.labels == label])
        assert (kept == source).sum() == (given.labels == source).sum()
    assert (np.diff(drawn.embeddings[:, 0]) > 0).all()
    again = draw_classes(given, 2, 0)
    np.testing.assert_array_equal(again.embeddings, drawn.embeddings)


def test_large_classes_are_thinned():
    drawn = draw_classes(_set("a", [3, 50]), 2, 1, most_of_class=10)
    assert sorted(np.bincount(drawn.labels)) == [3, 10]


def test_classes_of_a_union_are_apart():
    union = join_sets([_set("a", [2, 1]), _set("b", [1, 1, 1])])
    assert union.name == "a + b"
    assert union.labels.tolist() == [0, 0, 1, 2, 3, 4]


def test_a_row_counts_errors_and_hits():
    counts = np.arange(2, 9)
    found = [
        ClusterCount(5, 4, 6, counts, np.zeros(7), 100),
        ClusterCount(8, 7, 8, counts, np.zeros(7), 100),
    ]
    assert table_row("a", 6, found, 2.4) == (
        "| a | 6 | 5 (4 to 6), 8 (7 to 8) | 1.5 | 1 of 2 | 2 |"
    )
