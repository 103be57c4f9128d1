"""The result of a run with the edits of its review."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.model.cluster_model import NONE_OF_THESE
from mca_jax.model.predict import project_images
from mca_jax.model.result import Cluster, ClusterResult
from mca_jax.pipeline.describe import (
    describe_cluster,
    measure_risk_of,
    name_groups,
    scored_nouns,
)
from mca_jax.pipeline.edit.describe_again import STALE, model_nouns
from mca_jax.report.export import Assigned
from mca_jax.report.review import NOWHERE, Groups, History, read_review

__all__ = [
    "apply_groups",
    "chosen_groups",
    "majority_groups",
    "reviewed_images",
]

_HAND, _DUPLICATE = "placed by hand", "duplicate"


def chosen_groups(
    result: ClusterResult, folder: str | os.PathLike[str], version: str | None = None
) -> tuple[Groups, History] | None:
    """Read the groups of a review; None where there is none.

    Args:
      result: Result of the run.
      folder: Its workdir.
      version: Name that they were kept under; None takes the last ones.

    Raises:
      InputError: The events are damaged or of another run, or no version has the name.
    """
    history = read_review(result, folder)
    if version is None:
        return None if history is None else (history.groups, history)
    versions = {} if history is None else history.versions
    if history is None or version not in versions:
        known = ", ".join(map(repr, versions)) or "none"
        raise InputError(
            f"Expected the name of a version, one of {known}; found "
            f"{printable(version)!r}"
        )
    return versions[version], history


def _indices(groups: Groups) -> np.ndarray:
    """Group of each image by its place among the names; -1 for none."""
    place = {id: index for index, id in enumerate(groups.names)} | {NOWHERE: -1}
    known, inverse = np.unique(groups.of, return_inverse=True)
    return np.array([place[int(id)] for id in known], np.int32)[inverse.reshape(-1)]


def majority_groups(result: ClusterResult, groups: Groups) -> np.ndarray:
    """The group that holds most images of each cluster of a run.

    Returns:
      Id of a group for each cluster; where none of its images has one, its own if
      that is there, or else ``NOWHERE``.
    """
    own = _indices(groups)
    inside = own >= 0
    table = np.zeros((len(result.clusters), len(groups.names)), np.int64)
    np.add.at(table, (result.assignments[inside], own[inside]), 1)
    ids = np.array([*groups.names], np.int32)
    kept = [each.id if each.id in groups.names else NOWHERE for each in result.clusters]
    return np.where(table.any(axis=1), ids[table.argmax(axis=1)], kept)


def apply_groups(
    result: ClusterResult,
    groups: Groups,
    *,
    edits: tuple[Mapping[str, Any], ...] = (),
    describe: bool = True,
) -> ClusterResult:
    """Put a result together whose clusters are edited groups.

    New images are placed by the networks of the run, in the group that holds most
    images of the cluster that they fall into. An image that was put somewhere by hand
    has probability 1 there. Those that belong nowhere make a last cluster, "none of
    these", where no new image falls.

    Args:
      result: Result of the run, with a model.
      groups: The groups.
      edits: What is noted among the model's edits.
      describe: Whether nouns, exemplars and quantities are made for groups that are
        others than before, which takes seconds.
    """
    own, ids = _indices(groups), list(groups.names)
    place = {id: index for index, id in enumerate(ids)} | {NOWHERE: -1}
    columns = np.array([place[id] for id in majority_groups(result, groups).tolist()])
    nowhere = bool((own < 0).any())
    count = len(ids) + nowhere
    probabilities = np.zeros((len(own), count), np.float32)
    for index, column in enumerate(columns.tolist()):
        probabilities[:, column if column >= 0 else count - 1] += result.probabilities[
            :, index
        ]
    assignments = np.where(own < 0, count - 1, own).astype(np.int32)
    rows = np.arange(len(own))
    # The part of a group that was split has what the whole had.
    usual = columns[result.assignments]
    other = np.flatnonzero((usual >= 0) & (usual != assignments))
    swapped = probabilities[other, usual[other]]
    probabilities[other, usual[other]] = probabilities[other, assignments[other]]
    probabilities[other, assignments[other]] = swapped
    hand = groups.placed | (own < 0)
    probabilities[hand] = 0.0
    probabilities[rows[hand], assignments[hand]] = 1.0
    model = result.model
    make = _describe if describe else _list
    clusters = make(result, groups, assignments, probabilities)
    moved = np.append(columns, -1)
    metrics = {name: v for name, v in result.metrics.items() if name not in STALE}
    if describe and result.neighbors is not None:
        risk = measure_risk_of(probabilities, result.neighbors)
        metrics["label_free"] = {**metrics.get("label_free", {}), **risk}
    same = np.array_equal(assignments, result.assignments) and len(ids) == len(
        result.clusters
    )
    tree = result.tree
    if same and tree is not None:
        for before, after in zip(result.clusters, clusters, strict=True):
            if before.name != after.name:
                tree = tree.rename(before.name, after.name)
    return replace(
        result,
        assignments=assignments,
        probabilities=probabilities,
        clusters=clusters,
        metrics=metrics,
        baselines={},
        tree=tree if same else None,
        model=replace(
            model,
            groups=np.where(model.groups < 0, -1, moved[model.groups]).astype(np.int32),
            clusters=clusters,
            edits=(*model.edits, *edits),
        ),
    )


def _list(
    result: ClusterResult,
    groups: Groups,
    assignments: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[Cluster, ...]:
    """The groups by id, name and size, with the nouns of before."""
    before = {each.id: each for each in result.clusters}
    sizes = np.bincount(assignments, minlength=probabilities.shape[1]).tolist()
    return tuple(
        Cluster(
            index,
            sizes[index],
            name.text,
            0.0,
            before[id].nouns if id in before else (),
            (),
            id=id,
            guess=name.guess,
        )
        for index, (id, name) in enumerate(groups.names.items())
    )


def _describe(
    result: ClusterResult,
    groups: Groups,
    assignments: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[Cluster, ...]:
    """Describe the groups; those with the images of before stay as they were."""
    images = project_images(result.model, result.embeddings)
    count = probabilities.shape[1]
    nouns = model_nouns(result.model)
    none = np.zeros(images.shape[1], np.float32)
    seen = name_groups(
        images,
        assignments,
        nouns,
        num_groups=count,
        image_mean=none,
        noun_mean=none,
    )
    before = {each.id: each for each in result.clusters}
    sizes = np.bincount(assignments, minlength=count)
    described = []
    for index, (id, name) in enumerate(groups.names.items()):
        old = before.get(id)
        members = assignments == index
        if (
            old is not None
            and old.size == sizes[index]
            and (result.assignments[members] == old.index).all()
        ):
            kept = replace(old, index=index, name=name.text, guess=name.guess)
            described.append(kept)
            continue
        new = describe_cluster(
            index,
            name.text,
            scored_nouns(seen[index], nouns.table),
            images=images,
            probabilities=probabilities,
            assignments=assignments,
            guess=name.guess,
        )
        described.append(replace(new, id=id))
    if len(described) < count:
        last = describe_cluster(
            count - 1,
            NONE_OF_THESE,
            (),
            images=images,
            probabilities=probabilities,
            assignments=assignments,
        )
        free = 1 + max([len(result.model.groups), *groups.names, *before])
        described.append(replace(last, id=free))
    return tuple(described)


def reviewed_images(
    result: ClusterResult, groups: Groups, *, root: str | None = None
) -> Assigned:
    """Collect what is exported of edited groups; see ``assigned_images``.

    A column ``mark`` says which images were placed by hand or are duplicates.
    """
    classes = tuple(name.text for name in groups.names.values())
    names = (*classes, NONE_OF_THESE)
    clusters = _indices(groups)
    marks = [
        ", ".join(text for text, on in ((_HAND, hand), (_DUPLICATE, double)) if on)
        for hand, double in zip(groups.placed, groups.duplicates, strict=True)
    ]
    return Assigned(
        result.root if root is None else root,
        result.paths,
        clusters,
        np.where(groups.placed, np.float32(1), result.confidences),
        tuple(names[index] for index in clusters),
        classes,
        {"mark": marks},
    )
