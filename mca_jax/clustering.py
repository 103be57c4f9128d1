"""The whole job in one call: images or embeddings in, named clusters out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from mca_jax.checks import InputError, check_in_range
from mca_jax.config import Config, config_to_dict
from mca_jax.data import find_images
from mca_jax.encoders import Encoder, build_encoder
from mca_jax.encoders.store import Embedded, embed_images
from mca_jax.evaluation import contingency_table, score_clustering
from mca_jax.evaluation.evaluator import read_out
from mca_jax.result import ClusterResult
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary import parse_vocabulary
from mca_jax.stages import prepare, project, split_key, train_heads
from mca_jax.summary import (
    describe_clusters,
    label_free_metrics,
    name_from_readout,
    provenance,
    warnings_for,
)

__all__ = ["Listener", "cluster", "score_result"]

_TEXT_BLOCK = 8192


class Listener(Protocol):
    """Told what a run is doing, for progress and logs."""

    def start(self, stage: str, total: int | None) -> None:
        """Note that a stage begins.

        Args:
          stage: Its name, such as ``"Embedding"``.
          total: Number of its parts, or None if nobody knows.
        """

    def advance(self, count: int) -> None:
        """Count parts that are done.

        Args:
          count: How many since the last call.
        """

    def log(self, event: str, values: dict[str, Any]) -> None:
        """Take a line for the log.

        Args:
          event: What happened.
          values: What belongs to it.
        """


class _Silent:
    def start(self, stage: str, total: int | None) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def log(self, event: str, values: dict[str, Any]) -> None:
        pass


class _Clock:
    """Wall time of each stage, told to the listener as well."""

    def __init__(self, listener: Listener) -> None:
        self.seconds: dict[str, float] = {}
        self.listener = listener
        self._stage, self._since = "", 0.0

    def start(self, stage: str, total: int | None = None) -> None:
        self.stop()
        self._stage, self._since = stage, time.monotonic()
        self.listener.start(stage, total)

    def stop(self) -> None:
        if self._stage:
            spent = time.monotonic() - self._since
            self.seconds[self._stage] = spent
            self.listener.log("stage", {"stage": self._stage, "seconds": spent})
            self._stage = ""


def cluster(
    images: str | os.PathLike[str] | np.ndarray | None = None,
    *,
    num_clusters: int | None = None,
    config: Config | None = None,
    image_embeddings: Any = None,
    noun_embeddings: Any = None,
    nouns: Sequence[str] | NounTable | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    baselines: bool = False,
    listener: Listener | None = None,
) -> ClusterResult:
    """Cluster images into named groups. Takes no labels.

    Give a folder, an array of pixels, or embeddings with those of the nouns.

    Args:
      images: Folder, read recursively, or pixels: uint8 ``[n, h, w, 3]``.
      num_clusters: ``k``, at least 2 and at most ``n``; stands above that of
        ``config``.
      config: All settings; None takes the defaults.
      image_embeddings: In place of ``images``: unit vectors ``[n, d]``.
      noun_embeddings: With them: unit vectors of the nouns ``[m, d]``.
      nouns: The nouns of those rows: names, or a table from ``load_nouns``.
      cache_dir: Folder that keeps embeddings of images for later runs.
      baselines: Also train with the text levels off, to compare.
      listener: Told about progress.

    Returns:
      Assignments, names, confidences and everything that the report shows.

    Raises:
      InputError: The arguments don't fit each other, a value is out of range,
        or no image can be read.

    Example:
      >>> import numpy as np
      >>> axes = np.eye(4, dtype=np.float32)
      >>> photos = np.repeat(axes[:2], 20, axis=0)
      >>> result = cluster(image_embeddings=photos, noun_embeddings=axes,
      ...                  nouns=["cat", "boat", "tree", "lamp"], num_clusters=2)
      >>> sorted(c.name for c in result.clusters)
      ['boat', 'cat']
    """
    config = config or Config()
    if num_clusters is not None:
        config = replace(config, num_clusters=num_clusters)
    clock = _Clock(listener or _Silent())
    if image_embeddings is not None:
        if images is not None:
            raise InputError("Expected images or image_embeddings, found both")
        if noun_embeddings is None or nouns is None:
            raise InputError(
                "Expected noun_embeddings and nouns beside image_embeddings"
            )
        embedded = _given_embeddings(image_embeddings)
        table = _given_nouns(nouns)
        texts, encoder = jnp.asarray(noun_embeddings, jnp.float32), None
        if texts.shape != (len(table.names), embedded.embeddings.shape[1]):
            raise InputError(
                f"Expected noun_embeddings of shape [{len(table.names)}, "
                f"{embedded.embeddings.shape[1]}], found {list(texts.shape)}"
            )
    elif images is None:
        raise InputError("Expected images or image_embeddings, found neither")
    else:
        encoder = build_encoder(config.encoder.name)
        # Before the embedding: a bad vocabulary should not cost minutes first.
        table = load_nouns(config.semantics.vocabulary)
        embedded = _embed(encoder, images, config, cache_dir, clock)
        texts = None
    check_in_range("num_clusters", config.num_clusters, 2, len(embedded.paths))
    if encoder is not None:
        clock.start("Placing nouns")
        texts = _embed_nouns(encoder, table)
    return _cluster_embeddings(
        embedded, texts, table, encoder, config, clock, baselines=baselines
    )


def score_result(
    result: ClusterResult, labels: Any, class_names: Sequence[str]
) -> ClusterResult:
    """Add scores against labels to a finished run. Nothing is chosen by them.

    Args:
      result: From :func:`cluster`.
      labels: Class of each image of ``result``, integers ``[n]``.
      class_names: Names of the classes.

    Returns:
      The same result with ``scores`` and ``contingency`` among its metrics.

    Example:
      >>> import numpy as np
      >>> axes = np.eye(4, dtype=np.float32)
      >>> photos = np.repeat(axes[:2], 20, axis=0)
      >>> result = cluster(image_embeddings=photos, noun_embeddings=axes,
      ...                  nouns=["cat", "boat", "tree", "lamp"], num_clusters=2)
      >>> labels = [0] * 20 + [1] * 20
      >>> score_result(result, labels, ["cat", "boat"]).metrics["scores"]["mca"]["acc"]
      1.0
    """
    methods = {"mca": result.assignments, **result.baselines}
    scores = {
        name: score_clustering(labels, assignments)._asdict()
        for name, assignments in methods.items()
    }
    counts = contingency_table(
        labels, result.assignments, len(class_names), len(result.clusters)
    )
    contingency = {"classes": list(class_names), "counts": counts.tolist()}
    metrics = {**result.metrics, "scores": scores, "contingency": contingency}
    return replace(result, metrics=metrics)


def _given_embeddings(image_embeddings: Any) -> Embedded:
    array = np.asarray(image_embeddings, np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise InputError(
            f"Expected finite image_embeddings of shape [n, d], found {array.shape}"
        )
    paths = tuple(f"row-{row:06d}" for row in range(len(array)))
    return Embedded(array, np.arange(len(array)), paths, "", (), 0, ())


def _given_nouns(nouns: Sequence[str] | NounTable) -> NounTable:
    if isinstance(nouns, NounTable):
        return nouns
    table = parse_vocabulary("\n".join(nouns), "nouns")
    if len(table.names) != len(nouns):
        raise InputError(
            f"Expected nouns without commas or repeats, found {len(nouns)} entries "
            f"for {len(table.names)} nouns"
        )
    return table


def _embed(
    encoder: Encoder,
    images: str | os.PathLike[str] | np.ndarray,
    config: Config,
    cache_dir: str | os.PathLike[str] | None,
    clock: _Clock,
) -> Embedded:
    if isinstance(images, (str, os.PathLike)):
        source: Any = find_images(Path(images))
        total = len(source.paths)
    else:
        source, total = images, len(images)
    clock.start("Embedding", total)
    return embed_images(
        encoder,
        source,
        batch_size=config.encoder.batch_size,
        cache_dir=cache_dir,
        threads=config.encoder.threads or None,
        progress=clock.listener.advance,
    )


def _embed_nouns(encoder: Encoder, table: NounTable) -> Any:
    """Embed the vocabulary block by block, so that memory stays bounded."""
    names, synsets = table.names, table.synsets
    blocks = []
    for start in range(0, len(names), _TEXT_BLOCK):
        rows = slice(start, start + _TEXT_BLOCK)
        tokens = encoder.tokenize(names[rows], synsets[rows])
        blocks.append(encoder.encode_texts(encoder.params, tokens))
    return jnp.concatenate(blocks)


def _cluster_embeddings(
    embedded: Embedded,
    texts: Any,
    table: NounTable,
    encoder: Encoder | None,
    config: Config,
    clock: _Clock,
    *,
    baselines: bool,
) -> ClusterResult:
    keys = split_key(config.seed)
    clock.start("Finding neighbours")
    photos, placed = project(jnp.asarray(embedded.embeddings), texts, config)
    del texts
    prepared = prepare(keys, photos, placed, table, config)
    clock.start("Training", config.train.epochs * (2 if baselines else 1))

    def on_epoch(name: str, row: dict[str, float]) -> None:
        clock.listener.advance(1)
        clock.listener.log("epoch", {"run": name, **row})

    trained = train_heads(
        keys.training, prepared, config, consistency_only=baselines, on_epoch=on_epoch
    )
    clock.start("Naming")
    readout = read_out(
        trained.heads,
        trained.fit.params,
        images=prepared.data.images,
        nouns=prepared.data.nouns,
        noun_neighbors=prepared.data.noun_neighbors,
        noun_similarities=prepared.data.noun_similarities,
    )
    assignments = readout.probabilities.argmax(axis=1).astype(np.int32)
    names = name_from_readout(readout, prepared, table, assignments)
    compared = {"kmeans": np.asarray(prepared.kmeans.assignments)}
    if trained.consistency_only is not None:
        compared["consistency_only"] = trained.consistency_only
    clock.stop()
    return ClusterResult(
        paths=embedded.paths,
        root=embedded.root,
        assignments=assignments,
        probabilities=readout.probabilities,
        clusters=describe_clusters(names, readout, prepared, table, assignments),
        metrics={"label_free": label_free_metrics(readout, prepared, trained.fit)},
        history=trained.fit.history,
        status=trained.fit.status.value,
        skipped=embedded.skipped,
        audit=prepared.space.audit.counts(),
        warnings=embedded.warnings + warnings_for(names, trained.fit.status.value),
        seconds=clock.seconds,
        config=config_to_dict(config),
        provenance=provenance(encoder, len(table.names)),
        baselines=compared,
        embeddings=embedded.embeddings,
        params=trained.fit.params,
    )
