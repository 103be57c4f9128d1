"""k-means with links: against every clustering of a few rows."""

from itertools import product

import numpy as np
import pytest

from mca_jax.neighbors.constrained import constrained_kmeans, seed_groups

NONE = np.zeros((0, 2), int)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def objective(rows, assignments):
    """Sum of the lengths of the clusters' sums: what spherical k-means makes large."""
    return sum(
        np.linalg.norm(rows[assignments == each].sum(axis=0))
        for each in set(assignments.tolist())
    )


def is_allowed(assignments, components, apart):
    groups = {}
    for cluster, component in zip(assignments, components, strict=True):
        if component >= 0 and groups.setdefault(component, cluster) != cluster:
            return False
    return all(groups[one] != groups[two] for one, two in apart)


@pytest.mark.parametrize("draw", range(4))
def test_no_allowed_clustering_is_better(draw):
    random = np.random.default_rng(draw)
    rows = unit(random.normal(size=(8, 3)))
    components = np.array([0, 0, 1, -1, -1, 2, -1, 2])
    apart = np.array([[0, 1], [1, 2]])
    every = [np.array(each) for each in product(range(2), repeat=8)]
    allowed = [each for each in every if is_allowed(each, components, apart)]
    best = max(objective(rows, each) for each in allowed)
    # From each pair of rows as first centres; the best of them is that of all.
    found = [
        constrained_kmeans(rows, rows[[i, j]], components, apart)
        for i in range(8)
        for j in range(i)
    ]
    assert all(is_allowed(each.assignments, components, apart) for each in found)
    assert max(objective(rows, each.assignments) for each in found) == pytest.approx(
        best
    )


def test_without_links_it_is_the_nearest_centre():
    rows = unit(np.random.default_rng(0).normal(size=(40, 3)))
    found = constrained_kmeans(rows, rows[:4], np.full(40, -1), NONE)
    np.testing.assert_array_equal(
        found.assignments, (rows @ found.centers.T).argmax(axis=1)
    )
    assert found.broken == 0


def test_more_apart_than_clusters_is_counted():
    rows = np.eye(3)
    apart = np.array([[0, 1], [0, 2], [1, 2]])
    found = constrained_kmeans(rows, rows[:2], np.arange(3), apart)
    assert found.broken == 1


def test_the_surest_component_chooses_first():
    centers = np.eye(2)
    rows = np.array([[1.0, 0.0], [0.8, 0.6]])
    groups = seed_groups(rows, centers, np.array([0, 1]), np.array([[0, 1]]))
    assert groups.tolist() == [0, 1]
