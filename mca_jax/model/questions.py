"""Which questions would tell most: images between groups, groups that may be one.

Groups are cut into parts of like images, coarse ones first and finer ones the more is
known. The answer for the middle of a part speaks for the whole part: asked about are
large parts whose group is unsure, and pairs of groups that share images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from mca_jax.core.errors import InputError
from mca_jax.model.constraints import Closure, Constraints
from mca_jax.model.teaching import Belief, Points, central_rows
from mca_jax.model.tree import ClusterTree

__all__ = ["NUM_CHOICES", "TOGETHER", "WHICH", "Question", "choose_questions"]

TOGETHER = "Do these two belong together?"
"""What is asked of a pair."""

WHICH = "With which of these does it belong?"
"""What is asked where several images stand for groups: one, none, seldom several."""

NUM_CHOICES = 6
"""Most groups that an image is shown beside: as many as a glance takes in."""

_LEAST_PARTS = 32
_PARTS_A_GROUP = 2
# What one more question about the same group is worth.
_REPEATED = 0.7
# A part that may as well be of another group lies at the border, others inside.
_BORDER = 0.5
# Two groups are rarely one: that they share images says it of few of them. Where an
# answer chooses among groups it finds that out by the way.
_SAME, _SAME_BY_CHOICE = 1.0, 0.3
# A part that answers kept out of groups is asked about as long as there is hope.
_HOPE = 0.5
_ALL = 0.999
_SINGLES = 100


class Question(NamedTuple):
    """An image and others, of which a user can tell whether they belong together.

    Attributes:
      kind: ``"border"`` for an image between groups and the likeliest of them,
        ``"split"`` for a part of a group that may be another, ``"same"`` for two
        groups that may be one.
      a: Row of the image that is asked about.
      b: Row of an image that stands for the likeliest group.
      text: The question.
      groups: Ids as believed: of the group of ``a``, then of that of each choice.
      value: About how many images the answer may move.
      choices: ``b``, and rows that stand for further groups, likeliest first.

    Example:
      >>> asked = Question("split", 4, 0, WHICH, (0, 0, 1), 9.0, (0, 7))
      >>> asked.answer(7)
      Constraints(must_link=[(4, 7)], cannot_link=[(4, 0)], labels=[], nowhere=[])
    """

    kind: Literal["border", "split", "same"]
    a: int
    b: int
    text: str
    groups: tuple[int, ...]
    value: float
    choices: tuple[int, ...]

    def answer(self, *chosen: int) -> Constraints:
        """Say with which of the choices the image belongs: one, none or several.

        It is apart from the others.

        Raises:
          InputError: One is none of the choices.
        """
        for each in chosen:
            if each not in self.choices:
                raise InputError(
                    f"Expected some of the choices {list(self.choices)}, found {each}"
                )
        return Constraints(
            [(self.a, each) for each in self.choices if each in chosen],
            [(self.a, each) for each in self.choices if each not in chosen],
            [],
            [],
        )


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
    middles, sizes = middles[is_open], np.bincount(leaves)[is_open]
    # When all parts are known, single images are left, the least sure ones.
    sure = belief.probabilities.max(axis=1)
    sure[np.concatenate([belief.settled, closure.nowhere, middles])] = 2.0
    singles = np.argsort(sure, kind="stable")[:_SINGLES]
    singles = singles[sure[singles] <= 1.0]
    middles = np.concatenate([middles, singles])
    sizes = np.concatenate([sizes, np.ones(len(singles), int)])
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
    return _Parts(middles, sizes, likely)


def choose_questions(
    points: Points,
    belief: Belief,
    closure: Closure,
    tree: ClusterTree,
    count: int,
    *,
    choices: int = NUM_CHOICES,
    skip: Iterable[tuple[int, int]] = (),
) -> tuple[Question, ...]:
    """Choose the questions whose answers would move most images.

    Args:
      points: The images.
      belief: Groups by what was said so far.
      closure: What was said, and what follows: it is not asked again.
      tree: Groups below the clusters, which are the parts; the finer, the more images
        something is said of.
      count: Most questions.
      choices: Most groups that an image is shown beside, at least 1.
      skip: Pairs that are not asked either, nor questions with one of them among their
        choices: who can't tell of one group can't tell of the image.

    Returns:
      At most ``count``, of several groups, the most telling first.
    """
    groups = len(belief.ids)
    said = int((closure.components >= 0).sum()) + len(closure.nowhere)
    wanted = max(_LEAST_PARTS, _PARTS_A_GROUP * groups) + said + count
    leaves = tree.cut(min(wanted, tree.num_groups)).groups
    parts = _open_parts(points, belief, closure, leaves)
    same = _SAME if choices == 1 else _SAME_BY_CHOICE
    found = _about_parts(belief, parts, choices) + _same_groups(belief, same)
    return _diverse(found, belief, closure, count, {frozenset(pair) for pair in skip})


def _about_parts(belief: Belief, parts: _Parts, choices: int) -> list[Question]:
    """One question a part: is it of its likeliest group, or of which."""
    top = parts.likely.max(axis=1, initial=0.0)
    left = parts.likely.sum(axis=1)
    is_asked = left < _ALL
    # What is apart from a group moves for sure; where to is known the sooner the
    # likelier the next group is.
    hope = (top / np.maximum(left, 1e-9)) ** _HOPE
    worth = parts.sizes * np.where(is_asked, hope, 1.0 - top)
    order = np.argsort(-parts.likely, axis=1, kind="stable")[:, :choices]
    found = []
    for i, row in enumerate(parts.middles.tolist()):
        likely = [g for g in order[i].tolist() if parts.likely[i, g] > 0]
        if not likely:
            continue
        rows = tuple(int(belief.leads[group]) for group in likely)
        at_border = is_asked[i] or top[i] < _BORDER
        found.append(
            Question(
                "border" if at_border else "split",
                row,
                rows[0],
                WHICH,
                (int(belief.assignments[row]), *likely),
                float(worth[i]),
                rows,
            )
        )
    return found


def _same_groups(belief: Belief, weight: float) -> list[Question]:
    """Pairs of groups, each worth the images of the smaller that both may hold."""
    shared = belief.probabilities.T.astype(float) @ belief.probabilities
    whole = np.maximum(belief.probabilities.sum(axis=0, dtype=float), 1e-9)
    sizes = np.bincount(belief.assignments, minlength=len(belief.ids))
    worth = np.minimum.outer(sizes, sizes) * shared / np.minimum.outer(whole, whole)
    leads = belief.leads.tolist()
    return [
        Question(
            "same",
            leads[one],
            leads[two],
            TOGETHER,
            (one, two),
            float(weight * worth[one, two]),
            (leads[two],),
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
    left = []
    for each in sorted(found, key=lambda each: -each.value):
        options = [
            (row, group)
            for row, group in zip(each.choices, each.groups[1:], strict=True)
            if row != each.a and not closure.knows(each.a, row)
        ]
        if (
            each.value <= 0
            or not options
            or any(frozenset((each.a, row)) in skip for row in each.choices)
        ):
            continue
        rows, groups = zip(*options, strict=True)
        asked = each._replace(b=rows[0], choices=rows, groups=(each.groups[0], *groups))
        left.append(asked if len(rows) > 1 else asked._replace(text=TOGETHER))
    used = np.zeros(len(belief.ids), int)
    chosen: list[Question] = []
    worth = np.array([each.value for each in left])
    pairs = np.array([each.groups[:2] for each in left]).reshape(-1, 2)
    while len(chosen) < min(count, len(left)):
        discount = _REPEATED ** used[pairs].max(axis=1)
        best = int(np.argmax(worth * discount))
        used[np.unique(pairs[best])] += 1
        worth[best] = -1.0
        named = tuple(belief.ids[group] for group in left[best].groups)
        chosen.append(left[best]._replace(groups=named))
    return tuple(chosen)
