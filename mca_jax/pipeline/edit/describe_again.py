"""Describes clusters again after an edit: members, names, quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.model.cluster_model import ClusterModel
from mca_jax.model.predict import Predictor, project_images
from mca_jax.model.result import Cluster, ClusterResult
from mca_jax.neighbors import image_neighbors
from mca_jax.pipeline.describe import (
    describe_cluster,
    measure_risk_of,
    name_groups,
    scored_nouns,
)
from mca_jax.pipeline.inputs import Nouns
from mca_jax.semantics import load_nouns
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

__all__ = ["STALE", "describe_again", "model_nouns", "unlike"]

STALE = ("scores", "contingency", "baselines")
"""Metrics that depend on the clusters as they were."""


def model_nouns(model: ClusterModel) -> Nouns:
    """The nouns of a model, as rows of the vocabulary of its run.

    With the run's own vocabulary names can be more general than its nouns; where
    it can't be had any more, the nouns themselves have to do.
    """
    embeddings, rows = jnp.asarray(model.noun_embeddings), model.noun_rows
    try:
        table = load_nouns(model.config["semantics"]["vocabulary"])
    except InputError:
        table = None
    if table is not None and rows.max(initial=-1) < len(table.names):
        names = tuple(table.names[row] for row in rows)
        if names == model.nouns:
            return Nouns(table, embeddings, rows)
    # A tab in each line, so that a comma belongs to the noun.
    table = parse_vocabulary("".join(f"{noun}\t\n" for noun in model.nouns))
    known = {name.casefold(): row for row, name in enumerate(table.names)}
    rows = np.array([known[noun.casefold()] for noun in model.nouns], np.int32)
    return Nouns(table, embeddings, rows)


def unlike(name: str, used: set[str]) -> str:
    """Number a name that is taken already."""
    number, text = 1, name
    while text.casefold() in used:
        number += 1
        text = f"{name} {number}"
    return text


def describe_again(
    result: ClusterResult,
    model: ClusterModel,
    *,
    origins: Sequence[int | None],
    ids: Mapping[int, int],
    names: Mapping[int, str | None],
) -> ClusterResult:
    """Put a result together for an edited model.

    What the edit does not touch stays to the last bit.

    Args:
      result: What was edited.
      model: The edited model; its ``clusters`` are still the old ones.
      origins: For each new cluster the index of the old one that it is, or None for
        one that the edit made.
      ids: Ids of those that the edit made.
      names: Names that were given to them; None, like no entry, stands for a name by
        the nouns.

    Returns:
      The new result. What was said of labels is left out.
    """
    blank = Cluster(0, 0, "", 0.0, (), ())
    model = replace(model, clusters=(blank,) * len(origins))
    placed: Any = Predictor(model).assign(result.embeddings)
    probabilities = np.array(placed.probabilities)
    made = [index for index, origin in enumerate(origins) if origin is None]
    moved = np.full(len(result.clusters), -1, np.int32)
    for index, origin in enumerate(origins):
        if origin is not None:
            probabilities[:, index] = result.probabilities[:, origin]
            moved[origin] = index
    assignments = moved[result.assignments]
    rows, columns = np.flatnonzero(assignments < 0), np.array(made, np.int32)
    if len(rows):
        likeliest = probabilities[rows][:, columns].argmax(axis=1)
        assignments[rows] = columns[likeliest]
    placed = placed._replace(probabilities=probabilities, clusters=assignments)
    images = project_images(model, result.embeddings)
    nouns = model_nouns(model)
    nowhere = np.zeros(images.shape[1], np.float32)
    automatic = name_groups(
        images,
        assignments,
        nouns,
        num_groups=len(origins),
        image_mean=nowhere,
        noun_mean=nowhere,
    )
    used = {result.clusters[i].name.casefold() for i in origins if i is not None}
    used |= {name.casefold() for name in names.values() if name}
    clusters = []
    for index, origin in enumerate(origins):
        if origin is not None:
            clusters.append(replace(result.clusters[origin], index=index))
            continue
        name = names.get(index) or unlike(automatic[index].name, used)
        used.add(name.casefold())
        described = describe_cluster(
            index,
            name,
            scored_nouns(automatic[index], nouns.table),
            images=images,
            probabilities=probabilities,
            assignments=assignments,
            guess=automatic[index].guess and not names.get(index),
        )
        clusters.append(replace(described, id=ids[index]))
    near = result.neighbors
    if near is None:
        near = image_neighbors(jnp.asarray(images)).indices
    metrics = {name: v for name, v in result.metrics.items() if name not in STALE}
    risk = measure_risk_of(probabilities, near)
    metrics["label_free"] = {**metrics.get("label_free", {}), **risk}
    same = list(origins) == list(range(len(result.clusters)))
    return replace(
        result,
        # The tree is one of the clusters as they were.
        tree=result.tree if same else None,
        assignments=assignments,
        probabilities=probabilities,
        clusters=tuple(clusters),
        metrics=metrics,
        model=replace(model, clusters=tuple(clusters)),
    )
