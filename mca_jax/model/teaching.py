r"""What a few answers say of all other images: groups that honour them, and how sure.

The clusters of a run are a first belief. Images that are held together, apart or in a
group correct it around themselves, by a Gaussian process whose mean is that belief:

.. math:: F = M + K_{\cdot a} (K_{aa} + \sigma^2 I)^{-1} (Y_a - M_a)

with one column a group, :math:`M` the clusters as they are, :math:`a` the images that
something is said of and :math:`Y_a` their groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mca_jax.model.constraints import Closure

__all__ = ["Belief", "Points", "central_rows", "kernel", "spread_answers"]

# Weight of the first belief beside an answer, variance of an answer, and how sure an
# image is of its cluster where nothing was said: one value for all sets.
_TRUST = 0.3
_NOISE = 0.1
_SURE = 0.7
_LEAST_ODDS = 1.5
_WIDTH = 3.0
# An image that all groups it may be in have less of than this has one of its own.
_NEW_GROUP = 0.05
_MOST_TRIED = 6
_BLOCK = 8_192


class Points(NamedTuple):
    """Images as the kernel compares them.

    Attributes:
      smoothed: Unit vectors that were clustered, ``[n, c]``.
      plain: The same before smoothing, in which near images still differ.
    """

    smoothed: Float[np.ndarray, "n c"]
    plain: Float[np.ndarray, "n c"]


class Belief(NamedTuple):
    """Groups that honour all that was said.

    Attributes:
      ids: Id of each group, ascending: those of clusters, and new ones behind.
      assignments: Index into ``ids`` of each image, int32 ``[n]``.
      probabilities: Of each group, float32 ``[n, q]``; rows sum to 1.
      leads: An image that stands for each group, int64 ``[q]``.
      settled: Rows whose group is known: links and labels lead to it.
      merged: Ids that went into another, and into which.
      given: New id of each id of a label that no cluster had.
      foretold: Answers that the others foretell, each left out in turn.
      known: Answers that the clusters knew already.
    """

    ids: tuple[int, ...]
    assignments: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n q"]
    leads: Int[np.ndarray, " q"]
    settled: Int[np.ndarray, " s"]
    merged: dict[int, int]
    given: dict[int, int]
    foretold: int
    known: int


def kernel(
    points: Points, one: Int[np.ndarray, " a"] | slice, other: Int[np.ndarray, " b"]
) -> Float[np.ndarray, "a b"]:
    r"""How much the group of one image says of that of another, in (0, 1].

    .. math:: \tfrac12 e^{3(\langle u_i, u_j \rangle - 1)}
        + \tfrac12 e^{3(\langle v_i, v_j \rangle - 1)}

    Example:
      >>> axes = np.eye(2, dtype=np.float32)
      >>> kernel(Points(axes, axes), np.array([0]), np.array([0, 1])).round(2).tolist()
      [[1.0, 0.05000000074505806]]
    """
    whole = 0.0
    for table in points:
        whole = whole + np.exp(_WIDTH * (table[one] @ table[other].T - 1.0)) / 2
    return np.asarray(whole)


def central_rows(
    images: Float[np.ndarray, "n c"], assignments: Int[np.ndarray, " n"], count: int
) -> Int[np.ndarray, " q"]:
    """Find the most central image of each group; -1 for an empty one."""
    sums = np.zeros((count, images.shape[1]))
    np.add.at(sums, assignments, images)
    own = np.einsum("nc,nc->n", images, sums[assignments])
    order = np.lexsort((np.arange(len(own)), -own, assignments))
    found = np.full(count, -1, np.int64)
    groups, firsts = np.unique(assignments[order], return_index=True)
    found[groups] = order[firsts]
    return found


class _Groups:
    """Which component is in which group, as far as it follows."""

    def __init__(self, closure: Closure, members: Sequence[np.ndarray]) -> None:
        self.closure, self.members = closure, members
        self.owner: dict[int, int] = {}
        self.apart: dict[int, set[int]] = {}
        for one, two in closure.apart.tolist():
            self.apart.setdefault(one, set()).add(two)
            self.apart.setdefault(two, set()).add(one)

    def excluded(self, component: int) -> set[int]:
        """Groups of the components that it is apart from."""
        others = self.apart.get(component, ())
        return {self.owner[each] for each in others if each in self.owner}

    def take(self, row: int, group: int) -> bool:
        """Let an image stand for a group, unless it is of another one or of none."""
        component = int(self.closure.components[row])
        if component < 0:
            return row not in self.closure.nowhere
        if component in self.owner:
            return self.owner[component] == group
        if group in self.excluded(component):
            return False
        self.owner[component] = group
        return True


def spread_answers(
    points: Points,
    start: Int[np.ndarray, " n"],
    ids: Sequence[int],
    closure: Closure,
    *,
    next_id: int,
    trust: float = _TRUST,
    literal: bool = False,
) -> Belief:
    """Correct clusters by all that was said, and tell how sure each image is.

    Args:
      points: The images.
      start: Cluster of each, an index into ``ids``.
      ids: Id of each cluster.
      closure: What was said, and what follows.
      next_id: The first id that a new group may take.
      trust: Weight of the clusters as they are beside one answer.
      literal: Whether images that nothing is said of stay where they are.

    Returns:
      Groups: images that are held together are in one, those that are apart in two,
      and those of a label in that group.
    """
    touched = np.flatnonzero(closure.components >= 0)
    order = touched[np.argsort(closure.components[touched], kind="stable")]
    ends = np.cumsum(np.bincount(closure.components[touched]))
    members = np.split(order, ends[:-1]) if len(order) else []
    groups, columns = _Groups(closure, members), list(ids)
    given: dict[int, int] = {}
    for component, label in enumerate(closure.labels.tolist()):
        if label < 0:
            continue
        if label not in ids and label not in given:
            given[label] = next_id + len(given)
            columns.append(given[label])
        groups.owner[component] = columns.index(given.get(label) or label)
    leads, into = _find_leads(points.smoothed, start, len(ids), groups, literal)
    leads = [*leads, *(-1 for _ in given)]
    for component, group in groups.owner.items():
        if leads[group] < 0:
            leads[group] = int(members[component][0])
    odds = max(_SURE / (1 - _SURE) * (len(ids) - 1), _LEAST_ODDS)
    sharp = float(np.log(odds)) / trust
    mean = _Mean(np.array([into.get(g, g) for g in range(len(ids))])[start], trust)
    likely = _settle_rest(
        points, mean, groups, leads, columns, next_id + len(given), sharp
    )
    settled = sorted(c for c in groups.owner if c not in likely)
    anchors = _anchors(groups, leads, likely, len(columns))
    live = np.array([g for g, lead in enumerate(leads) if lead >= 0])
    scores = _scores(points, mean, anchors, len(columns), None)
    if literal:
        scores = mean.at(slice(None), len(columns))
        scores[anchors[0]] = anchors[1]
    scores = scores[:, live]
    probabilities = _softmax(sharp * scores)
    assignments = probabilities.argmax(axis=1).astype(np.int32)
    index = {int(group): i for i, group in enumerate(live)}
    for component, group in groups.owner.items():
        assignments[members[component]] = index[group]
    foretold, known = _held_out(points, mean, anchors, [leads[g] for g in live])
    rows = [np.array([leads[g] for g in live], np.int64)]
    rows += [members[component] for component in settled]
    return Belief(
        ids=tuple(columns[g] for g in live),
        assignments=assignments,
        probabilities=probabilities.astype(np.float32),
        leads=rows[0],
        settled=np.unique(np.concatenate(rows)),
        merged={columns[a]: columns[b] for a, b in into.items()},
        given=given,
        foretold=foretold,
        known=known,
    )


class _Mean(NamedTuple):
    """The first belief: cluster of each image after merges, and its weight."""

    start: np.ndarray
    trust: float

    def at(self, rows: np.ndarray | slice, width: int) -> np.ndarray:
        own = self.start[rows]
        mean = np.full((len(own), width), (1 - self.trust) / width)
        mean[np.arange(len(own)), own] += self.trust
        return mean


def _find_leads(
    images: np.ndarray,
    start: np.ndarray,
    count: int,
    groups: _Groups,
    literal: bool,
) -> tuple[list[int], dict[int, int]]:
    """Choose an image that stands for each cluster, and see which are one.

    The most central image of a cluster is of it, whatever else is. Where it is held
    together with that of a larger cluster, the two are one; taken literally, it alone
    is of the other.
    """
    sizes = np.bincount(start, minlength=count)
    central = central_rows(images, start, count)
    leads, into = [-1] * count, {}
    for group in np.argsort(-sizes, kind="stable").tolist():
        row = int(central[group])
        if row < 0:
            continue
        if groups.take(row, group):
            leads[group] = row
            continue
        component = int(groups.closure.components[row])
        labelled = group in groups.owner.values()
        is_other = component in groups.owner and not labelled and not literal
        if is_other and groups.closure.labels[component] < 0:
            into[group] = groups.owner[component]
            continue
        leads[group] = _next_lead(images, start, group, groups)
    return leads, into


def _next_lead(
    images: np.ndarray, start: np.ndarray, group: int, groups: _Groups
) -> int:
    """The most central image of a cluster that nothing else is said of, or -1."""
    free = start == group
    free &= groups.closure.components < 0
    free[groups.closure.nowhere] = False
    rows = np.flatnonzero(free)
    if not len(rows):
        return -1
    return int(rows[np.argmax(images[rows] @ images[rows].sum(axis=0))])


def _settle_rest(
    points: Points,
    mean: _Mean,
    groups: _Groups,
    leads: list[int],
    columns: list[int],
    next_id: int,
    sharp: float,
) -> dict[int, np.ndarray]:
    """Put components without a group into the likeliest that they may be in.

    Returns:
      Those whose group is only likely, and how likely each group is. One that may be
      in none gets a new group, which is appended to ``leads`` and ``columns``.
    """
    free = [c for c in range(len(groups.members)) if c not in groups.owner]
    free.sort(key=lambda c: (-len(groups.excluded(c)), c))
    guessed: dict[int, np.ndarray] = {}
    if not free:
        return guessed
    rows = np.concatenate([groups.members[c] for c in free])
    place = dict(zip(rows.tolist(), range(len(rows)), strict=True))
    scores = None
    for component in free:
        if scores is None:
            anchors = _anchors(groups, leads, guessed, len(columns))
            scores = _scores(points, mean, anchors, len(columns), rows)
            scores[:, [g for g, lead in enumerate(leads) if lead < 0]] = -np.inf
        own = scores[[place[row] for row in groups.members[component].tolist()]]
        likely = _softmax(sharp * own).mean(axis=0)
        excluded = groups.excluded(component)
        likely[list(excluded)] = 0.0
        if likely.sum() >= _NEW_GROUP and len(excluded) < _MOST_TRIED:
            groups.owner[component] = int(likely.argmax())
            guessed[component] = likely / likely.sum()
            continue
        groups.owner[component] = len(columns)
        columns.append(next_id)
        leads.append(int(groups.members[component][0]))
        next_id, scores = next_id + 1, None
    return guessed


def _anchors(
    groups: _Groups,
    leads: Sequence[int],
    likely: Mapping[int, np.ndarray],
    width: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that something is said of, and the leads, with what is wanted of each."""
    found: dict[int, np.ndarray] = {}
    one_hot = np.eye(width)
    for group, lead in enumerate(leads):
        if lead >= 0:
            found[lead] = one_hot[group]
    for component, group in groups.owner.items():
        wanted = one_hot[group]
        if component in likely:
            wanted = np.resize(likely[component], width)
            wanted[len(likely[component]) :] = 0.0
        found |= dict.fromkeys(groups.members[component].tolist(), wanted)
    return np.array(list(found), np.int64), np.array(list(found.values()))


