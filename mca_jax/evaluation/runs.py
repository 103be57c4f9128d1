"""Scores a finished run against labels, on its own images and on unseen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.errors import InputError
from mca_jax.evaluation.metrics import contingency_table, score_clustering
from mca_jax.model.predict import Predictor, project_images
from mca_jax.model.result import ClusterResult

__all__ = ["score_held_out", "score_result"]


def _add_scores(
    result: ClusterResult,
    methods: Mapping[str, np.ndarray],
    labels: Any,
    class_names: Sequence[str],
) -> ClusterResult:
    """Score each method; the table of counts is that of the run, ``"mca"``."""
    scores = {
        name: score_clustering(labels, assignments)._asdict()
        for name, assignments in methods.items()
    }
    counts = contingency_table(
        labels, methods["mca"], len(class_names), len(result.clusters)
    )
    contingency = {"classes": list(class_names), "counts": counts.tolist()}
    metrics = {**result.metrics, "scores": scores, "contingency": contingency}
    return replace(result, metrics=metrics)


def score_result(
    result: ClusterResult, labels: Any, class_names: Sequence[str]
) -> ClusterResult:
    """Add scores against labels to a finished run. Nothing is chosen by them.

    Args:
      result: From ``cluster``.
      labels: Class of each image of ``result``, integers ``[n]``.
      class_names: Names of the classes.

    Returns:
      The same result with ``scores`` and ``contingency`` among its metrics.

    Example:
      >>> import mca_jax
      >>> import numpy as np
      >>> axes = np.eye(4, dtype=np.float32)
      >>> photos = np.repeat(axes[:2], 20, axis=0)
      >>> result = mca_jax.cluster(image_embeddings=photos, noun_embeddings=axes,
      ...                          nouns=["cat", "boat", "tree", "lamp"],
      ...                          num_clusters=2)
      >>> labels = [0] * 20 + [1] * 20
      >>> score_result(result, labels, ["cat", "boat"]).metrics["scores"]["mca"]["acc"]
      1.0
    """
    methods = {"mca": result.assignments, **result.baselines}
    return _add_scores(result, methods, labels, class_names)


def _nearest_means(
    result: ClusterResult, embeddings: Float[np.ndarray, "n d"]
) -> Int[np.ndarray, " n"]:
    """Assign new images to the nearest centre of the run's k-means."""
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
      InputError: The result has no model to assign images by.
    """
    if result.model is None:
        raise InputError("Expected a result with a model, found one without")
    predicted = Predictor(result.model).predict(image_embeddings=embeddings)
    methods = {"mca": predicted.nearest}
    if "kmeans" in result.baselines:
        methods["kmeans"] = _nearest_means(result, embeddings)
    scored = _add_scores(result, methods, labels, class_names)
    if "scores" in result.metrics:
        scored.metrics["scores_of_clustered"] = result.metrics["scores"]
    return scored
