"""Runs variants and baselines on a set, sharing what they have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.sets import SweepSet
from mca_jax.config import Config, config_to_dict, fingerprint
from mca_jax.evaluation.baselines import (
    image_text_kmeans,
    raw_kmeans,
    sic_labels,
    text_views,
)
from mca_jax.stages import (
    Prepared,
    Projected,
    place_embeddings,
    prepare,
    project,
    read_prepared,
    split_key,
    train_heads,
)
from mca_jax.summary import label_free_metrics
from mca_jax.training import TrainingSetup, build_setup

__all__ = ["BASELINES", "Outcome", "Shared", "run_baseline", "run_variant"]

Made = TypeVar("Made")

_BASELINE_STREAM = 1


class Outcome(NamedTuple):
    """What a run gave, before anyone has looked at a label.

    Attributes:
      assignments: Cluster of each image, int32 ``[n]``.
      label_free: Quantities that need no labels.
      epochs: Passes over the set; 0 without training.
      status: How training ended, or ``"no training"``.
      seconds: Wall time by stage, of shared ones what they took when first done.
    """

    assignments: np.ndarray
    label_free: dict[str, float]
    epochs: int
    status: str
    seconds: dict[str, float]


def _key(seed: int, *parts: Any) -> str:
    return fingerprint([seed, *parts])


class Shared:
    """Stages of one set and seed, each done once for all who ask for the same.

    Attributes:
      given: The set.
      seconds: Time that each shared stage took, by its key.
    """

    def __init__(self, given: SweepSet) -> None:
        """Start with nothing done.

        Args:
          given: The set.
        """
        self.given = given
        self.seconds: dict[str, float] = {}
        self._made: dict[str, Any] = {}

    def _once(self, key: str, make: Callable[[], Made]) -> Made:
        if key not in self._made:
            started = time.perf_counter()
            self._made[key] = jax.block_until_ready(make())
            self.seconds[key] = time.perf_counter() - started
        return self._made[key]

    def _project_key(self, config: Config) -> str:
        settings = config_to_dict(config)
        return _key(config.num_clusters, "project", settings["encoder"])

    def _group_key(self, config: Config) -> str:
        settings = config_to_dict(config)["retrieval"]
        return _key(config.seed, "group", self._project_key(config), settings)

    def _prepare_key(self, config: Config) -> str:
        settings = config_to_dict(config)["semantics"]
        return _key(config.seed, "prepare", self._group_key(config), settings)

    def project(self, config: Config) -> Projected:
        """Project the images and the nouns.

        Args:
          config: All settings; of them those of the projection count.

        Returns:
          Both in the space that is clustered.
        """

        def make() -> Projected:
            placed = place_embeddings(self.given.embeddings, config)
            return project(placed, jnp.asarray(self.given.nouns), config)

        return self._once(self._project_key(config), make)

    def prepare(self, config: Config) -> Prepared:
        """Run all stages between the projection and training.

        Args:
          config: All settings; those of losses, heads and training don't count.

        Returns:
          What training reads.
        """
        projected = self.project(config)
        group_key = self._group_key(config)
        grouped = self._made.get(group_key)

        def make() -> Prepared:
            return prepare(
                split_key(config.seed),
                projected.images,
                projected.nouns,
                self.given.table,
                config,
                grouped=grouped,
            )

        prepared = self._once(self._prepare_key(config), make)
        # Other settings of semantics take neighbours and k-means over from here.
        self._made.setdefault(group_key, prepared)
        return prepared

    def setup(self, config: Config) -> TrainingSetup:
        """Build networks and compiled steps.

        Args:
          config: All settings; the levels' weights don't count.

        Returns:
          What runs that differ in those weights alone share.
        """
        settings = config_to_dict(config)
        weights = ("instance", "prototype", "semantic", "balance")
        losses = {k: v for k, v in settings["losses"].items() if k not in weights}
        parts = (self._prepare_key(config), losses, settings["heads"])
        key = _key(config.seed, "setup", *parts, settings["train"])
        data = self.prepare(config).data
        if key not in self._made:
            self._made[key] = build_setup(data, config)
        return self._made[key]

    def shared_seconds(self, config: Config) -> dict[str, float]:
        """Tell how long the shared stages of some settings took.

        Args:
          config: Settings that were run.

        Returns:
          Seconds by stage.
        """
        return {
            "projection": self.seconds[self._project_key(config)],
            "neighbours": self.seconds[self._prepare_key(config)],
        }

    def forget_seed(self) -> None:
        """Drop what belongs to one seed; the projection stays."""
        kept = {k: v for k, v in self._made.items() if isinstance(v, Projected)}
        self._made = kept


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def run_variant(shared: Shared, config: Config) -> Outcome:
    """Train and read out under some settings.

    Args:
      shared: The set and what is done already.
      config: All settings.

    Returns:
      Clusters and what can be said of them without labels.
    """
    prepared, setup = shared.prepare(config), shared.setup(config)
    seconds = shared.shared_seconds(config)
    with _timed(seconds, "training"):
        trained = train_heads(
            split_key(config.seed).training, prepared, config, setup=setup
        )
    with _timed(seconds, "read-out"):
        readout = read_prepared(trained, prepared)
        label_free = label_free_metrics(readout, prepared, trained.fit)
    return Outcome(
        readout.probabilities.argmax(axis=1).astype(np.int32),
        label_free,
        len(trained.fit.history),
        trained.fit.status.value,
        seconds,
    )


def _baseline_key(config: Config) -> jax.Array:
    return jax.random.fold_in(split_key(config.seed).kmeans, _BASELINE_STREAM)


def _raw_kmeans(shared: Shared, config: Config) -> Outcome:
    seconds: dict[str, float] = {}
    with _timed(seconds, "k-means"):
        found = raw_kmeans(
            _baseline_key(config),
            shared.given.embeddings,
            num_clusters=config.num_clusters,
            num_restarts=config.retrieval.kmeans_restarts,
        )
        assignments = np.asarray(found.assignments)
    objective = {"kmeans_objective": float(found.objective)}
    return Outcome(assignments, objective, 0, "no training", seconds)


def _kmeans(shared: Shared, config: Config) -> Outcome:
    found = shared.prepare(config).kmeans
    objective = {"kmeans_objective": float(found.objective)}
    seconds = shared.shared_seconds(config)
    return Outcome(np.asarray(found.assignments), objective, 0, "no training", seconds)


def _image_text_kmeans(shared: Shared, config: Config) -> Outcome:
    data = shared.prepare(config).data
    seconds = shared.shared_seconds(config)
    similarities = np.asarray(data.noun_similarities)
    spread = max(float(similarities.std()), 1e-6)
    with _timed(seconds, "k-means"):
        views = text_views(
            data.nouns,
            jnp.asarray(np.asarray(data.noun_neighbors)),
            jnp.asarray(similarities),
            temperature=config.heads.attention_temperature * spread,
        )
        found = image_text_kmeans(
            _baseline_key(config),
            jnp.asarray(np.asarray(data.images)),
            views,
            num_clusters=config.num_clusters,
            num_restarts=config.retrieval.kmeans_restarts,
        )
        assignments = np.asarray(found.assignments)
    objective = {"kmeans_objective": float(found.objective)}
    return Outcome(assignments, objective, 0, "no training", seconds)


def _sic(shared: Shared, config: Config) -> Outcome:
    prepared = shared.prepare(config)
    seconds = shared.shared_seconds(config)
    with _timed(seconds, "training"):
        found = sic_labels(
            split_key(config.seed).training,
            prepared.data,
            prepared.kmeans.centers,
            initial_scale=config.heads.initial_scale,
            num_epochs=config.train.epochs,
            batch_size=config.train.batch_size,
            learning_rate=config.train.learning_rate,
        )
    label_free = {"loss": found.history[-1]["loss"]}
    status = found.status.value
    return Outcome(
        np.asarray(found.assignments), label_free, len(found.history), status, seconds
    )


BASELINES: dict[str, tuple[Callable[[Shared, Config], Outcome], str]] = {
    "kmeans-raw": (_raw_kmeans, "spherical k-means on the encoder's embeddings"),
    "kmeans": (_kmeans, "spherical k-means where the method starts from"),
    "kmeans-image-text": (
        _image_text_kmeans,
        "spherical k-means on image and retrieved text, as TAC without training",
    ),
    "sic-style": (_sic, "SIC's loss with this project's head and optimiser"),
}
"""Every baseline by its name: the function and what it is."""


def run_baseline(shared: Shared, name: str, config: Config) -> Outcome:
    """Run a simpler method on the same embeddings.

    Args:
      shared: The set and what is done already.
      name: One of ``BASELINES``.
      config: All settings.

    Returns:
      Clusters; it takes no labels either.
    """
    method, _ = BASELINES[name]
    return method(shared, config)
