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
from mca_jax.pipeline.edit.reviewed import (
    apply_groups,
    chosen_groups,
    majority_groups,
)
from mca_jax.pipeline.teach import learn, questions
from mca_jax.report.review import NOWHERE, REVIEW_FOLDER, Groups
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


def constraints_of(groups: Groups) -> Constraints:
    """What a person said of single images, by their edits.

    An image that was put into a group is of that group; one that was taken out of all
    belongs nowhere; one that is not what its group is can't be together with the image
    that was put there first, or else with the first that is there.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> from mca_jax.report.review import apply_event, first_groups
      >>> groups = first_groups(example_result())
      >>> event = {"action": "move", "rows": [3], "into": 2}
      >>> constraints_of(apply_event(groups, event)).labels
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
            apart.append((row, int((sure if len(sure) else members)[0])))
    return Constraints(
        must_link=[(a, b) for a, b, same in groups.answers if same],
        cannot_link=[*apart, *((a, b) for a, b, same in groups.answers if not same)],
        labels=[(row, int(groups.of[row])) for row in inside],
        nowhere=np.flatnonzero(groups.of == NOWHERE).tolist(),
    )


def _base(result: ClusterResult, groups: Groups) -> ClusterResult:
    """The groups as a result in which every image is in one of them, none empty."""
    sizes = groups.sizes()
    names = {id: name for id, name in groups.names.items() if sizes[id]}
    nowhere = groups.of == NOWHERE
    if nowhere.any():
        usual = majority_groups(result, groups)[result.assignments[nowhere]]
        of = groups.of.copy()
        of[nowhere] = np.where(usual == NOWHERE, next(iter(names)), usual)
        placed = groups.placed & ~nowhere
        groups = replace(groups, of=of, placed=placed)
    return apply_groups(result, replace(groups, names=names), describe=False)


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
    learned = learn(_base(result, groups), constraints=constraints_of(groups))
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
        text=learned.changes.sentence(),
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
    result: ClusterResult, groups: Groups, skip: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Choose the pairs whose answers would tell most.

    Args:
      result: Result of the run, with what was learnt last.
      groups: The groups now.
      skip: Pairs of rows that are not asked.
    """
    asked = questions(
        _base(result, groups),
        _NUM_QUESTIONS,
        constraints=constraints_of(groups),
        skip=skip,
    )
    return [{"rows": [each.a, each.b], "text": each.text} for each in asked]
