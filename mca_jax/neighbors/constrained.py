"""Spherical k-means that keeps some images together and some apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["ConstrainedClusters", "constrained_kmeans", "seed_groups"]

_ITERATIONS = 20


class ConstrainedClusters(NamedTuple):
    """Clusters that honour links, as far as ``k`` clusters can.

    Attributes:
      centers: Unit vectors, float32 ``[k, d]``.
      assignments: Cluster of each row, int32 ``[n]``.
      broken: Pairs of components that are in one cluster though they are apart, for
        want of another.
    """

    centers: Float[np.ndarray, "k d"]
    assignments: Int[np.ndarray, " n"]
    broken: int


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, 1e-12)


def seed_groups(
    rows: Float[np.ndarray, "n d"],
    centers: Float[np.ndarray, "k d"],
    components: Int[np.ndarray, " n"],
    apart: Int[np.ndarray, "p 2"],
) -> Int[np.ndarray, " q"]:
    """Put each component as a whole where it is nearest, and where it may be.

    First chooses who has the fewest clusters left, as in a colouring of a graph; among
    those who has most to lose: how much nearer the nearest is than the second, times
    the size.

    Returns:
      Cluster of each component, int64.
    """
    count = int(components.max(initial=-1)) + 1
    sums = np.zeros((count, rows.shape[1]))
    known = np.flatnonzero(components >= 0)
    np.add.at(sums, components[known], rows[known])
    scores = sums @ centers.T
    near = np.sort(scores, axis=1)
    margin = near[:, -1] - near[:, -2]
    others: dict[int, list[int]] = {}
    for one, two in apart.tolist():
        others.setdefault(one, []).append(two)
        others.setdefault(two, []).append(one)
    free = np.ones(scores.shape, bool)
    chosen = np.full(count, -1, np.int64)
    for _ in range(count):
        left = np.flatnonzero(chosen < 0)
        options = free[left].sum(axis=1)
        component = int(left[np.lexsort((-margin[left], options))[0]])
        # Where more are apart than there are clusters, the nearest has to do.
        allowed = free[component] if free[component].any() else slice(None)
        own = np.full(scores.shape[1], -np.inf)
        own[allowed] = scores[component][allowed]
        chosen[component] = int(own.argmax())
        free[others.get(component, []), chosen[component]] = False
    return chosen


def constrained_kmeans(
    rows: Float[np.ndarray, "n d"],
    centers: Float[np.ndarray, "k d"],
    components: Int[np.ndarray, " n"],
    apart: Int[np.ndarray, "p 2"],
    *,
    max_iterations: int = _ITERATIONS,
) -> ConstrainedClusters:
    """Alternate assignment and mean direction, with components as wholes.

    Args:
      rows: Unit vectors.
      centers: Initial centres, at least 2.
      components: Component of each row that is held together with others; -1 for none.
      apart: Pairs of components that are in two clusters.
      max_iterations: Bound on the alternations, at least 1.

    Returns:
      Clusters; without components those of spherical k-means from these centres, where
      an empty cluster keeps its centre.

    References:
      Wagstaff et al., Constrained k-means clustering with background knowledge, ICML
      2001, over components in place of single rows.

    Example:
      >>> rows = np.eye(3, dtype=np.float32)
      >>> found = constrained_kmeans(rows, rows[:2], np.array([0, -1, 0]),
      ...                            np.zeros((0, 2), int))
      >>> found.assignments.tolist()
      [0, 1, 0]
    """
    known = np.flatnonzero(components >= 0)
    assignments = np.full(len(rows), -1, np.int32)
    for _ in range(max_iterations):
        renewed = (rows @ centers.T).argmax(axis=1).astype(np.int32)
        if len(known):
            groups = seed_groups(rows, centers, components, apart)
            renewed[known] = groups[components[known]]
        if (renewed == assignments).all():
            break
        assignments = renewed
        sums = np.zeros(centers.shape)
        np.add.at(sums, assignments, rows)
        filled = np.bincount(assignments, minlength=len(centers)) > 0
        centers = np.where(filled[:, None], _unit(sums), centers)
    broken = 0
    if len(known):
        groups = seed_groups(rows, centers, components, apart)
        broken = int((groups[apart[:, 0]] == groups[apart[:, 1]]).sum())
    return ConstrainedClusters(centers.astype(np.float32), assignments, broken)
