"""What a clustering run returns: everything that the files of a run hold."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mca_jax.core.atomic_files import refused_by_system
from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import row_blocks
from mca_jax.data.files import SkippedImage
from mca_jax.model.cluster_model import Cluster, ScoredNoun
from mca_jax.model.files import (
    read_artifact,
    read_model,
    understood,
    write_artifact,
    write_model,
)
from mca_jax.model.tree import ClusterTree

__all__ = ["Cluster", "ClusterResult", "ScoredNoun", "read_result", "write_result"]

_RESULT_TEXTS = (
    "root",
    "status",
    "metrics",
    "history",
    "audit",
    "warnings",
    "config",
    "provenance",
)


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
      digests: What tells the content of an image from any other, uint8 ``[n, 32]``;
        None for given embeddings, and in runs of version 0.1.
      pictures: Small pictures by which duplicates are found, uint8
        ``[n, 16, 16, 3]``, black where there is none; None until a report is written.
      model: A ``ClusterModel``: what new images are placed by, and the edits
        since training; None for a result that was put together by hand.
      tree: Groups above and below the clusters, for any number of them; None in
        results of earlier versions, and after an edit or update.

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
    digests: np.ndarray | None = field(default=None, repr=False)
    pictures: np.ndarray | None = field(default=None, repr=False)
    model: Any = field(default=None, repr=False)
    tree: ClusterTree | None = field(default=None, repr=False)

    @property
    def confidences(self) -> np.ndarray:
        """Probability of each image's own cluster, float32 ``[n]``."""
        own = np.zeros(len(self.paths), self.probabilities.dtype)
        for rows in row_blocks(self.probabilities):
            block, assigned = self.probabilities[rows], self.assignments[rows]
            own[rows] = block[np.arange(len(block)), assigned]
        return own

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write model and result, without a report, for :func:`mca_jax.load`.

        Args:
          folder: Where to; made if need be. ``write_outputs`` adds tables and report.

        Raises:
          InputError: The result has no model, or the system refused.

        Example:
          >>> import tempfile
          >>> import mca_jax
          >>> from mca_jax.pipeline.example import example_result
          >>> with tempfile.TemporaryDirectory() as folder:
          ...     example_result().save(folder)
          ...     len(mca_jax.load(folder).result.clusters)
          3
        """
        if self.model is None:
            raise InputError(
                "Expected a result with a model, found one that was put together by "
                "hand; it can't be saved"
            )
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused_by_system("create", path, error) from error
        write_result(self, path)


def write_result(result: ClusterResult, folder: str | os.PathLike[str]) -> None:
    """Write ``result.safetensors`` and ``result.json``, and the model.

    Everything but the times, so that two runs with one seed write equal files. The
    result has a model, and the folder exists.

    Raises:
      InputError: A file can't be written.
    """
    write_model(result.model, folder)
    arrays = {
        "embeddings": result.embeddings,
        "assignments": result.assignments,
        "probabilities": result.probabilities,
        **{
            f"baselines/{name}": np.asarray(each, np.int32)
            for name, each in result.baselines.items()
        },
    }
    if result.neighbors is not None:
        arrays["neighbors"] = np.asarray(result.neighbors, np.int32)
    for name in ("digests", "pictures"):
        values = vars(result)[name]
        if values is not None:
            arrays[name] = np.asarray(values, np.uint8)
    if result.tree is not None:
        arrays["tree_leaves"] = np.asarray(result.tree.leaves, np.int32)
    content = {
        "tree": None if result.tree is None else result.tree.to_json(),
        "paths": result.paths,
        "skipped": [asdict(image) for image in result.skipped],
        "baselines": list(result.baselines),
        **{name: vars(result)[name] for name in _RESULT_TEXTS},
    }
    write_artifact(Path(folder), "result", content, arrays)


def read_result(folder: str | os.PathLike[str]) -> ClusterResult:
    """Read the result that a run wrote into its workdir, with its model.

    Returns:
      The result as it was, but without times; infinities have become NaN.

    Raises:
      InputError: The folder is not a run's, or a file is damaged.
    """
    model = read_model(folder)
    content, arrays = read_artifact(folder, "result")

    def build() -> ClusterResult:
        tree = content.get("tree")
        if tree is not None:
            tree = ClusterTree.from_json(tree, arrays["tree_leaves"])
        texts = {name: content[name] for name in _RESULT_TEXTS}
        texts["history"] = tuple(_numbers(row) for row in content["history"])
        if "label_free" in texts["metrics"]:
            texts["metrics"]["label_free"] = _numbers(texts["metrics"]["label_free"])
        texts["warnings"] = tuple(content["warnings"])
        return ClusterResult(
            **texts,
            paths=tuple(content["paths"]),
            assignments=arrays["assignments"],
            probabilities=arrays["probabilities"],
            clusters=model.clusters,
            skipped=tuple(SkippedImage(**image) for image in content["skipped"]),
            seconds={},
            embeddings=arrays["embeddings"],
            params=model.network.params,
            baselines={
                name: arrays[f"baselines/{name}"] for name in content["baselines"]
            },
            neighbors=arrays.get("neighbors"),
            digests=arrays.get("digests"),
            pictures=arrays.get("pictures"),
            model=model,
            tree=tree,
        )

    return understood(build, Path(folder) / "result.json")


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    """Read numbers back; JSON has no NaN."""
    return {name: math.nan if v is None else v for name, v in values.items()}
