"""Scores a finished run on images that it has not seen, as papers do on test splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.errors import InputError
from mca_jax.evaluation import contingency_table, score_clustering
from mca_jax.model.predict import Predictor, project_images
from mca_jax.model.result import ClusterResult

__all__ = ["score_held_out"]


def _nearest_means(
    result: ClusterResult, embeddings: Float[np.ndarray, "n d"]
) -> Int[np.ndarray, " n"]:
    """Place new images at the nearest centre of the run's k-means."""
    seen, new = (
        project_images(result.model, rows) for rows in (result.embeddings, embeddings)
    )
    centers = np.zeros((len(result.clusters), seen.shape[1]))
    np.add.at(centers, result.baselines["kmeans"], seen)
    centers /= np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-12)
    return (new @ centers.T).argmax(axis=1).astype(np.int32)


def score_held_out(
    result: ClusterResult,
    embeddings: Float[np.ndarray, "n d"],
    labels: Any,
    class_names: Sequence[str],
) -> ClusterResult:
    """Score a run on images that were not clustered. Nothing is chosen by it.

    Every image counts, also one that the model would call none of these. Beside
    it stands k-means of the run, each new image at its nearest centre.

    Args:
      result: From ``cluster``.
      embeddings: Embeddings of the new images by the run's encoder.
      labels: Class of each, integers ``[n]``.
      class_names: Names of the classes.

    Returns:
      The same result with ``scores`` and ``contingency`` of the new images among
      its metrics; scores of the clustered images, if there were any, are under
      ``scores_of_clustered``.

    Raises:
      InputError: The result has no model to place images by.
    """
    if result.model is None:
        raise InputError("Expected a result with a model, found one without")
    placed = Predictor(result.model).predict(image_embeddings=embeddings).nearest
    methods = {"mca": placed}
    if "kmeans" in result.baselines:
        methods["kmeans"] = _nearest_means(result, embeddings)
    scores = {
        name: score_clustering(labels, assignments)._asdict()
        for name, assignments in methods.items()
    }
    counts = contingency_table(labels, placed, len(class_names), len(result.clusters))
    metrics = dict(result.metrics)
    if "scores" in metrics:
        metrics["scores_of_clustered"] = metrics["scores"]
    metrics["scores"] = scores
    metrics["contingency"] = {"classes": list(class_names), "counts": counts.tolist()}
    return replace(result, metrics=metrics)
