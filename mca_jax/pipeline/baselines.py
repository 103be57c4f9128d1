"""Simpler methods on the images of a run, to compare it with. None takes labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from mca_jax.core.errors import check_one_of
from mca_jax.core.progress import EpochCallback
from mca_jax.evaluation import (
    adjusted_rand_index,
    measure_clusters,
    normalized_mutual_information,
)
from mca_jax.evaluation.baselines import sic_labels
from mca_jax.neighbors import KMeansResult, spherical_kmeans
from mca_jax.neighbors.projection import unit_rows
from mca_jax.neighbors.retrieved_text import image_text_rows
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.setup import TrainingSetup
from mca_jax.pipeline.stages import Prepared, shard_embeddings, split_key, train_heads
from mca_jax.training import Checkpointer, FitResult
from mca_jax.training.initialization import uniform_initialization

__all__ = [
    "BASELINES",
    "TRAINED",
    "Baseline",
    "Hooks",
    "baseline_warnings",
    "choose_baselines",
    "compare_baselines",
    "run_baseline",
]

BASELINES = {
    "kmeans_raw": "spherical k-means on the encoder's embeddings",
    "kmeans": "spherical k-means in the space that is clustered",
    "kmeans_image_text": "spherical k-means on image and retrieved text, as TAC "
    "without training",
    "consistency_only": "consistency and balance alone, no text",
    "sic_style": "SIC's loss with this project's head and optimiser",
}
"""Every baseline by its name, and what it is."""

TRAINED = ("consistency_only", "sic_style")
"""Those that train, with checkpoints and passes."""

# Tells the key of the baselines' k-means from that of the run's own.
_STREAM = 1


class Baseline(NamedTuple):
    """What a simpler method gave.

    Attributes:
      assignments: Cluster of each image, int32 ``[n]``.
      kmeans_objective: Mean cosine to the centre in the space that it clustered;
        None for one that trains.
      fit: How training went; None without training.
    """

    assignments: Int[np.ndarray, " n"]
    kmeans_objective: float | None = None
    fit: FitResult | None = None


class Hooks(NamedTuple):
    """What a training of a baseline shares and tells.

    Attributes:
      on_epoch: As for ``train_heads``.
      checkpointer: As for ``train_heads``.
      setup: Compiled steps of the run; None compiles them anew.
    """

    on_epoch: EpochCallback | None = None
    checkpointer: Callable[[str], Checkpointer] | None = None
    setup: TrainingSetup | None = None


def choose_baselines(wanted: bool | Sequence[str]) -> tuple[str, ...]:
    """Read which baselines are asked for.

    Args:
      wanted: True takes all, False none; or their names.

    Returns:
      Names, in the order of ``BASELINES``.

    Raises:
      InputError: A name is unknown.
    """
    if isinstance(wanted, bool):
        return tuple(BASELINES) if wanted else ()
    for name in wanted:
        check_one_of("baseline", name, BASELINES)
    return tuple(name for name in BASELINES if name in wanted)


def _from_kmeans(found: KMeansResult) -> Baseline:
    return Baseline(np.asarray(found.assignments), float(found.objective))


def _spherical(rows: Any, config: Config) -> Baseline:
    retrieval = config.retrieval
    key = jax.random.fold_in(split_key(config.seed).kmeans, _STREAM)
    found = spherical_kmeans(
        key,
        rows,
        num_clusters=config.num_clusters,
        num_restarts=retrieval.kmeans_restarts,
        sample_size=max(retrieval.kmeans_sample, config.num_clusters),
    )
    return _from_kmeans(found)


def _kmeans_raw(
    embeddings: np.ndarray, prepared: Prepared, config: Config, hooks: Hooks
) -> Baseline:
    return _spherical(unit_rows(shard_embeddings(embeddings, config)), config)


def _kmeans(
    embeddings: np.ndarray, prepared: Prepared, config: Config, hooks: Hooks
) -> Baseline:
    return _from_kmeans(prepared.kmeans)


def _kmeans_image_text(
    embeddings: np.ndarray, prepared: Prepared, config: Config, hooks: Hooks
) -> Baseline:
    data = prepared.data
    spread = max(float(np.asarray(data.noun_similarities).std()), 1e-6)
    rows = image_text_rows(
        data.images,
        data.nouns,
        data.noun_neighbors,
        data.noun_similarities,
        temperature=config.heads.attention_temperature * spread,
    )
    return _spherical(rows, config)


def _consistency_only(
    embeddings: np.ndarray, prepared: Prepared, config: Config, hooks: Hooks
) -> Baseline:
    losses = replace(config.losses, instance=0.0, prototype=0.0, semantic=0.0)
    trained = train_heads(
        split_key(config.seed).training,
        # The choice of another start reads the nouns.
        prepared._replace(initialization=uniform_initialization(prepared.kmeans)),
        replace(config, losses=losses),
        name="consistency only",
        **hooks._asdict(),
    )
    return Baseline(trained.fit.assignments, fit=trained.fit)


def _sic_style(
    embeddings: np.ndarray, prepared: Prepared, config: Config, hooks: Hooks
) -> Baseline:
    name, tell, keep = "sic style", hooks.on_epoch, hooks.checkpointer
    fit = sic_labels(
        split_key(config.seed).training,
        prepared.data,
        prepared.kmeans.centers,
        initial_scale=config.heads.initial_scale,
        num_epochs=config.train.epochs,
        batch_size=config.train.batch_size,
        learning_rate=config.train.learning_rate,
        on_epoch=None if tell is None else lambda row: tell(name, row),
        checkpointer=None if keep is None else keep(name),
    )
    return Baseline(np.asarray(fit.assignments), fit=fit)


_METHODS = {
    "kmeans_raw": _kmeans_raw,
    "kmeans": _kmeans,
    "kmeans_image_text": _kmeans_image_text,
    "consistency_only": _consistency_only,
    "sic_style": _sic_style,
}


def run_baseline(
    name: str,
    embeddings: np.ndarray,
    prepared: Prepared,
    config: Config,
    *,
    hooks: Hooks | None = None,
) -> Baseline:
    """Cluster the images of a run by a simpler method.

    Args:
      name: One of ``BASELINES``.
      embeddings: The encoder's embeddings of the images, ``[n, d]``.
      prepared: What the run's training reads, wherever its images are.
      config: Settings of the run; seed, number of clusters and passes are shared.
      hooks: For those that train.

    Returns:
      Clusters; no method looks at labels.

    Raises:
      InputError: There is no such baseline.
      Interrupted: With checkpoints, after a signal in training.
    """
    method = _METHODS[check_one_of("baseline", name, BASELINES)]
    return method(embeddings, prepared, config, hooks or Hooks())


def baseline_warnings(name: str, found: Baseline) -> list[str]:
    """Say what a reader of a comparison should be wary of.

    Args:
      name: Name of the baseline.
      found: What it gave.

    Returns:
      Sentences, most often none.
    """
    if found.fit is None or found.fit.failure is None:
        return []
    return [
        f"The baseline {name} ended as {found.fit.status.value} "
        f"({found.fit.failure}); what is compared is from before."
    ]


def compare_baselines(
    assignments: Int[np.ndarray, " n"],
    baselines: dict[str, Int[np.ndarray, " n"]],
    prepared: Prepared,
    config: Config,
) -> dict[str, dict[str, float]]:
    """Measure a run and its baselines by the same label-free quantities.

    Args:
      assignments: Clusters of the run.
      baselines: Clusters of the simpler methods.
      prepared: What the run's training read.
      config: Settings of the run.

    Returns:
      By method, the run as ``"mca"`` first: what ``measure_clusters`` says, and
      for the others ``nmi_to_run`` and ``ari_to_run``, 1 where they have the run's
      clusters under whatever numbers.
    """
    near = np.asarray(prepared.data.image_neighbors)

    def measure(clusters: np.ndarray) -> dict[str, float]:
        return measure_clusters(
            clusters, prepared.data.images, near, num_clusters=config.num_clusters
        )

    table = {"mca": measure(assignments)}
    for name, clusters in baselines.items():
        table[name] = {
            "nmi_to_run": normalized_mutual_information(assignments, clusters),
            "ari_to_run": adjusted_rand_index(assignments, clusters),
            **measure(clusters),
        }
    return table
