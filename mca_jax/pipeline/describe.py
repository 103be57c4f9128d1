"""What is said of a finished run: names, cards, quantities, warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from mca_jax.alignment.forward import Predictions
from mca_jax.core.host_tables import release
from mca_jax.core.parallel import HostRows, fetch_rows, host_share, sum_over_hosts
from mca_jax.core.parallel.shares import num_hosts
from mca_jax.core.text import plain_json
from mca_jax.encoders import Encoder
from mca_jax.evaluation import measure_risk
from mca_jax.model.result import Cluster, ScoredNoun
from mca_jax.model.tree import ClusterTree
from mca_jax.neighbors.tree import grow_tree
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.inputs import Nouns
from mca_jax.pipeline.stages import Prepared
from mca_jax.semantics import NounTable
from mca_jax.semantics.evidence import group_evidence, noun_votes, spread_sample
from mca_jax.semantics.naming import (
    ClusterName,
    name_clusters,
    name_nodes,
    summarize_evidence,
)
from mca_jax.semantics.space import nameable_nouns
from mca_jax.training import FitResult

__all__ = [
    "describe_cluster",
    "describe_clusters",
    "label_free_metrics",
    "measure_risk_of",
    "name_groups",
    "name_tree",
    "nouns_to_see",
    "provenance",
    "scored_nouns",
    "warnings_for",
]

_NUM_EXEMPLARS = 12
# Images that say which clusters are alike.
_OVERVIEW = 1000


def measure_risk_of(probabilities: np.ndarray, neighbors: Any) -> dict[str, float]:
    """Measure the risk quantities of ``evaluation/risk.py``, by name."""
    risk = measure_risk(probabilities, np.asarray(neighbors))
    return {name: float(value) for name, value in risk._asdict().items()}


def label_free_metrics(
    predictions: Predictions,
    prepared: Prepared,
    fit: FitResult,
    recall: float | None = None,
) -> dict[str, float]:
    """Collect the quantities that need no labels.

    Args:
      predictions: The probabilities that are measured.
      prepared: What training read.
      fit: What training gave.
      recall: Of the search for neighbours; None where it was exact.
    """
    start = prepared.initialization
    sizes = {
        "merged_evenness": start.evenness,
        "prior_estimated": float(start.estimated),
    }
    return {
        **({} if recall is None else {"neighbor_recall": recall}),
        **({} if math.isnan(start.evenness) else sizes),
        **measure_risk_of(predictions.probabilities, prepared.data.image_neighbors),
        "kmeans_objective": float(prepared.kmeans.objective),
        "text_trust": prepared.trust,
        "noun_attention": float(predictions.trust.mean()),
        "rate_exponent": fit.rate_exponent,
        "loss": fit.history[-1]["loss"],
    }


def nouns_to_see(nouns: Nouns, config: Config) -> Nouns:
    """Keep the nouns that any picture may show, for :func:`name_groups`."""
    settings = config.semantics
    return nouns.keep(
        nameable_nouns(
            nouns.table,
            min_depth=settings.min_depth,
            concrete_only=settings.concrete_only,
            allow_people=settings.allow_people,
            allow_offensive=settings.allow_offensive,
            photographed_only=settings.photographed_only,
        )
    )


def name_groups(
    embeddings: np.ndarray,
    assignments: np.ndarray,
    nouns: Nouns,
    *,
    num_groups: int,
    image_mean: np.ndarray,
    noun_mean: np.ndarray,
) -> list[ClusterName]:
    """Name groups of images by the nouns that are seen on a sample of them.

    Args:
      embeddings: Of all images, ``[n, d]``.
      assignments: Group of each image.
      nouns: What may be seen, in the same space.
      num_groups: How many groups there are.
      image_mean: Mean of the images, ``[d]``.
      noun_mean: Mean of the vocabulary, ``[d]``.

    Returns:
      One name a group.
    """
    evidence = _see(
        embeddings,
        assignments,
        nouns=nouns,
        num_groups=num_groups,
        image_mean=image_mean,
        noun_mean=noun_mean,
    )
    sizes = np.bincount(assignments, minlength=num_groups)
    return name_clusters(evidence, None, nouns.table, nouns.rows, sizes=sizes)


def _see(
    embeddings: np.ndarray,
    groups: np.ndarray,
    *,
    nouns: Nouns,
    num_groups: int,
    size: int = 3000,
    image_mean: np.ndarray,
    noun_mean: np.ndarray,
) -> np.ndarray:
    """Mean votes of a sample of each group's images."""
    rows = spread_sample(groups, num_groups, size=size)
    votes = noun_votes(
        _rows_of_hosts(embeddings, rows),
        np.asarray(nouns.embeddings),
        image_mean=image_mean,
        noun_mean=noun_mean,
    )
    return group_evidence(votes, groups[rows], num_groups)


