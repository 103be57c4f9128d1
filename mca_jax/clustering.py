"""The whole job in one call: images or embeddings in, named clusters out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from mca_jax.assembly import build_model, host_network, remember_images
from mca_jax.checkpoint_config import settings_of_result
from mca_jax.checks import InputError, check_in_range
from mca_jax.config import Config, config_to_dict
from mca_jax.data import ImageSource, find_images, open_source
from mca_jax.embedding import open_encoders, place_nouns
from mca_jax.encoders import Encoder
from mca_jax.encoders.store import Embedded, embed_images
from mca_jax.evaluation import contingency_table, score_clustering
from mca_jax.listener import Clock, Listener
from mca_jax.result import ClusterResult
from mca_jax.resume import checkpoint_opener, training_identity
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary import parse_vocabulary
from mca_jax.stages import (
    Prepared,
    Projected,
    RunKeys,
    TrainedHeads,
    place_embeddings,
    prepare,
    project,
    read_prepared,
    split_key,
    train_heads,
)
from mca_jax.summary import (
    describe_clusters,
    label_free_metrics,
    name_from_readout,
    provenance,
    warnings_for,
)
from mca_jax.training import Checkpointer

__all__ = ["Listener", "cluster", "score_result"]


def cluster(
    images: str | os.PathLike[str] | np.ndarray | ImageSource | None = None,
    *,
    num_clusters: int | None = None,
    config: Config | None = None,
    image_embeddings: Any = None,
    noun_embeddings: Any = None,
    nouns: Sequence[str] | NounTable | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    baselines: bool = False,
    listener: Listener | None = None,
) -> ClusterResult:
    """Cluster images into named groups. Takes no labels.

    Give a folder, an array of pixels, or embeddings with those of the nouns.

    Args:
      images: Folder, read recursively; pixels, uint8 ``[n, h, w, 3]``; or a
        source, such as the images of a named data set.
      num_clusters: ``k``, at least 2 and at most ``n``; stands above that of
        ``config``.
      config: All settings; None takes the defaults.
      image_embeddings: In place of ``images``: unit vectors ``[n, d]``.
      noun_embeddings: With them: unit vectors of the nouns ``[m, d]``.
      nouns: The nouns of those rows: names, or a table from ``load_nouns``.
      cache_dir: Folder that keeps embeddings of images for later runs.
      checkpoint_dir: Folder that keeps the state of training. A run that was
        broken off goes on from there, bit for bit, when it is called again.
      baselines: Also train with the text levels off, to compare.
      listener: Told about progress.

    Returns:
      Assignments, names, confidences and everything that the report shows.

    Raises:
      InputError: The arguments don't fit each other, a value is out of range,
        no image can be read, or ``checkpoint_dir`` belongs to another run.
      Interrupted: With ``checkpoint_dir``, after Ctrl-C or SIGTERM in training.

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
    clock = Clock(listener)
    if image_embeddings is not None:
        if images is not None:
            raise InputError("Expected images or image_embeddings, found both")
        if noun_embeddings is None or nouns is None:
            raise InputError(
                "Expected noun_embeddings and nouns beside image_embeddings"
            )
        embedded = _given_embeddings(image_embeddings)
        table = _given_nouns(nouns)
        texts = jnp.asarray(noun_embeddings, jnp.float32)
        encoder, reader = None, None
        if texts.shape != (len(table.names), embedded.embeddings.shape[1]):
            raise InputError(
                f"Expected noun_embeddings of shape [{len(table.names)}, "
                f"{embedded.embeddings.shape[1]}], found {list(texts.shape)}"
            )
    elif images is None:
        raise InputError("Expected images or image_embeddings, found neither")
    else:
        # Before the embedding: a bad vocabulary should not cost minutes first.
        table = load_nouns(config.semantics.vocabulary)
        encoder, reader = open_encoders(config.encoder, table)
        embedded = _embed(encoder, images, config, cache_dir, clock)
        texts = None
    check_in_range("num_clusters", config.num_clusters, 2, len(embedded.paths))
    if encoder is not None:
        placed = place_nouns(
            encoder, reader, table, config.encoder, clock, cache_dir=cache_dir
        )
        encoder, texts = placed.encoder, jnp.asarray(placed.embeddings)
        embedded = embedded._replace(warnings=embedded.warnings + placed.warnings)
    return _cluster_embeddings(
        embedded,
        texts,
        table,
        encoder,
        config,
        clock,
        baselines=baselines,
        checkpoint_dir=checkpoint_dir,
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
    images: str | os.PathLike[str] | np.ndarray | ImageSource,
    config: Config,
    cache_dir: str | os.PathLike[str] | None,
    clock: Clock,
) -> Embedded:
    found = find_images(images) if isinstance(images, (str, os.PathLike)) else images
    source = open_source(found)
    clock.start("Embedding", len(source.names))
    return embed_images(
        encoder,
        source,
        batch_size=config.encoder.batch_size,
        cache_dir=cache_dir,
        dtype=config.encoder.store_dtype,
        threads=config.encoder.threads or None,
        progress=clock.listener.advance,
    )


