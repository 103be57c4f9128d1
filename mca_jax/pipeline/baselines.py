"""Simpler methods on the images of a run, to compare it with. None takes labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mca_jax.core.errors import check_one_of
from mca_jax.core.progress import Clock, EpochCallback
from mca_jax.core.random import RunKeys, named_key
from mca_jax.core.types import PRNGKey
from mca_jax.evaluation import (
    adjusted_rand_index,
    measure_clusters,
    normalized_mutual_information,
)
from mca_jax.evaluation.baselines import sic_labels
from mca_jax.neighbors import KMeansResult
from mca_jax.neighbors.projection import unit_rows
from mca_jax.neighbors.retrieved_text import image_text_rows
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.stages import (
    Prepared,
    TrainingSetup,
    build_setup,
    cluster_images,
    shard_embeddings,
    train_heads,
)
from mca_jax.training import Checkpointer, FitResult
from mca_jax.training.initialization import uniform_initialization

__all__ = [
    "BASELINES",
    "TRAINED",
    "Baseline",
    "Hooks",
    "choose_baselines",
    "compare_baselines",
    "run_baseline",
    "run_baselines",
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
"""Those that train, with checkpoints and epochs."""


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

    def warnings(self, name: str) -> list[str]:
        """What a reader of a comparison should be wary of, most often nothing."""
        if self.fit is None or self.fit.failure is None:
            return []
        return [
            f"The baseline {name} ended as {self.fit.status.value} "
            f"({self.fit.failure}); what is compared is from before."
        ]


class Hooks(NamedTuple):
    """Callbacks of trainings, as for ``train_heads``."""

    on_epoch: EpochCallback | None = None
    checkpointer: Callable[[str], Checkpointer] | None = None


def choose_baselines(wanted: bool | Sequence[str]) -> tuple[str, ...]:
    """Read which baselines are asked for: True takes all, False none; or names.

    Raises:
      InputError: A name is unknown.
    """
    if isinstance(wanted, bool):
        return tuple(BASELINES) if wanted else ()
    for name in wanted:
        check_one_of("baseline", name, BASELINES)
    return tuple(name for name in BASELINES if name in wanted)


def run_baseline(
    name: str,
    keys: RunKeys,
    embeddings: np.ndarray,
    prepared: Prepared,
    config: Config,
    *,
    setup: TrainingSetup | None = None,
    hooks: Hooks | None = None,
) -> Baseline:
    """Cluster the images of a run by a simpler method.

    Args:
      name: One of ``BASELINES``.
      keys: Keys of the run. What trains has the run's own key, so that both see the
        images in one order.
      embeddings: The encoder's embeddings of the images, ``[n, d]``.
      prepared: What the run's training reads, wherever its images are.
      config: Settings of the run; number of clusters and epochs are shared.
      setup: Compiled steps of the run; None compiles them anew.
      hooks: For those that train.

    Raises:
      InputError: There is no such baseline.
      Interrupted: With checkpoints, after a signal in training.
    """
    check_one_of("baseline", name, BASELINES)
    key = named_key(keys.baselines, name)
    if name == "kmeans":
        return _from_kmeans(prepared.kmeans)
    if name == "kmeans_raw":
        rows = unit_rows(shard_embeddings(embeddings, config))
        return _from_kmeans(cluster_images(key, rows, config))
    if name == "kmeans_image_text":
        rows = _text_rows(prepared, config)
        return _from_kmeans(cluster_images(key, rows, config))
    train = {"consistency_only": _consistency_only, "sic_style": _sic_style}[name]
    setup = setup or build_setup(prepared.data, config)
    fit = train(keys.training, prepared, config, setup, hooks or Hooks())
    return Baseline(np.asarray(fit.assignments), fit=fit)


def run_baselines(
    names: Sequence[str],
    keys: RunKeys,
    embeddings: np.ndarray,
    prepared: Prepared,
    config: Config,
    *,
    setup: TrainingSetup,
    hooks: Hooks,
    clock: Clock,
) -> tuple[dict[str, Int[np.ndarray, " n"]], tuple[str, ...]]:
    """Run some of the simpler methods.

    Returns:
      Cluster of each image by method, k-means always, for it is there anyway; and
      what a reader should be wary of.
    """
    found = {"kmeans": np.asarray(prepared.kmeans.assignments)}
    warnings: list[str] = []
    if names:
        epochs = config.train.epochs * sum(name in TRAINED for name in names)
        clock.report_stage("Comparing", epochs or None)
    for name in names:
        baseline = run_baseline(
            name, keys, embeddings, prepared, config, setup=setup, hooks=hooks
        )
        found[name] = baseline.assignments
        warnings += baseline.warnings(name)
    return found, tuple(warnings)


def _from_kmeans(found: KMeansResult) -> Baseline:
    return Baseline(np.asarray(found.assignments), float(found.objective))


def _text_rows(prepared: Prepared, config: Config) -> Any:
    data = prepared.data
    spread = max(float(np.asarray(data.noun_similarities).std()), 1e-6)
    return image_text_rows(
        data.images,
        data.nouns,
        data.noun_neighbors,
        data.noun_similarities,
        temperature=config.heads.attention_temperature * spread,
    )


def _consistency_only(
    key: PRNGKey,
    prepared: Prepared,
    config: Config,
    setup: TrainingSetup,
    hooks: Hooks,
) -> FitResult:
    losses = replace(config.losses, instance=0.0, prototype=0.0, semantic=0.0)
    return train_heads(
        key,
        setup,
        prepared.data,
        # The choice of another initialization reads the nouns.
        uniform_initialization(prepared.kmeans),
        replace(config, losses=losses),
        name="consistency only",
        **hooks._asdict(),
    )


def _sic_style(
    key: PRNGKey,
    prepared: Prepared,
    config: Config,
    setup: TrainingSetup,
    hooks: Hooks,
) -> FitResult:
    name, on_epoch, open_run = "sic style", hooks.on_epoch, hooks.checkpointer
    return sic_labels(
        key,
        prepared.data,
        prepared.kmeans.centers,
        initial_scale=config.heads.initial_scale,
        num_epochs=config.train.epochs,
        batch_size=config.train.batch_size,
        max_steps=config.train.max_steps,
        learning_rate=config.train.learning_rate,
        on_epoch=None if on_epoch is None else lambda row: on_epoch(name, row),
        checkpointer=None if open_run is None else open_run(name),
    )


def compare_baselines(
    assignments: Int[np.ndarray, " n"],
    baselines: dict[str, Int[np.ndarray, " n"]],
    prepared: Prepared,
    config: Config,
) -> dict[str, dict[str, float]]:
    """Measure a run and its baselines by the same label-free quantities.

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
