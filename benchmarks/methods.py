"""Runs variants and baselines on a set, sharing what they have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import run_peer
from benchmarks.sets import SweepSet
from mca_jax.alignment.forward import assign_clusters
from mca_jax.core.random import make_keys
from mca_jax.core.text import fingerprint
from mca_jax.evaluation import measure_clusters, measure_risk
from mca_jax.model.calibration import calibrate
from mca_jax.neighbors import KMeansResult
from mca_jax.neighbors.graph import Neighborhood
from mca_jax.pipeline import baselines
from mca_jax.pipeline.config import Config, apply_overrides, config_to_dict
from mca_jax.pipeline.describe import label_free_metrics
from mca_jax.pipeline.inputs import Nouns
from mca_jax.pipeline.stages import (
    Prepared,
    Projected,
    TrainingSetup,
    build_setup,
    cluster_images,
    find_initialization,
    find_neighbors,
    gather_data,
    predict_prepared,
    project,
    select_nouns,
    shard_embeddings,
    train_heads,
)
from mca_jax.training import FitResult
from mca_jax.training.epochs import steps_per_epoch

__all__ = [
    "BASELINES",
    "Outcome",
    "Shared",
    "run_baseline",
    "run_peer_of",
    "run_variant",
]

Made = TypeVar("Made")

# What is written of numbers along the way; files stay small.
_DIGITS = 6
_FOLLOWED = ("consistency", "confidence", "imbalance", "size_entropy")
# Compiled once a shape, for all runs of a sweep.
_measure = jax.jit(measure_risk)


class Outcome(NamedTuple):
    """What a run returned, before anyone has looked at a label.

    Attributes:
      assignments: Cluster of each image, int32 ``[n]``.
      confidences: Confidence of each in its cluster, as a result has it, ``[n]``;
        None without training.
      started: Cluster of each image before any step; None without training.
      label_free: Quantities that need no labels.
      history: One row an epoch, as of ``fit``; none without training.
      risk: Risk quantities after so many epochs, from 0 on; none for baselines.
      steps_per_pass: Steps of each epoch; 0 without training.
      epochs: Epochs of training; 0 without.
      status: How training ended, or ``"no training"``.
      seconds: Wall time by stage, of shared ones what they took when first done.
    """

    assignments: np.ndarray
    confidences: np.ndarray | None
    started: np.ndarray | None
    label_free: dict[str, float]
    history: list[dict[str, float]]
    risk: list[dict[str, float]]
    steps_per_pass: int
    epochs: int
    status: str
    seconds: dict[str, float]


def _key(seed: int, *parts: Any) -> str:
    return fingerprint([seed, *parts])


class Shared:
    """Stages of one set and seed, each done once for all runs of the same settings."""

    def __init__(self, given: SweepSet) -> None:
        """Begin with nothing done."""
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

    def _start_key(self, config: Config) -> str:
        losses = config.losses
        settings = (config_to_dict(config)["heads"], losses.prior, losses.has_text)
        return _key(config.seed, "start", self._prepare_key(config), *settings)

    def _views(self, config: Config) -> np.ndarray | None:
        return self.given.views if config.encoder.views else None

    def project(self, config: Config) -> Projected:
        """Project images and nouns into the space that is clustered."""

        def make() -> Projected:
            images = shard_embeddings(self.given.embeddings, config)
            table, embeddings = self.given.table, jnp.asarray(self.given.nouns)
            nouns = Nouns(table, embeddings, np.arange(len(embeddings)))
            return project(
                *(images, nouns, config),
                spaces=self.given.spaces,
                views=self._views(config),
            )

        return self._once(self._project_key(config), make)

    def prepare(self, config: Config) -> Prepared:
        """Run all stages between the projection and training.

        Settings of losses, heads and training don't count.
        """
        projected, keys = self.project(config), make_keys(jax.random.key(config.seed))

        def group() -> tuple[Neighborhood, KMeansResult]:
            near = find_neighbors(keys.neighbor_search, projected.images, config)
            return near, cluster_images(keys.kmeans, near.images, config)

        def make() -> Prepared:
            space, _ = select_nouns(projected.nouns, kmeans.centers, config)
            indices = near.neighbors.indices
            return gather_data(
                *(keys, near.images, kmeans, space, even),
                near=indices,
                unsmoothed=projected.images,
            )

        # The start is another stage: settings that choose another share all else.
        even = apply_overrides(config, ["losses.prior=uniform"])
        # Other settings of semantics share neighbours and k-means.
        near, kmeans = self._once(self._group_key(config), group)
        prepared = self._once(self._prepare_key(config), make)
        start = self._once(
            self._start_key(config),
            lambda: find_initialization(keys.initialization, prepared, config),
        )
        return prepared._replace(initialization=start)

    def setup(self, config: Config) -> TrainingSetup:
        """Build networks and compiled steps, which the levels' weights don't change."""
        settings = config_to_dict(config)
        weights = ("instance", "prototype", "semantic", "balance", "prior")
        losses = {k: v for k, v in settings["losses"].items() if k not in weights}
        parts = (self._prepare_key(config), losses, settings["heads"])
        key = _key(config.seed, "setup", *parts, settings["train"])
        data = self.prepare(config).data
        if key not in self._made:
            self._made[key] = build_setup(data, config)
        return self._made[key]

    def shared_seconds(self, config: Config) -> dict[str, float]:
        """Seconds of the shared stages of settings that were run."""
        return {
            "projection": self.seconds[self._project_key(config)],
            "neighbours": self.seconds[self._group_key(config)]
            + self.seconds[self._prepare_key(config)],
            "start": self.seconds[self._start_key(config)],
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


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.{_DIGITS}g}") for name, value in row.items()}


class _RiskWatch:
    """Measures the risk quantities after each epoch, and what that takes.

    Attributes:
      rows: One an epoch, with the number of epochs made as ``epoch``.
      started: Cluster of each image before any step.
      seconds: Time spent here, which is none of the method's.
    """

    def __init__(self, setup: TrainingSetup, prepared: Prepared) -> None:
        self.rows: list[dict[str, float]] = []
        self.started: np.ndarray | None = None
        self.seconds = 0.0
        self._setup, self._data = setup, prepared.data

    def __call__(self, epoch: int, params: Any) -> None:
        started = time.perf_counter()
        images = jnp.asarray(np.asarray(self._data.images))
        logits = self._setup.heads.image_logits(params, images)
        if self.started is None:
            self.started = np.asarray(logits).argmax(axis=1).astype(np.int32)
        near = jnp.asarray(np.asarray(self._data.image_neighbors))
        risk = jax.device_get(_measure(jax.nn.softmax(logits, axis=-1), near))
        row = {name: float(getattr(risk, name)) for name in _FOLLOWED}
        self.rows.append({"epoch": float(epoch), **_rounded(row)})
        self.seconds += time.perf_counter() - started


def _steps_per_pass(prepared: Prepared, config: Config) -> int:
    count = prepared.data.images.shape[0]
    size = min(config.train.batch_size, count)
    return steps_per_epoch(count, size, config.train.max_steps)


def _measured(
    assignments: np.ndarray, prepared: Prepared, config: Config
) -> dict[str, float]:
    near = np.asarray(prepared.data.image_neighbors)
    return measure_clusters(
        assignments, prepared.data.images, near, num_clusters=config.num_clusters
    )


def _history(fit: FitResult | None) -> list[dict[str, float]]:
    return [] if fit is None else [_rounded(row) for row in fit.history]


def run_variant(shared: Shared, config: Config) -> Outcome:
    """Train and predict under some settings."""
    prepared, setup = shared.prepare(config), shared.setup(config)
    seconds = shared.shared_seconds(config)
    watch = _RiskWatch(setup, prepared)
    with _timed(seconds, "training"):
        fit = train_heads(
            make_keys(jax.random.key(config.seed)).training,
            setup,
            prepared.data,
            prepared.initialization,
            config,
            text_share=prepared.text_share,
            on_weights=watch,
        )
    seconds["training"] -= watch.seconds
    with _timed(seconds, "read-out"):
        predictions = predict_prepared(setup.heads, fit.params, prepared.data)
        label_free = label_free_metrics(predictions, prepared, fit)
        assignments = assign_clusters(predictions.probabilities)
        params = calibrate(
            make_keys(jax.random.key(config.seed)).calibration,
            setup.heads,
            fit.params,
            images=prepared.data.images,
            image_neighbors=prepared.data.image_neighbors,
            assignments=assignments,
        )
        sure = predict_prepared(setup.heads, params, prepared.data).probabilities
    return Outcome(
        assignments,
        sure[np.arange(len(sure)), assignments],
        watch.started,
        {**_measured(assignments, prepared, config), **label_free},
        _history(fit),
        watch.rows,
        _steps_per_pass(prepared, config),
        len(fit.history),
        fit.status.value,
        seconds,
    )


def run_peer_of(shared: Shared, name: str, config: Config) -> Outcome:
    """Cluster the same embeddings by one of ``PEERS``."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "clustering"):
        found = run_peer(
            name,
            shared.given.embeddings,
            num_clusters=config.num_clusters,
            seed=config.seed,
        )
    return Outcome(found, None, None, {}, [], [], 0, 0, "no training", seconds)


