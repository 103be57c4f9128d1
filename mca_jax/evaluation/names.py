"""How good the names of clusters are, when the true classes are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.semantics.vocabulary.nouns import NounTable

__all__ = ["NameScores", "is_related", "rows_of_label", "score_names", "wu_palmer"]


class NameScores(NamedTuple):
    """Quality of the names of a clustering.

    Attributes:
      related: Share of clusters whose headline is a synonym, hyponym or hypernym
        of the true class within the allowed steps, in [0, 1].
      wu_palmer: Mean Wu-Palmer similarity of headline and true class, in [0, 1].
      count: Number of clusters that were scored.
    """

    related: float
    wu_palmer: float
    count: int


def _parents(table: NounTable, row: int) -> list[int]:
    return table.parents[slice(*table.parent_starts[row : row + 2])].tolist()


def _distances_up(table: NounTable, row: int) -> dict[int, int]:
    """Return the fewest edges from a noun up to itself and each ancestor."""
    steps = {row: 0}
    queue = deque([row])
    while queue:
        here = queue.popleft()
        for parent in _parents(table, here):
            if parent not in steps:
                steps[parent] = steps[here] + 1
                queue.append(parent)
    return steps


def _edges_between(up: dict[int, int], other_up: dict[int, int]) -> int:
    """Return the fewest edges between two nouns, over any common ancestor.

    Even from a noun to its own ancestor the way over a higher one can be the
    shorter, since a noun may have several parents.
    """
    common = up.keys() & other_up.keys()
    return min(up[row] + other_up[row] for row in common)


def _longest_depth(table: NounTable, row: int) -> int:
    """Return the edges on the longest path from a noun up to a root."""
    above = {noun: _parents(table, noun) for noun in _distances_up(table, row)}
    longest: dict[int, int] = {}
    # Parents come before their children.
    for noun in TopologicalSorter(above).static_order():
        longest[noun] = max((1 + longest[each] for each in above[noun]), default=0)
    return longest[row]


def wu_palmer(table: NounTable, first: int, second: int) -> float:
    r"""Measure how near two nouns are in the hierarchy.

    .. math:: \frac{2 d(c)}{2 d(c) + \ell(a, c) + \ell(b, c)}

    with :math:`c` the deepest common ancestor (by shortest path to the root),
    :math:`d` its longest path to the root, counted in nodes, and :math:`\ell`
    the fewest edges between two nouns. That is nltk's ``wup_similarity``; where
    several common ancestors are equally deep, the one that gives most counts,
    where nltk takes the first.

    ``first`` and ``second`` are rows of the table.

    Returns:
      Similarity in [0, 1]; 1 for the same noun, 0 without a common ancestor.

    References:
      Wu and Palmer, Verb semantics and lexical selection, ACL 1994.
    """
    if first == second:
        return 1.0
    up, other_up = _distances_up(table, first), _distances_up(table, second)
    common = up.keys() & other_up.keys()
    if not common:
        return 0.0
    deepest = max(int(table.depth[row]) for row in common)
    best = 0.0
    for row in common:
        if table.depth[row] == deepest:
            depth = 1 + _longest_depth(table, row)
            row_up = _distances_up(table, row)
            edges = _edges_between(up, row_up) + _edges_between(other_up, row_up)
            best = max(best, 2 * depth / (2 * depth + edges))
    return best


def is_related(
    table: NounTable, first: int, second: int, *, max_steps: int = 3
) -> bool:
    """Tell whether one noun is the other, or above or below it.

    ``first`` and ``second`` are rows of the table, ``max_steps`` the most
    hypernym edges between the two, at least 0.
    """
    far = max_steps + 1
    up = _distances_up(table, first).get(second, far)
    down = _distances_up(table, second).get(first, far)
    return min(up, down) <= max_steps


def rows_of_label(table: NounTable, label: str) -> tuple[int, ...]:
    """Find the nouns that a class label may mean.

    Underscores of the label, such as a folder's name, count as spaces, and letter
    case doesn't.

    Returns:
      Rows of all the nouns with that lemma; empty if there is none.
    """
    wanted = label.replace("_", " ").strip().casefold()
    return tuple(
        row
        for row, lemmas in enumerate(table.lemmas)
        if any(lemma.casefold() == wanted for lemma in lemmas)
    )


def score_names(
    table: NounTable,
    headlines: Sequence[int],
    classes: Sequence[Sequence[int]],
    *,
    max_steps: int = 3,
) -> NameScores:
    """Score the headline of each cluster against its true class.

    Args:
      table: Nouns.
      headlines: Row of each cluster's headline, -1 for a headline that is no
        noun of the table, which scores 0.
      classes: Rows of the nouns that each cluster's true class may mean, the
        best one counts; a cluster without any is left out.
      max_steps: Most hypernym edges between headline and class, at least 0.

    Returns:
      The scores.

    Raises:
      InputError: The lengths differ, or no cluster has a class.
    """
    if len(headlines) != len(classes):
        raise InputError(
            f"Expected one class a headline, found {len(classes)} classes for "
            f"{len(headlines)} headlines"
        )
    related, similarity = [], []
    for headline, rows in zip(headlines, classes, strict=True):
        if not rows:
            continue
        named = headline >= 0
        related.append(
            named
            and any(is_related(table, headline, r, max_steps=max_steps) for r in rows)
        )
        similarity.append(
            max(wu_palmer(table, headline, row) for row in rows) if named else 0.0
        )
    if not related:
        raise InputError("Expected at least one cluster with a class, found none")
    return NameScores(float(np.mean(related)), float(np.mean(similarity)), len(related))
