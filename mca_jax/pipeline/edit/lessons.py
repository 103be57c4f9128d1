"""Learning from the edits of a review, and the questions that it asks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.model.constraints import Constraints
from mca_jax.model.files import read_model, write_model
from mca_jax.model.predict import Predictor
from mca_jax.model.result import ClusterResult
from mca_jax.model.tree import ClusterTree
from mca_jax.pipeline.edit.reviewed import (
    apply_groups,
    chosen_groups,
    majority_groups,
)
from mca_jax.pipeline.teach import Learned, learn, questions
from mca_jax.report.review import NOWHERE, REVIEW_FOLDER, Groups, apply_event
from mca_jax.report.review.desk import Lesson

__all__ = [
    "ask_about",
    "constraints_of",
    "learn_from",
    "reviewed_result",
    "with_learned",
]

_FOLDER = "learned"
_NUM_QUESTIONS = 20


def constraints_of(groups: Groups, confidences: np.ndarray) -> Constraints:
    """What a person said of single images, by their edits.

    An image that was put into a group is of that group; one that was taken out of all
    belongs nowhere; one that is not what its group is can't be together with the surest
    that was put there, or else with the surest that is there.

    Args:
      groups: The groups.
      confidences: How sure each image is of its group.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> from mca_jax.report.review import apply_event, first_groups
      >>> result = example_result()
      >>> event = {"action": "move", "rows": [3], "into": 2}
      >>> groups = apply_event(first_groups(result), event)
      >>> constraints_of(groups, result.confidences).labels
      [(3, 2)]
    """
    placed = np.flatnonzero(groups.placed)
    inside = placed[groups.of[placed] != NOWHERE].tolist()
    apart = []
    for row, ids in groups.refused.items():
        for id in ids:
            members = np.flatnonzero(groups.of == id)
            # Taken out, and put back since.
            if not len(members) or groups.of[row] in (id, NOWHERE):
                continue
            sure = members[groups.placed[members]]
            most = confidences[sure if len(sure) else members].argmax()
            apart.append((row, int((sure if len(sure) else members)[most])))
    return Constraints(
        must_link=[(a, b) for a, b, same in groups.answers if same],
        cannot_link=[*apart, *((a, b) for a, b, same in groups.answers if not same)],
        labels=[(row, int(groups.of[row])) for row in inside],
        nowhere=np.flatnonzero(groups.of == NOWHERE).tolist(),
    )


def _base(result: ClusterResult, groups: Groups) -> ClusterResult:
    """The groups before single images were placed, as a result to learn from.

    What was said of an image tells most of others where it is news: it is still in the
    group that it was in. A group that only hands made is empty.
    """
    sizes = groups.sizes()
    names = {id: name for id, name in groups.names.items() if sizes[id]}
    usual = majority_groups(result, groups)[result.assignments]
    by_hand = groups.placed | (groups.of == NOWHERE)
    of = np.where(by_hand & np.isin(usual, [*names]), usual, groups.of)
    of = np.where(of == NOWHERE, next(iter(names)), of)
    before = replace(groups, names=names, of=of, placed=np.zeros_like(by_hand))
    return apply_groups(result, before, describe=False)


def _join(groups: Groups) -> tuple[Groups, dict[int, int]]:
    """Put groups together that are one, as a person said; tell which went where."""
    into: dict[int, int] = {}
    for ids in groups.same:
        # Those that are gone by now, or went into another one.
        there = {into.get(id, id) for id in ids} & set(groups.names)
        if not 1 < len(there) < len(groups.names):
            continue
        kept = min(there)
        event = {"groups": sorted(there), "name": groups.names[kept].text}
        groups = apply_event(groups, {"action": "merge", **event})
        into = {id: kept if to in there else to for id, to in into.items()}
        into |= dict.fromkeys(there - {kept}, kept)
    return groups, into


def _learn(result: ClusterResult, groups: Groups) -> Learned:
    said = constraints_of(groups, result.confidences)
    return learn(_base(result, groups), constraints=said)


def learn_from(
    result: ClusterResult,
    groups: Groups,
    next_id: int,
    *,
    workdir: Path,
) -> Lesson:
    """Learn from the edits of a review.

    Args:
      result: Result of the run, with what was learnt last.
      groups: The groups now.
      next_id: An id that no group ever had.
      workdir: Workdir of the run.

    Returns:
      What would change.

    Raises:
      InputError: Statements contradict each other.
    """
    joined, merged = _join(groups)
    learned = _learn(result, joined)
    if merged and not learned.changes.spread:
        # Nor are groups put together before it is known what else they hold.
        merged, learned = {}, _learn(result, groups)
    clusters = learned.result.clusters
    known = {each.id for each in clusters}
    # Ids of groups that were undone are not given again.
    fresh = sorted(known - set(groups.names))
    new_id = {id: max(next_id, *known) + 1 + n for n, id in enumerate(fresh)}
    ids = np.array([new_id.get(each.id, each.id) for each in clusters], np.int32)
    own = np.where(groups.of == NOWHERE, NOWHERE, ids[learned.result.assignments])
    rows = np.flatnonzero(own != groups.of)
    sizes = groups.sizes()
    return Lesson(
        rows=rows,
        into=own[rows],
        made=[
            {"id": new_id[each.id], "name": each.name, "guess": each.guess}
            for each in clusters
            if each.id in new_id
        ],
        gone=[id for id in groups.names if sizes[id] and id not in known],
        text=learned.changes._replace(
            rows=rows, merged=merged | learned.changes.merged
        ).sentence(),
        keep=partial(_keep, learned.result, workdir),
    )


def _keep(result: ClusterResult, workdir: Path) -> str:
    """Write what new images are placed by; return its name."""
    folder = workdir / REVIEW_FOLDER / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
        name = f"{max(taken, default=0) + 1:04d}"
        (folder / name).mkdir()
    except OSError as error:
        raise InputError(f"Can't keep what was learnt: {error.strerror}") from error
    write_model(result.model, folder / name)
    return name


def with_learned(result: ClusterResult, groups: Groups, workdir: Path) -> ClusterResult:
    """Take what a review learnt last in place of what the run learnt.

    Raises:
      InputError: It is gone, or damaged.
    """
    if not groups.learned:
        return result
    if not groups.learned.isdecimal():
        raise InputError(
            f"Expected a number for what was learnt, found {printable(groups.learned)}"
        )
    model = read_model(workdir / REVIEW_FOLDER / _FOLDER / groups.learned)
    placed = Predictor(model).assign(np.asarray(result.embeddings, np.float32))
    return replace(
        result,
        model=model,
        clusters=model.clusters,
        assignments=np.asarray(placed.clusters),
        probabilities=np.asarray(placed.probabilities),
        tree=None,
        params=model.network.params,
    )


def reviewed_result(
    result: ClusterResult,
    folder: str | os.PathLike[str],
    *,
    version: str | None = None,
) -> ClusterResult:
    """Apply the edits of a review to the result of its run.

    Args:
      result: Result of the run.
      folder: Its workdir.
      version: Name of a version; None takes all edits.

    Returns:
      The result itself where nobody has edited anything.

    Raises:
      InputError: The events are damaged or of another run, or there is no such version.
    """
    found = chosen_groups(result, folder, version)
    if found is None:
        return result
    groups, history = found
    result = with_learned(result, groups, Path(folder))
    edit = {"action": "review", "edits": len(history.edits), "version": version or ""}
    return apply_groups(result, groups, edits=(edit,))


def ask_about(
    result: ClusterResult,
    groups: Groups,
    skip: Sequence[tuple[int, int]],
    tree: ClusterTree | None = None,
) -> list[dict[str, Any]]:
    """Choose the questions whose answers would tell most, about groups of the page.

    Args:
      result: Result of the run, with what was learnt last.
      groups: The groups now.
      skip: Pairs of rows that are not asked.
      tree: Tree of the run, whose parts stay what they are however groups are edited.

    Returns:
      Of each question ``rows``, ids of ``groups``, and ``same``: whether the two groups
      may be one, which the two rows stand for. Otherwise the first row is an image that
      may be of any of the groups, and the others stand for those.
    """
    groups, _ = _join(groups)
    asked = questions(
        replace(_base(result, groups), tree=tree),
        _NUM_QUESTIONS,
        constraints=constraints_of(groups, result.confidences),
        skip=skip,
    )
    of = groups.of.tolist()
    apart = {frozenset((of[a], of[b])) for a, b, same in groups.answers if not same}
    found = []
    for each in asked:
        same = each.kind == "same"
        ids = each.groups if same else each.groups[1:]
        # Groups that only follow from what was said are not on the page yet.
        if len(ids) < 2 or not all(id in groups.names for id in ids):
            continue
        if not (same and frozenset(ids) in apart):
            rows = [each.a, *each.choices]
            found.append({"rows": rows, "groups": list(ids), "same": same})
    return found
