import dataclasses

import numpy as np
import pytest
from sample_results import build_result

from mca_jax.model.result import ScoredNoun
from mca_jax.report.cards import (
    Contingency,
    choose_rows,
    make_cards,
    make_matrix,
    make_picture,
    read_contingency,
)


@pytest.mark.parametrize(
    ("clusters", "images", "exemplars", "borderline", "uncertain"),
    [
        (2, 200, 12, 4, 10),
        (100, 4000, 12, 4, 32),
        (300, 6000, 8, 2, 32),
        (1000, 9000, 3, 0, 32),
    ],
)
def test_fewer_pictures_a_cluster_where_clusters_are_many(
    clusters, images, exemplars, borderline, uncertain
):
    rows = choose_rows(build_result(None, num_clusters=clusters, num_images=images))
    assert {len(group) for group in rows.exemplars} == {exemplars}
    assert {len(group) for group in rows.borderline} == {borderline}
    assert len(rows.uncertain) == uncertain
    assert len(rows.all) <= 3232


def test_rows_are_the_right_ones():
    result = build_result(None, num_clusters=3, num_images=90)
    rows = choose_rows(result)
    confidences = result.confidences
    for index, cluster in enumerate(result.clusters):
        shown, doubtful = rows.exemplars[index], rows.borderline[index]
        assert shown == cluster.exemplars[:12]
        assert not set(shown) & set(doubtful)
        own = np.flatnonzero(result.assignments == index)
        rest = sorted(set(own.tolist()) - set(shown), key=lambda row: confidences[row])
        assert list(doubtful) == rest[:4]
    lowest = np.sort(confidences)[: len(rows.uncertain)]
    np.testing.assert_array_equal(confidences[list(rows.uncertain)], lowest)
    shown = {*sum(rows.exemplars, ()), *sum(rows.borderline, ()), *rows.uncertain}
    assert rows.all == sorted(shown)


def test_clusters_of_one_image_and_of_none():
    result = build_result(
        None, assignments=np.array([0, 0, 0, 1]), names=["many", "one", "none"]
    )
    rows = choose_rows(result)
    assert rows.exemplars[1] == (3,)
    assert rows.borderline[1:] == ((), ())
    assert rows.exemplars[2] == ()
    cards = make_cards(result, rows, {})
    assert [card.cluster.size for card in cards] == [3, 1, 0]
    # An empty cluster is near nothing, and nothing is near it.
    one, many, none = (card.nearest for card in cards)
    assert (one.name, many.name, none) == ("one", "many", None)


def test_a_picture_names_the_runner_up():
    result = build_result(None, num_clusters=3, num_images=9)
    result.probabilities[4] = [0.3, 0.6, 0.1]
    picture = make_picture(result, 4, {4: "data:x"})
    assert (picture.cluster.name, picture.cluster.index) == ("noun 1", 1)
    assert picture.confidence == pytest.approx(0.6)
    assert (picture.other.name, picture.uri) == ("noun 0", "data:x")
    assert picture.other_confidence == pytest.approx(0.3)
    assert make_picture(result, 3, {}).uri == ""


def test_the_nearest_cluster_is_the_nearest_by_brute_force():
    result = build_result(None, num_clusters=5, num_images=60)
    cards = make_cards(result, choose_rows(result), {})
    means = [
        result.embeddings[result.assignments == index].mean(axis=0)
        for index in range(5)
    ]
    for index, card in enumerate(cards):
        cosines = [
            -2.0 if other == index else mean @ means[index] / np.linalg.norm(mean)
            for other, mean in enumerate(means)
        ]
        assert card.nearest.index == np.argmax(cosines)


