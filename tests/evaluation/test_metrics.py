from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as reference

from mca_jax.core.errors import InputError
from mca_jax.evaluation import (
    adjusted_rand_index,
    clustering_accuracy,
    contingency_table,
    expected_calibration_error,
    normalized_mutual_information,
    score_clustering,
)

# Images, classes, clusters: as many of both, fewer clusters, more clusters.
SIZES = [(200, 5, 5), (200, 7, 3), (200, 3, 7), (30, 1, 4), (30, 4, 1), (2, 2, 2)]
SCORES = [
    clustering_accuracy,
    normalized_mutual_information,
    adjusted_rand_index,
    score_clustering,
]


def draw(n: int, classes: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and clusters that agree on about half of the images."""
    random = np.random.default_rng(n + 10 * classes + 100 * clusters)
    labels = random.integers(classes, size=n)
    noise = random.integers(clusters, size=n)
    return labels, np.where(random.random(n) < 0.5, labels % clusters, noise)


def brute_force_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """The best of all one-to-one matchings, each tried."""
    table = contingency_table(labels, clusters)
    if table.shape[0] > table.shape[1]:
        table = table.T
    rows = range(table.shape[0])
    return (
        max(
            sum(table[row, column] for row, column in zip(rows, matching, strict=True))
            for matching in permutations(range(table.shape[1]), table.shape[0])
        )
        / table.sum()
    )


def test_by_hand():
    # Cluster 2 is class 0 and one image of class 1, whose others are cluster 0.
    labels, clusters = [0, 0, 1, 1, 1], [2, 2, 0, 0, 2]
    table = contingency_table(labels, clusters)
    assert table.dtype == np.int64
    np.testing.assert_array_equal(table, [[0, 0, 2], [2, 0, 1]])
    scores = score_clustering(labels, clusters)
    assert scores.acc == 4 / 5
    # Pairs together in both: 1 (class 0) + 1 (class 1, cluster 0); in a class
    # 1 + 3; in a cluster 3 + 1; of 10. (2 - 16/10) / (4 - 16/10) = 1/6.
    assert scores.ari == pytest.approx(1 / 6, abs=1e-15)
    # Both entropies are H(2/5); the joint one has shares 2/5, 2/5, 1/5.
    one = -0.4 * np.log(0.4) - 0.6 * np.log(0.6)
    joint = -0.8 * np.log(0.4) - 0.2 * np.log(0.2)
    assert scores.nmi == pytest.approx((2 * one - joint) / one, abs=1e-14)


@pytest.mark.parametrize(("n", "classes", "clusters"), SIZES)
def test_against_references(n, classes, clusters):
    labels, found = draw(n, classes, clusters)
    scores = score_clustering(labels, found)
    assert scores.acc == brute_force_accuracy(labels, found)
    # Sums of at most 49 float64 terms of size one: an error of 1e-14 or less.
    assert scores.nmi == pytest.approx(
        reference.normalized_mutual_info_score(labels, found), abs=1e-13
    )
    assert scores.ari == pytest.approx(
        reference.adjusted_rand_score(labels, found), abs=1e-13
    )
    assert clustering_accuracy(labels, found) == scores.acc
    assert normalized_mutual_information(labels, found) == scores.nmi
    assert adjusted_rand_index(labels, found) == scores.ari


@pytest.mark.parametrize(("n", "classes", "clusters"), SIZES)
def test_renumbering_and_reordering_change_nothing(n, classes, clusters):
    labels, found = draw(n, classes, clusters)
    before = score_clustering(labels, found)
    random = np.random.default_rng(1)
    order = random.permutation(n)
    # Numbers with gaps, as class ids of a subset have.
    new_labels = random.permutation(10 * classes)[labels]
    new_clusters = random.permutation(10 * clusters)[found]
    after = score_clustering(new_labels[order], new_clusters[order])
    assert after.acc == before.acc
    assert after.ari == before.ari
    assert after.nmi == pytest.approx(before.nmi, abs=1e-13)


def test_more_clusters_than_classes_leaves_images_unmatched():
    # Both halves of class 0 are pure, yet only the larger one has a partner.
    assert clustering_accuracy([0, 0, 0, 1], [0, 0, 1, 2]) == 3 / 4
    # Two classes share the one cluster: only the larger is right.
    assert clustering_accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 3 / 4


def test_degenerate_partitions():
    one, singletons = np.zeros(6, int), np.arange(6)
    assert score_clustering(one, one) == (1.0, 1.0, 1.0)
    same = score_clustering(singletons, singletons[::-1])
    assert same == (1.0, pytest.approx(1.0, abs=1e-15), 1.0)
    for pair in ((one, singletons), (singletons, one)):
        assert score_clustering(*pair) == (pytest.approx(1 / 6), 0.0, 0.0)
    assert score_clustering([3], [8]) == (1.0, 1.0, 1.0)


def test_counts_stay_exact_for_millions_of_images():
    # About 8e12 pairs, whose square leaves int64.
    n = 4_000_000
    labels = np.repeat([0, 1], n // 2)
    clusters = labels.copy()
    clusters[[0, n - 1]] = [1, 0]
    scores = score_clustering(labels, clusters)
    assert scores.acc == (n - 2) / n
    # Hubert and Arabie by hand: off-diagonal counts 1, diagonal n/2 - 1.
    half = n // 2
    inside = half * (half - 1)
    together = (half - 1) * (half - 2)
    total = n * (n - 1) // 2
    above_chance = (total * together - inside**2) / (total * inside - inside**2)
    assert scores.ari == pytest.approx(above_chance, rel=1e-15)


def test_contingency_table_keeps_dead_clusters():
    table = contingency_table([0, 1], [1, 1], num_classes=3, num_clusters=4)
    np.testing.assert_array_equal(table, [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("function", [contingency_table, *SCORES])
@pytest.mark.parametrize(
    ("labels", "clusters", "message"),
    [
        ([], [], "labels of at least one image, found none"),
        ([0, 1], [0], "found 2 labels and 1 clusters"),
        ([0, -1], [0, 1], "labels from 0 on, found -1"),
        ([0, 1], [-3, 1], "clusters from 0 on, found -3"),
        ([0.0, 1.0], [0, 1], "labels as integers, found float64"),
        ([True, False], [0, 1], "labels as integers, found bool"),
        ([0, 1], [[0], [1]], r"clusters as a vector, found shape \(2, 1\)"),
    ],
)
def test_bad_input(function, labels, clusters, message):
    with pytest.raises(InputError, match=message):
        function(labels, clusters)


def test_numbers_beyond_the_table():
    with pytest.raises(InputError, match="labels below 2, found 2"):
        contingency_table([0, 2], [0, 1], num_classes=2)
    with pytest.raises(InputError, match="clusters below 1, found 1"):
        contingency_table([0, 2], [0, 1], num_clusters=1)


def test_calibration_error_by_hand():
    labels, clusters = [0, 0, 1, 1, 1], [1, 1, 0, 0, 1]
    # Bins [0, 0.5] and (0.5, 1]: of two images one is right, of three all are.
    sure = [0.5, 0.9, 0.9, 0.9, 0.3]
    expected = abs(1 - 0.8) / 5 + abs(3 - 2.7) / 5
    found = expected_calibration_error(labels, clusters, sure, num_bins=2)
    assert found == pytest.approx(expected)


def test_calibration_error_is_the_gap_bin_by_bin():
    random = np.random.default_rng(0)
    labels, clusters = draw(500, 4, 6)
    sure = random.random(500)
    table = contingency_table(labels, clusters)
    partner = dict(zip(*linear_sum_assignment(-table), strict=True))
    right = np.array(
        [partner[a] == b for a, b in zip(labels, clusters, strict=True)], float
    )
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert expected_calibration_error(labels, clusters, sure) == pytest.approx(total)


def test_as_many_confidences_as_images_are_needed():
    with pytest.raises(InputError, match="Expected 2 confidences"):
        expected_calibration_error([0, 1], [0, 1], [0.5])