def _residuals(
    points: Points, mean: _Mean, anchors: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of what is said of some images, and what is news in it."""
    known, wanted = anchors
    inner = kernel(points, known, known).astype(float)
    inner[np.diag_indices(len(known))] += _NOISE
    return inner, wanted - mean.at(known, wanted.shape[1])


def _held_out(
    points: Points,
    mean: _Mean,
    anchors: tuple[np.ndarray, np.ndarray],
    leads: Sequence[int],
) -> tuple[int, int]:
    r"""Count the answers that all others foretell, and those that the clusters knew.

    What the process says of image i without what is said of it is
    :math:`y_i - [C^{-1} (y - m)]_i / [C^{-1}]_{ii}` with the covariance C (Rasmussen
    and Williams, Gaussian Processes for Machine Learning, 2006, Eq. 5.12).
    """
    rows, wanted = anchors
    inner, news = _residuals(points, mean, anchors)
    inverse = np.linalg.inv(inner)
    left_out = wanted - (inverse @ news) / np.diag(inverse)[:, None]
    asked = np.flatnonzero(~np.isin(rows, leads))
    foretold = wanted[asked, left_out[asked].argmax(axis=1)] > 0
    known = wanted[asked, mean.start[rows[asked]]] > 0
    return int(foretold.sum()), int(known.sum())


def _scores(
    points: Points,
    mean: _Mean,
    anchors: tuple[np.ndarray, np.ndarray],
    width: int,
    rows: np.ndarray | None,
) -> np.ndarray:
    """The process at some images, or at all, block by block."""
    known, _ = anchors
    weights = np.linalg.solve(*_residuals(points, mean, anchors))
    if rows is None:
        rows = np.arange(len(points.smoothed))
    found = mean.at(rows, width)
    for first in range(0, len(rows), _BLOCK):
        part = rows[first : first + _BLOCK]
        found[first : first + _BLOCK] += kernel(points, part, known) @ weights
    return found


def _softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
