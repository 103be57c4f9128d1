"""Which questions would tell most: pairs near a border, groups that may be one.

Groups are cut into parts of like images, coarse ones first and finer ones the more is
known. The answer for the middle of a part speaks for the whole part: asked about are
large parts whose group is unsure, and pairs of groups that share images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from mca_jax.model.constraints import Closure
from mca_jax.model.teaching import Belief, Points, central_rows
from mca_jax.model.tree import ClusterTree

__all__ = ["TOGETHER", "Question", "choose_questions"]

TOGETHER = "Do these two belong together?"
"""What is asked of every pair."""

_LEAST_PARTS = 32
_PARTS_A_GROUP = 2
# What one more question about the same group is worth.
_REPEATED = 0.7
# A part that may as well be of another group lies at the border, others inside.
_BORDER = 0.5


class Question(NamedTuple):
    """Two images of which a user can tell whether they belong together.

    Attributes:
      kind: ``"border"`` for an image between groups and the likeliest of them,
        ``"split"`` for a part of a group that may be another, ``"same"`` for two
        groups that may be one.
      a: Row of the image that is asked about.
      b: Row of an image that stands for a group.
      text: The question.
      groups: Ids of the groups of both, as believed.
      value: About how many images the answer may move.
    """

    kind: Literal["border", "split", "same"]
    a: int
    b: int
    text: str
    groups: tuple[int, int]
    value: float


class _Parts(NamedTuple):
    """Parts that no answer speaks for yet: their middle, size and likely groups."""

    middles: np.ndarray
    sizes: np.ndarray
    likely: np.ndarray


def _open_parts(
    points: Points, belief: Belief, closure: Closure, leaves: Int[np.ndarray, " n"]
) -> _Parts:
    count = int(leaves.max()) + 1
    middles = central_rows(points.smoothed, leaves, count)
    is_open = middles >= 0
    is_open[leaves[belief.settled]] = False
    is_open[leaves[closure.nowhere]] = False
    middles = middles[is_open]
    likely = belief.probabilities[middles].astype(float)
    # A group that the image is known to be apart from is asked no more.
    apart: dict[int, set[int]] = {}
    for one, two in closure.apart.tolist():
        apart.setdefault(one, set()).add(two)
        apart.setdefault(two, set()).add(one)
    group_of = {
        int(closure.components[lead]): group
        for group, lead in enumerate(belief.leads.tolist())
        if closure.components[lead] >= 0
    }
    for part, row in enumerate(middles.tolist()):
        for other in apart.get(int(closure.components[row]), ()):
            if other in group_of:
                likely[part, group_of[other]] = 0.0
    return _Parts(middles, np.bincount(leaves)[is_open], likely)


def choose_questions(
    points: Points,
    belief: Belief,
    closure: Closure,
    tree: ClusterTree,
    count: int,
    *,
    num_said: int = 0,
    skip: Iterable[tuple[int, int]] = (),
) -> tuple[Question, ...]:
    """Choose the questions whose answers would move most images.

    Args:
      points: The images.
      belief: Groups by what was said so far.
      closure: What was said, and what follows: it is not asked again.
      tree: Groups below the clusters, which are the parts.
      count: Most questions.
      num_said: Statements so far; the more, the finer the parts.
      skip: Pairs that are not asked either.

    Returns:
      At most ``count``, of several groups, the most telling first.
    """
    groups = len(belief.ids)
    wanted = max(_LEAST_PARTS, _PARTS_A_GROUP * groups) + num_said + count
    leaves = tree.cut(min(wanted, tree.num_groups)).groups
    parts = _open_parts(points, belief, closure, leaves)
    likely = parts.likely.sum(axis=1)
    own = parts.likely.argmax(axis=1) if len(likely) else np.zeros(0, int)
    # What it was apart from has no probability any more: that is unsure as well.
    unsure = 1.0 - parts.likely.max(axis=1, initial=0.0)
    found = [
        Question(
            "border" if unsure[i] > _BORDER or likely[i] < 1 - _BORDER else "split",
            int(parts.middles[i]),
            int(belief.leads[own[i]]),
            TOGETHER,
            (int(belief.assignments[parts.middles[i]]), int(own[i])),
            float(parts.sizes[i] * unsure[i]),
        )
        for i in range(len(likely))
    ]
    found += _same_groups(belief)
    return _diverse(found, belief, closure, count, {frozenset(pair) for pair in skip})


def _same_groups(belief: Belief) -> list[Question]:
    """Pairs of groups, each worth the images of the smaller that both may hold."""
    shared = belief.probabilities.T.astype(float) @ belief.probabilities
    whole = np.maximum(belief.probabilities.sum(axis=0, dtype=float), 1e-9)
    sizes = np.bincount(belief.assignments, minlength=len(belief.ids))
    worth = np.minimum.outer(sizes, sizes) * shared / np.minimum.outer(whole, whole)
    return [
        Question(
            "same",
            int(belief.leads[one]),
            int(belief.leads[two]),
            TOGETHER,
            (one, two),
            float(worth[one, two]),
        )
        for one in range(len(belief.ids))
        for two in range(one)
    ]


def _diverse(
    found: list[Question],
    belief: Belief,
    closure: Closure,
    count: int,
    skip: set[frozenset[int]],
) -> tuple[Question, ...]:
    """Take the best in turn; each is worth less the more there are of its groups."""
    left = [
        each
        for each in found
        if each.value > 0
        and each.a != each.b
        and frozenset((each.a, each.b)) not in skip
        and not closure.knows(each.a, each.b)
    ]
    used = np.zeros(len(belief.ids), int)
    chosen: list[Question] = []
    worth = np.array([each.value for each in left])
    pairs = np.array([each.groups for each in left]).reshape(-1, 2)
    while len(chosen) < min(count, len(left)):
        discount = _REPEATED ** used[pairs].max(axis=1)
        best = int(np.argmax(worth * discount))
        one, two = left[best].groups
        used[list({one, two})] += 1
        worth[best] = -1.0
        named = (belief.ids[one], belief.ids[two])
        chosen.append(left[best]._replace(groups=named))
    return tuple(chosen)