def test_what_tells_a_cluster_from_its_nearest():
    result = build_result(None, num_clusters=2, num_images=6, names=["one", "two"])
    nouns = [ScoredNoun(name, f"n{i}", 0.2, "") for i, name in enumerate("abcdefg")]
    clusters = (
        dataclasses.replace(result.clusters[0], nouns=tuple(nouns[:6])),
        dataclasses.replace(result.clusters[1], nouns=tuple(nouns[4:])),
    )
    result = dataclasses.replace(result, clusters=clusters)
    first, second = make_cards(result, choose_rows(result), {})
    assert (first.nearest.name, second.nearest.name) == ("two", "one")
    assert (first.only_here, first.only_there) == (("a", "b", "c"), ("g",))
    assert (second.only_here, second.only_there) == (("g",), ("a", "b", "c"))


def test_second_choices_are_counted():
    result = build_result(None, num_clusters=3, num_images=12)
    result.probabilities[:] = [0.2, 0.3, 0.5]
    result.probabilities[result.assignments == 2] = [0.3, 0.2, 0.5]
    result.probabilities[[2, 5]] = [0.1, 0.4, 0.5]
    cards = make_cards(result, choose_rows(result), {})
    expected = {(0, 1): 0, (0, 2): 4, (1, 0): 0, (1, 2): 4, (2, 0): 2, (2, 1): 2}
    for card in cards:
        pair = (card.cluster.index, card.nearest.index)
        assert card.second_choice == expected[pair]


def test_labels_and_search():
    result = build_result(None, num_clusters=2, num_images=10, names=["Big Dog", "Cat"])
    rows = choose_rows(result)
    counts = np.array([[1, 0], [4, 0], [0, 0]])
    table = Contingency(("pug", "DACHSHUND", "cat"), counts)
    first, second = make_cards(result, rows, {}, table=table)
    assert (first.label, first.label_share) == ("DACHSHUND", 0.8)
    assert (second.label, second.label_share) == ("", 0.0)
    for word in ("big dog", "dachshund", "dahlia", "0"):
        assert word in first.search


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
    named = read_contingency({"counts": [[1, 2], [3, 4]], "classes": ["a", "b"]}, 2)
    assert named.classes == ("a", "b")
    np.testing.assert_array_equal(named.counts, [[1, 2], [3, 4]])
    assert read_contingency(np.eye(2), 2).classes == ("0", "1")


def clusters_of(sizes):
    assignments = np.repeat(np.arange(len(sizes)), sizes)
    return build_result(None, num_clusters=len(sizes), assignments=assignments).clusters


def test_matrix_puts_a_good_clustering_on_the_diagonal():
    clusters = sorted(clusters_of([5, 9, 7]), key=lambda each: -each.size)
    # Class a is cluster 0, b is cluster 2, c is cluster 1.
    counts = np.array([[5, 1, 0], [0, 0, 7], [0, 8, 0]])
    matrix = make_matrix(Contingency(("a", "b", "c"), counts), clusters)
    assert matrix.full
    assert matrix.classes == ("c", "b", "a")
    assert [row.cluster.name for row in matrix.rows] == ["noun 1", "noun 2", "noun 0"]
    cells = [[count for count, _ in row.cells] for row in matrix.rows]
    assert cells == [[8, 0, 1], [0, 7, 0], [0, 0, 5]]
    assert [share for _, share in matrix.rows[0].cells] == [0.889, 0.0, 0.111]
    assert matrix.rows[0].top == (("c", 8), ("a", 1))


def test_a_matrix_too_large_to_read_lists_the_main_labels():
    clusters = clusters_of([2] * 120)
    counts = np.zeros((120, 120), np.int64)
    counts[np.arange(120), np.arange(120)] = 2
    counts[:5, 0] = [2, 5, 3, 4, 1]
    classes = tuple(f"c{index}" for index in range(120))
    matrix = make_matrix(Contingency(classes, counts), clusters)
    assert not matrix.full
    assert all(row.cells == () for row in matrix.rows)
    assert matrix.rows[0].top == (("c1", 5), ("c3", 4), ("c2", 3))
    assert matrix.rows[7].top == (("c7", 2),)