BASELINES = {
    name.replace("_", "-"): about
    for name, about in baselines.BASELINES.items()
    # Here it is the variant "none".
    if name != "consistency_only"
}
"""Every baseline by its name, and what it is."""


def run_baseline(shared: Shared, name: str, config: Config) -> Outcome:
    """Run one of ``BASELINES`` on the same embeddings; it takes no labels either."""
    prepared = shared.prepare(config)
    # Raw embeddings are clustered as they are.
    seconds = {} if name == "kmeans-raw" else shared.shared_seconds(config)
    with _timed(seconds, "clustering"):
        found = baselines.run_baseline(
            name.replace("-", "_"),
            make_keys(jax.random.key(config.seed)),
            shared.given.embeddings,
            prepared,
            config,
        )
    fit = found.fit
    label_free = _measured(found.assignments, prepared, config)
    if found.kmeans_objective is not None:
        label_free["kmeans_objective"] = found.kmeans_objective
    if fit is not None:
        label_free["loss"] = fit.history[-1]["loss"]
        label_free["rate_exponent"] = fit.rate_exponent
    return Outcome(
        found.assignments,
        None,
        None,
        label_free,
        _history(fit),
        [],
        0 if fit is None else _steps_per_pass(prepared, config),
        0 if fit is None else len(fit.history),
        "no training" if fit is None else fit.status.value,
        seconds,
    )