def _rows_of_hosts(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of the embeddings, of which each host reads those of its share."""
    if num_hosts() == 1:
        return fetch_rows(HostRows(embeddings, len(rows)), rows)
    own = host_share(len(embeddings))
    mine = (rows >= own.start) & (rows < own.stop)
    table = np.zeros((len(rows), embeddings.shape[1]), np.float32)
    table[mine] = embeddings[rows[mine]]
    (table,) = sum_over_hosts([table])
    return table


def name_tree(
    points: np.ndarray,
    embeddings: np.ndarray,
    assignments: np.ndarray,
    nouns: Nouns,
    *,
    num_clusters: int,
    image_mean: np.ndarray,
    noun_mean: np.ndarray,
) -> tuple[list[ClusterName], ClusterTree]:
    """Grow the tree over the clusters and name every group of it.

    Clusters are merged by what is seen in them, and halved where their images lie
    apart. Arguments are those of :func:`name_groups`, and ``points``, what was
    clustered, ``[n, c]``.

    Returns:
      One name a cluster, and the tree, where the clusters have the same names.
    """
    see = partial(
        _see, embeddings, nouns=nouns, image_mean=image_mean, noun_mean=noun_mean
    )
    overview = see(assignments, num_groups=num_clusters, size=_OVERVIEW)
    summaries = summarize_evidence(overview, nouns.table, nouns.rows)
    grown = grow_tree(points, assignments, summaries=summaries)
    count = 2 * len(grown.splits) + 1
    evidence = see(grown.leaves, num_groups=count)
    sizes = np.bincount(grown.leaves, minlength=count)
    evidence *= sizes[:, None]
    for node in range(count - 1, 0, -1):
        evidence[grown.splits[(node - 1) // 2]] += evidence[node]
    filled = np.unique(assignments)
    plain = ("",) * count, (False,) * count
    level = ClusterTree(grown.splits, grown.leaves, *plain, len(filled)).cut(
        len(filled)
    )
    # The first image of a cluster tells its node.
    firsts = [int(np.argmax(assignments == each)) for each in filled]
    nodes = [level.nodes[level.groups[row]] for row in firsts]
    own = np.zeros((num_clusters, evidence.shape[1]), np.float32)
    own[filled] = evidence[nodes]
    names = name_clusters(
        own,
        None,
        nouns.table,
        nouns.rows,
        sizes=np.bincount(assignments, minlength=num_clusters),
    )
    given = {
        node: (names[each].name, names[each].guess)
        for node, each in zip(nodes, filled.tolist(), strict=True)
    }
    named = name_nodes(evidence, nouns.table, nouns.rows, given=given)
    texts, guesses = zip(*named, strict=True)
    tree = ClusterTree(grown.splits, grown.leaves, texts, guesses, len(filled))
    return names, tree


def describe_clusters(
    names: Sequence[ClusterName],
    table: NounTable,
    **arrays: np.ndarray,
) -> tuple[Cluster, ...]:
    """Put together what is shown of each cluster; see :func:`describe_cluster`."""
    return tuple(
        describe_cluster(
            index,
            name.name,
            scored_nouns(name, table),
            guess=name.guess,
            **arrays,
        )
        for index, name in enumerate(names)
    )


def scored_nouns(name: ClusterName, table: NounTable) -> tuple[ScoredNoun, ...]:
    """Spell out the nouns behind a name, best first."""
    return tuple(
        ScoredNoun(
            table.names[row], table.synsets[row], float(score), table.glosses[row]
        )
        for row, score in name.nouns
    )


def describe_cluster(
    index: int,
    name: str,
    nouns: tuple[ScoredNoun, ...],
    *,
    images: np.ndarray,
    probabilities: np.ndarray,
    assignments: np.ndarray,
    guess: bool = False,
) -> Cluster:
    """Put together what is shown of one cluster.

    Args:
      index: Its number.
      name: Its name.
      nouns: The nouns behind the name.
      images: Projected unit vectors of all images, ``[n, c]``.
      probabilities: Of every cluster, ``[n, k]``.
      assignments: Cluster of each image.
      guess: Whether the name is one.

    Returns:
      The cluster, with the images nearest to its centre.
    """
    rows = np.flatnonzero(assignments == index)
    center = images[rows].sum(axis=0)
    order = np.argsort(-(images[rows] @ center), kind="stable")
    confidence = float(probabilities[rows, index].mean()) if len(rows) else 0.0
    release(probabilities)
    release(images)
    exemplars = tuple(int(row) for row in rows[order[:_NUM_EXEMPLARS]])
    return Cluster(index, len(rows), name, confidence, nouns, exemplars, guess=guess)


def warnings_for(
    names: Sequence[ClusterName], fit: FitResult, prepared: Prepared
) -> tuple[str, ...]:
    """Say what a reader should be wary of, most often nothing."""
    warnings = []
    if prepared.text_share < 1:
        warnings.append(
            "The nouns hardly fit these images: text_trust is "
            f"{prepared.trust:.2f} of 1, so text counts "
            f"{prepared.text_share:.0%} of what it does elsewhere."
        )
    guesses = sum(name.guess for name in names)
    if guesses:
        verb = "is a guess" if guesses == 1 else "are guesses"
        warnings.append(
            f"{guesses} of {len(names)} names {verb}: the vocabulary or the encoder "
            "does not fit these images well. Judge those groups by their pictures."
        )
    if fit.failure is not None:
        warnings.append(
            f"Training ended as {fit.status.value} ({fit.failure}); what is shown is "
            "from before. Lower train.learning_rate."
        )
    return tuple(warnings)


def provenance(encoder: Encoder | None, vocabulary_size: int) -> dict[str, Any]:
    """Tell what a result was made with, as plain JSON without times or places."""
    described: dict[str, Any] = {"name": "given embeddings"}
    if encoder is not None:
        described = {
            "name": encoder.name,
            "domain": encoder.domain,
            "licence": encoder.licence,
            "fingerprint": encoder.fingerprint,
        }
    versions = {}
    for package in ("mca-jax", "jax", "flax", "optax", "numpy", "pillow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return plain_json(
        {
            "encoder": described,
            "vocabulary_size": vocabulary_size,
            "versions": versions,
        }
    )
