"""What is said of a finished run: names, cards, quantities, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax.numpy as jnp
import numpy as np

from mca_jax.encoders import Encoder
from mca_jax.evaluation import measure_risk
from mca_jax.evaluation.evaluator import Readout, noun_evidence
from mca_jax.naming import ClusterName, name_clusters
from mca_jax.plain import plain_json
from mca_jax.result import Cluster, ScoredNoun
from mca_jax.semantics import NounTable
from mca_jax.stages import Prepared
from mca_jax.training import FitResult

__all__ = [
    "describe_clusters",
    "label_free_metrics",
    "name_from_readout",
    "provenance",
    "warnings_for",
]

_NUM_EXEMPLARS = 12


def label_free_metrics(
    readout: Readout, prepared: Prepared, fit: FitResult
) -> dict[str, float]:
    """Collect the quantities that need no labels.

    Args:
      readout: What the networks say.
      prepared: What training read.
      fit: What training gave.

    Returns:
      One number a name; see ``evaluation/risk.py`` for the risk quantities.
    """
    risk = measure_risk(
        jnp.asarray(readout.probabilities), prepared.data.image_neighbors
    )
    return {
        **{name: float(value) for name, value in risk._asdict().items()},
        "kmeans_objective": float(prepared.kmeans.objective),
        "text_trust": float(readout.trust.mean()),
        "rate_exponent": fit.rate_exponent,
        "loss": fit.history[-1]["loss"],
    }


def name_from_readout(
    readout: Readout, prepared: Prepared, table: NounTable, assignments: np.ndarray
) -> list[ClusterName]:
    """Name the clusters by the attention on their images' nouns.

    Args:
      readout: What the networks say.
      prepared: What training read.
      table: The vocabulary.
      assignments: Cluster of each image.

    Returns:
      One name a cluster.
    """
    evidence = noun_evidence(
        readout, np.asarray(prepared.data.noun_neighbors), assignments
    )
    return name_clusters(
        evidence,
        readout.noun_assignments,
        table,
        prepared.noun_rows,
        sizes=np.bincount(assignments, minlength=evidence.shape[0]),
    )


def describe_clusters(
    names: Sequence[ClusterName],
    readout: Readout,
    prepared: Prepared,
    table: NounTable,
    assignments: np.ndarray,
) -> tuple[Cluster, ...]:
    """Put together what is shown of each cluster.

    Args:
      names: One a cluster.
      readout: What the networks say.
      prepared: What training read.
      table: The vocabulary.
      assignments: Cluster of each image.

    Returns:
      One entry a cluster, in order.
    """
    photos = np.asarray(prepared.data.images)
    clusters = []
    for index, name in enumerate(names):
        rows = np.flatnonzero(assignments == index)
        center = photos[rows].sum(axis=0)
        order = np.argsort(-(photos[rows] @ center), kind="stable")
        confidence = (
            float(readout.probabilities[rows, index].mean()) if len(rows) else 0
        )
        nouns = tuple(
            ScoredNoun(
                table.names[row], table.synsets[row], float(score), table.glosses[row]
            )
            for row, score in name.nouns
        )
        exemplars = tuple(int(row) for row in rows[order[:_NUM_EXEMPLARS]])
        clusters.append(
            Cluster(index, len(rows), name.name, confidence, nouns, exemplars)
        )
    return tuple(clusters)


def warnings_for(names: Sequence[ClusterName], status: str) -> tuple[str, ...]:
    """Say what a reader should be wary of.

    Args:
      names: Names with their confidences.
      status: How training ended.

    Returns:
      Sentences, most often none.
    """
    warnings = []
    if float(np.median([name.confidence for name in names])) < 0.2:
        warnings.append(
            "Most names are guesses: the vocabulary or the encoder does not fit these "
            "images well. Judge the groups by their pictures."
        )
    if status in ("diverged", "non_finite"):
        warnings.append(
            f"Training ended as {status}; what is shown is from before. Lower "
            "train.learning_rate."
        )
    return tuple(warnings)


def provenance(encoder: Encoder | None, vocabulary_size: int) -> dict[str, Any]:
    """Tell what a result was made with.

    Args:
      encoder: The encoder, or None for given embeddings.
      vocabulary_size: Number of nouns before filtering.

    Returns:
      Plain JSON values without times or places.
    """
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
