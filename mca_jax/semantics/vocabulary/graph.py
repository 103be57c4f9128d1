"""Walks over the hypernym graph, all nouns at once: depths, counts, closures.

Edges go from ``children`` to ``parents``, rows of ``count`` nouns, both int ``[E]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mca_jax.core.errors import InputError

__all__ = ["count_kinds", "descendants", "longest_path", "shortest_depths"]


def shortest_depths(
    children: np.ndarray, parents: np.ndarray, count: int
) -> np.ndarray:
    """Count the edges on the shortest path from each noun up to a root.

    Returns:
      int16 ``[M]``; 0 for a noun without parents, -1 for a noun from which no
      root can be reached (it is on a cycle, or below one only).
    """
    far = np.iinfo(np.int32).max
    depth = np.full(count, far, np.int32)
    depth[np.setdiff1d(np.arange(count), children)] = 0
    level = 0
    while True:
        reached = children[(depth[parents] == level) & (depth[children] == far)]
        if reached.size == 0:
            break
        level += 1
        depth[reached] = level
    depth[depth == far] = -1
    return depth.astype(np.int16)


def count_kinds(children: np.ndarray, parents: np.ndarray, count: int) -> np.ndarray:
    """Count the nouns below each noun, itself included.

    A noun that can be reached on two ways counts once. All pairs of noun and
    ancestor climb one edge a step, which is 1.1 million pairs for WordNet.

    Returns:
      int32 ``[M]``, at least 1.
    """
    order = np.argsort(children, kind="stable")
    sorted_parents = np.asarray(parents)[order].astype(np.int64)
    starts = np.searchsorted(children, np.arange(count + 1), sorter=order)
    own = np.arange(count, dtype=np.int64)
    seen = [own * count + own]
    frontier = seen[0]
    while frontier.size:
        noun, ancestor = frontier // count, frontier % count
        fan_out = starts[ancestor + 1] - starts[ancestor]
        first = np.repeat(starts[ancestor] - np.cumsum(fan_out) + fan_out, fan_out)
        above = sorted_parents[first + np.arange(first.size)]
        pairs = np.unique(np.repeat(noun, fan_out) * count + above)
        frontier = np.setdiff1d(pairs, np.concatenate(seen), assume_unique=True)
        seen.append(frontier)
    pairs = np.concatenate(seen)
    return np.bincount(pairs % count, minlength=count).astype(np.int32)


def longest_path(children: np.ndarray, parents: np.ndarray, count: int) -> int:
    """Count the edges on the longest path of the hierarchy.

    Returns:
      Number of edges, 0 for a flat vocabulary. It bounds the steps that a mark
      needs to travel from any noun to all its ancestors.

    Raises:
      InputError: The hierarchy has a cycle.
    """
    on_path = np.zeros(count, bool)
    on_path[children] = True
    length = 0
    while on_path.any():
        length += 1
        if length > count:
            raise InputError(
                f"Expected a hierarchy without cycles, found one among {count} nouns"
            )
        # A noun stays as long as one of its parents did: a path of one more edge.
        longer = np.zeros(count, bool)
        longer[children[on_path[parents]]] = True
        on_path = longer
    return length


def descendants(
    roots: Sequence[int], children: np.ndarray, parents: np.ndarray, count: int
) -> np.ndarray:
    """Mark the nouns below the rows ``roots``, those included, bool ``[M]``."""
    below = np.zeros(count, bool)
    below[list(roots)] = True
    while True:
        new = children[below[parents] & ~below[children]]
        if new.size == 0:
            return below
        below[new] = True
