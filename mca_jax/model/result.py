"""What a clustering run returns: everything that the files of a run hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mca_jax.core.host_tables import row_blocks
from mca_jax.data.files import SkippedImage
from mca_jax.model.cluster_model import Cluster, ScoredNoun

__all__ = ["Cluster", "ClusterResult", "ScoredNoun"]


@dataclass(frozen=True)
class ClusterResult:
    """Clusters of a set of images, with all that the report shows.

    Attributes:
      paths: One a row: the path relative to ``root``, or ``"row-000012"`` for
        arrays.
      root: Folder of the images, or empty for arrays.
      assignments: Cluster of each image, int32 ``[n]``.
      probabilities: Assignment probabilities, float32 ``[n, k]``; of a large set
        memory-mapped from a file that goes with the array.
      clusters: One entry a cluster, in order of the index.
      metrics: Label-free quantities under ``"label_free"``; with labels, scores
        by method under ``"scores"`` (each ``acc``, ``nmi``, ``ari`` in [0, 1])
        and the contingency table under ``"contingency"``.
      history: One dict an epoch: ``epoch``, ``loss`` and its parts, gradient
        norm, share of images that changed cluster.
      status: How training ended: ``converged``, ``step_limit``, ``diverged``,
        ``non_finite`` or, read from an earlier run, ``best_checkpoint``.
      skipped: Files that could not be read.
      audit: Count of nouns that each filter of the semantic space took, in the
        order of the filters, ending in ``kept``.
      warnings: Sentences for the reader, such as that the vocabulary doesn't
        fit the images.
      seconds: Wall time of each stage.
      config: The settings as plain JSON.
      provenance: Encoder, vocabulary and library versions, as plain JSON.
      embeddings: Image embeddings, float32 ``[n, d]``.
      params: Trained weights of the three networks.
      baselines: Assignments of simpler methods on the same embeddings, by name;
        made without labels.
      neighbors: Rows of each image's nearest other images in the space that was
        clustered, nearest first, int32 ``[n, r]``; None where nobody kept them.
      model: A ``ClusterModel``: what new images are placed by, and the edits
        since training; None for a result that was put together by hand.

    Example:
      >>> import mca_jax
      >>> import numpy as np
      >>> result = mca_jax.cluster(
      ...     image_embeddings=np.repeat(np.eye(4)[:2], 20, axis=0),
      ...     noun_embeddings=np.eye(4), nouns=["cat", "boat", "tree", "lamp"],
      ...     num_clusters=2)
      >>> result.confidences.shape
      (40,)
    """

    paths: tuple[str, ...]
    root: str
    assignments: np.ndarray
    probabilities: np.ndarray
    clusters: tuple[Cluster, ...]
    metrics: dict[str, Any]
    history: tuple[dict[str, float], ...]
    status: str
    skipped: tuple[SkippedImage, ...]
    audit: dict[str, int]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    config: dict[str, Any]
    provenance: dict[str, Any]
    embeddings: np.ndarray = field(repr=False)
    params: Any = field(repr=False)
    baselines: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    neighbors: np.ndarray | None = field(default=None, repr=False)
    model: Any = field(default=None, repr=False)

    @property
    def confidences(self) -> np.ndarray:
        """Probability of each image's own cluster, float32 ``[n]``."""
        own = np.zeros(len(self.paths), self.probabilities.dtype)
        for rows in row_blocks(self.probabilities):
            block, assigned = self.probabilities[rows], self.assignments[rows]
            own[rows] = block[np.arange(len(block)), assigned]
        return own
