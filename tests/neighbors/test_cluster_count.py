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


def test_the_finest_of_the_nearly_best_is_chosen():
    counts = np.arange(2, 7)
    steep = np.array([0.2, 0.5, 0.9, 0.5, 0.2])
    assert choose_count(steep[None], counts) == (4, 4, 4)
    flat = np.array([0.2, 0.89, 0.9, 0.895, 0.887])
    assert choose_count(flat[None], counts) == (5, 3, 6)
    # Repeats that disagree widen the interval to what each would have chosen.
    assert choose_count(np.stack([steep, steep, steep[::-1] * 0 + 0.1]), counts) == (
        4,
        4,
        6,
    )


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
