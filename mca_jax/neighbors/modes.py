r"""How many separate crowds a set of points has: the modes of its density.

The density of a point is read off its neighbours, as :math:`-\log` of their mean
distance, so that a difference is a ratio of distances. Points are taken in from the
densest down; one that touches no earlier one begins a crowd, and where two crowds
meet the one with the lower peak ends. How far its peak stands above the pass where it
ended is its prominence: noise makes many peaks of little prominence, and a group of
things makes one that stands out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["mode_prominences"]

_LEAST_DISTANCE = 1e-6


def mode_prominences(
    neighbors: Int[np.ndarray, "n r"], similarities: Float[np.ndarray, "n r"]
) -> Float[np.ndarray, " m"]:
    r"""Measure how far each mode of the density stands out.

    .. math:: \rho_i = -\log \frac1r \sum_{j \in N(i)} (1 - \cos_{ij})

    Args:
      neighbors: Rows of the nearest points of each; two points touch if either is
        among the other's.
      similarities: Cosines to them.

    Returns:
      Prominences, largest first; infinite for the peak of each part of the graph
      that touches no other.

    Example:
      >>> near = np.array([[1, 2], [0, 2], [1, 3], [4, 2], [3, 2]])
      >>> cosines = np.array([[9, 5], [9, 5], [4, 4], [8, 4], [8, 4]]) / 10
      >>> mode_prominences(near, cosines).round(2).tolist()
      [inf, 0.41]

    References:
      Chazal et al., Persistence-Based Clustering in Riemannian Manifolds, Journal of
      the ACM 60, 2013, Algorithm 1.
    """
    gaps = np.maximum(1.0 - np.asarray(similarities, np.float64), _LEAST_DISTANCE)
    density = -np.log(gaps.mean(axis=1))
    count, width = neighbors.shape
    ends = np.concatenate([np.repeat(np.arange(count), width), neighbors.ravel()])
    others = np.concatenate([neighbors.ravel(), np.repeat(np.arange(count), width)])
    order = np.argsort(ends, kind="stable")
    others = others[order]
    starts = np.searchsorted(ends[order], np.arange(count + 1))
    peak_of = np.full(count, -1)
    found: dict[int, float] = {}

    def peak(point: int) -> int:
        while peak_of[point] != point:
            peak_of[point] = peak_of[peak_of[point]]
            point = peak_of[point]
        return point

    for point in np.argsort(-density, kind="stable").tolist():
        near = others[starts[point] : starts[point + 1]]
        met = {peak(each) for each in near[peak_of[near] >= 0].tolist()}
        if not met:
            peak_of[point] = point
            found[point] = np.inf
            continue
        # Of equal peaks the first in the table stays.
        highest = min(met, key=lambda each: (-density[each], each))
        peak_of[point] = highest
        for lower in met - {highest}:
            peak_of[lower] = highest
            found[lower] = density[lower] - density[point]
    return np.sort(np.array(list(found.values())))[::-1]