def _train(
    keys: RunKeys,
    prepared: Prepared,
    config: Config,
    clock: Clock,
    baselines: bool,
    open_run: Callable[[str], Checkpointer] | None,
) -> TrainedHeads:
    clock.start("Training", config.train.epochs * (2 if baselines else 1))

    def on_epoch(name: str, row: dict[str, float]) -> None:
        clock.listener.advance(1)
        clock.listener.log("epoch", {"run": name, **row})

    return train_heads(
        keys.training,
        prepared,
        config,
        consistency_only=baselines,
        on_epoch=on_epoch,
        checkpointer=open_run,
    )


def _prepare_and_train(
    embedded: Embedded,
    texts: Any,
    table: NounTable,
    encoder: Encoder | None,
    config: Config,
    clock: Clock,
    *,
    baselines: bool,
    checkpoint_dir: str | os.PathLike[str] | None,
) -> tuple[Projected, Prepared, TrainedHeads]:
    keys = split_key(config.seed)
    clock.start("Finding neighbours")
    placed = place_embeddings(embedded.embeddings, config)
    projected = project(placed, texts, config)
    del placed
    identity = None
    if checkpoint_dir is not None:
        identity = training_identity(config, embedded.embeddings, texts, table, encoder)
    del texts
    prepared = prepare(keys, projected.images, projected.nouns, table, config)
    open_run = None
    if checkpoint_dir is not None and identity is not None:
        noted = provenance(encoder, len(table.names))
        open_run = checkpoint_opener(
            checkpoint_dir, config, identity, noted, prepared.space, clock.listener
        )
    trained = _train(keys, prepared, config, clock, baselines, open_run)
    return projected, prepared, trained


def _baselines(prepared: Prepared, trained: TrainedHeads) -> dict[str, np.ndarray]:
    compared = {"kmeans": np.asarray(prepared.kmeans.assignments)}
    if trained.consistency_only is not None:
        compared["consistency_only"] = trained.consistency_only
    return compared


def _cluster_embeddings(
    embedded: Embedded,
    texts: Any,
    table: NounTable,
    encoder: Encoder | None,
    config: Config,
    clock: Clock,
    **training: Any,
) -> ClusterResult:
    projected, prepared, trained = _prepare_and_train(
        embedded, texts, table, encoder, config, clock, **training
    )
    clock.start("Naming")
    readout = read_prepared(trained, prepared)
    assignments = readout.probabilities.argmax(axis=1).astype(np.int32)
    names = name_from_readout(readout, prepared, table, assignments)
    clusters = describe_clusters(names, readout, prepared, table, assignments)
    model = build_model(
        encoder=encoder,
        config=settings_of_result(config_to_dict(config)),
        embeddings=embedded.embeddings,
        assignments=assignments,
        network=host_network(projected, trained),
        memory=remember_images(projected, prepared.neighborhood),
        space=prepared.space,
        table=table,
        clusters=clusters,
        num_neighbors=config.retrieval.noun_neighbors,
    )
    clock.stop()
    return ClusterResult(
        paths=embedded.paths,
        root=embedded.root,
        assignments=assignments,
        probabilities=readout.probabilities,
        clusters=clusters,
        metrics={"label_free": label_free_metrics(readout, prepared, trained.fit)},
        history=trained.fit.history,
        status=trained.fit.status.value,
        skipped=embedded.skipped,
        audit=prepared.space.audit.counts(),
        warnings=embedded.warnings + warnings_for(names, trained.fit),
        seconds=clock.seconds,
        config=config_to_dict(config),
        provenance=provenance(encoder, len(table.names)),
        baselines=_baselines(prepared, trained),
        neighbors=np.asarray(prepared.data.image_neighbors),
        embeddings=embedded.embeddings,
        params=trained.fit.params,
        model=model,
    )
