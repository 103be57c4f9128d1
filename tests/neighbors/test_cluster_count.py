"""The estimate of k: hand-worked scores, blobs with a known k, and bad input."""

import jax
import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.neighbors.cluster_count import (
    choose_count,
    estimate_cluster_count,
    merge_pieces,
    piece_graph,
)
from mca_jax.neighbors.modes import mode_prominences


def separate_blobs(count, *, per_blob=40, width=24, spread=0.12, seed=0):
    """Groups around random directions, far from each other against their spread."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(count, width))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    rows = np.repeat(centers, per_blob, axis=0)
    rows += random.normal(scale=spread / np.sqrt(width), size=rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return random.permutation(rows).astype(np.float32)


def modularity(labels, neighbors):
    """Newman's Q of a partition of a directed graph made symmetric, spelled out."""
    n, r = neighbors.shape
    weights = np.zeros((n, n))
    for i, near in enumerate(neighbors):
        for j in near:
            weights[i, j] += 0.5 / (n * r)
            weights[j, i] += 0.5 / (n * r)
    degrees = weights.sum(axis=1)
    same = labels[:, None] == labels[None, :]
    return float((same * (weights - np.outer(degrees, degrees))).sum())


def test_the_graph_of_pieces_by_hand():
    # 0 and 1 are in piece 0, 2 in piece 1: of six links two stay in piece 0.
    near = np.array([[1, 2], [0, 2], [0, 1]])
    graph = piece_graph(np.array([0, 0, 1]), near, 3)
    expected = np.array([[2, 2, 0], [2, 0, 0], [0, 0, 0]]) / 6
    np.testing.assert_allclose(graph, expected, atol=1e-12)


def test_scores_are_the_modularity_of_the_merged_partition():
    # Two pairs of pieces; each piece is linked to itself and to its partner.
    graph = np.kron(np.eye(2), [[2.0, 1.0], [1.0, 2.0]]) / 12
    scores = merge_pieces(graph)
    # Four: 8/12 inside, degrees 1/4. Three: one pair merged. Two: all inside.
    expected = [0, 1 - 2 / 4, 10 / 12 - 2 / 16 - 1 / 4, 8 / 12 - 1 / 4]
    np.testing.assert_allclose(scores, expected)


def test_the_score_of_single_images_is_that_of_the_definition():
    random = np.random.default_rng(1)
    near = np.array([random.permutation([j for j in range(9) if j != i])[:3]
                     for i in range(9)])  # fmt: skip
    pieces = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3])
    scores = merge_pieces(piece_graph(pieces, near, 4))
    assert scores[3] == pytest.approx(modularity(pieces, near))


def test_a_piece_without_images_adds_no_partition():
    graph = np.zeros((3, 3))
    graph[0, 0] = graph[2, 2] = 0.5
    np.testing.assert_allclose(merge_pieces(graph), [0.0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("counted", "limits", "expected"),
    [
        ((9, 9, 9), (2, 80), (9, 5, 14)),
        ((4, 9, 16), (2, 80), (6, 2, 26)),
        # The interval holds the estimate, and both stay in the range.
        ((9, 9, 9), (2, 7), (7, 5, 7)),
        ((2, 2, 2), (6, 9), (6, 6, 6)),
    ],
)
def test_the_estimate_is_between_what_was_counted(counted, limits, expected):
    least, most = limits
    assert choose_count(*counted, least=least, most=most) == expected


def test_modes_by_hand():
    # Five points in a row; the pairs at the ends are close, the middle is far off.
    near = np.array([[1, 2], [0, 2], [1, 3], [4, 2], [3, 2]])
    cosines = np.array([[0.9, 0.5], [0.9, 0.5], [0.4, 0.4], [0.8, 0.4], [0.8, 0.4]])
    first, second = mode_prominences(near, cosines)
    assert np.isinf(first)
    # The lower peak stands above the middle by a ratio of their mean distances.
    assert second == pytest.approx(np.log(0.6 / 0.4))


def test_parts_that_do_not_touch_are_modes_of_their_own():
    near = np.array([[1], [0], [3], [2]])
    assert np.isinf(mode_prominences(near, np.full((4, 1), 0.5))).tolist() == [True] * 2


@pytest.mark.parametrize("count", [3, 8, 20])
def test_separate_blobs_are_counted(key, count):
    found = estimate_cluster_count(key, separate_blobs(count))
    assert found.num_clusters == count
    assert found.low <= count <= found.high
    assert found.counts[0] == 2
    assert len(found.counts) == len(found.scores)
    assert found.counts[found.scores.argmax()] == count


def test_a_sample_is_enough(key):
    rows = separate_blobs(6, per_blob=200)
    found = estimate_cluster_count(key, rows, max_images=300)
    assert found.num_images == 300
    assert found.num_clusters == 6


def test_the_same_key_gives_the_same_estimate(key):
    rows = separate_blobs(5, spread=1.5)
    one, two = (estimate_cluster_count(key, rows) for _ in range(2))
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one.num_clusters == two.num_clusters
    other = estimate_cluster_count(jax.random.fold_in(key, 1), rows)
    assert not np.array_equal(one.scores, other.scores)


def test_only_numbers_of_the_range_are_tried(key):
    found = estimate_cluster_count(key, separate_blobs(8), least=3, most=6)
    np.testing.assert_array_equal(found.counts, [3, 4, 5, 6])
    assert found.num_clusters == 6


def test_views_show_what_to_ignore(key):
    random = np.random.default_rng(3)
    rows = separate_blobs(4, per_blob=50)
    # Each blob lies in two parts, which views of one image lie in as well.
    axis = np.eye(24, dtype=np.float32)[0]
    parted = rows + np.where(random.random(200) < 0.5, 0.2, -0.2)[:, None] * axis
    views = rows[:60, None] + random.choice([-0.2, 0.2], (60, 4, 1)) * axis
    assert estimate_cluster_count(key, parted).num_clusters > 4
    found = estimate_cluster_count(key, parted, views=views)
    assert found.num_clusters == 4


def test_few_images(key):
    rows = np.repeat(np.eye(2, dtype=np.float32), 8, axis=0)
    assert estimate_cluster_count(key, rows).num_clusters == 2
    found = estimate_cluster_count(key, rows[6:10], most=4)
    assert 2 <= found.num_clusters <= 4


@pytest.mark.parametrize(
    ("least", "most", "message"),
    [
        (1, 5, "at least 2, found 1"),
        (6, 5, "from low to high, found 6 to 5"),
        (2, 41, "40 images that are looked at, found a range up to 41"),
    ],
)
def test_ranges_that_cannot_be(key, least, most, message):
    rows = np.eye(40, dtype=np.float32)
    with pytest.raises(InputError, match=message):
        estimate_cluster_count(key, rows, least=least, most=most)
