"""The whole job in one call: images or embeddings in, named clusters out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mca_jax.alignment.forward import assign_clusters
from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.progress import Callback, Clock
from mca_jax.data import Images, open_source
from mca_jax.encoders import Encoder
from mca_jax.encoders.embed_images import Embedded, embed_images
from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.assembly import build_model, host_network, remember_images
from mca_jax.pipeline.baselines import (
    TRAINED,
    Hooks,
    baseline_warnings,
    choose_baselines,
    compare_baselines,
    run_baseline,
)
from mca_jax.pipeline.config import Config, config_to_dict, settings_of_result
from mca_jax.pipeline.describe import (
    describe_clusters,
    label_free_metrics,
    name_from_predictions,
    provenance,
    warnings_for,
)
from mca_jax.pipeline.encode import embed_vocabulary, open_encoders
from mca_jax.pipeline.inputs import check_embeddings, check_nouns
from mca_jax.pipeline.num_clusters import parse_num_clusters, settle_num_clusters
from mca_jax.pipeline.resume import checkpoint_opener, training_identity
from mca_jax.pipeline.setup import build_setup
from mca_jax.pipeline.stages import (
    Prepared,
    Projected,
    TrainedHeads,
    calibrate_heads,
    predict_prepared,
    prepare,
    project,
    shard_embeddings,
    split_key,
    train_heads,
)
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.training import Checkpointer

__all__ = ["Callback", "cluster"]


def cluster(
    images: Images | None = None,
    *,
    num_clusters: int | str | None = None,
    config: Config | None = None,
    image_embeddings: Any = None,
    noun_embeddings: Any = None,
    nouns: Sequence[str] | NounTable | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    baselines: bool | Sequence[str] = False,
    callback: Callback | None = None,
) -> ClusterResult:
    """Cluster images into named groups. Takes no labels.

    Give a folder, an array of pixels, or embeddings with those of the nouns.

    Args:
      images: Folder, read recursively; paths of files; PIL images; pixels, uint8
        ``[n, h, w, 3]``; or a source, such as the images of a named data set.
      num_clusters: ``k``, at least 2 and at most ``n``; stands above that of
        ``config``. ``"auto"`` estimates it, ``"auto:5-60"`` in a range; what was
        found is in ``metrics["cluster_count"]``.
      config: All settings; None takes the defaults.
      image_embeddings: In place of ``images``: unit vectors ``[n, d]``.
      noun_embeddings: With them: unit vectors of the nouns ``[m, d]``.
      nouns: The nouns of those rows: names, or a table from ``load_nouns``.
      cache_dir: Folder that keeps embeddings of images for later runs.
      checkpoint_dir: Folder that keeps the state of training. A run that was
        broken off goes on from there, bit for bit, when it is called again.
      baselines: Simpler methods on the same embeddings, to compare: True for all
        of ``pipeline.baselines.BASELINES``, or names of some. None takes labels.
      callback: Told about progress.

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
    wanted = parse_num_clusters(
        config.num_clusters if num_clusters is None else num_clusters
    )
    compared = choose_baselines(baselines)
    clock = Clock(callback)
    if image_embeddings is not None:
        if images is not None:
            raise InputError("Expected images or image_embeddings, found both")
        embedded = check_embeddings(image_embeddings)
        width = embedded.embeddings.shape[1]
        table, texts = check_nouns(nouns, noun_embeddings, width)
        encoder, reader = None, None
    elif images is None:
        raise InputError("Expected images or image_embeddings, found neither")
    else:
        # Before the embedding: a bad vocabulary should not cost minutes first.
        table = load_nouns(config.semantics.vocabulary)
        encoder, reader = open_encoders(config.encoder, table)
        embedded = _embed(encoder, images, config, cache_dir, clock)
        texts = None
    config, counted = settle_num_clusters(embedded.embeddings, wanted, config, clock)
    check_in_range("num_clusters", config.num_clusters, 2, len(embedded.paths))
    if encoder is not None:
        placed = embed_vocabulary(
            encoder, reader, table, config.encoder, clock, cache_dir=cache_dir
        )
        encoder, texts = placed.encoder, jnp.asarray(placed.embeddings)
        embedded = embedded._replace(warnings=embedded.warnings + placed.warnings)
    result = _cluster_embeddings(
        embedded,
        texts,
        table,
        encoder,
        config,
        clock,
        compared=compared,
        checkpoint_dir=checkpoint_dir,
    )
    return replace(result, metrics={**counted, **result.metrics})


def _embed(
    encoder: Encoder,
    images: Images,
    config: Config,
    cache_dir: str | os.PathLike[str] | None,
    clock: Clock,
) -> Embedded:
    source = open_source(images)
    clock.report_stage("Embedding", len(source.names))
    return embed_images(
        encoder,
        source,
        batch_size=config.encoder.batch_size,
        cache_dir=cache_dir,
        dtype=config.encoder.store_dtype,
        threads=config.encoder.threads or None,
        progress=clock.callback.advance,
    )


class _Trained(NamedTuple):
    """Stages up to the trained networks, and the simpler methods beside them.

    Attributes:
      projected: Images and nouns in the space that is clustered.
      prepared: What training read.
      heads: The trained networks.
      baselines: Cluster of each image by simpler methods.
      warnings: What to know of those, most often nothing.
    """

    projected: Projected
    prepared: Prepared
    heads: TrainedHeads
    baselines: dict[str, np.ndarray]
    warnings: tuple[str, ...]


def _train(
    embeddings: np.ndarray,
    prepared: Prepared,
    config: Config,
    clock: Clock,
    compared: Sequence[str],
    open_run: Callable[[str], Checkpointer] | None,
) -> tuple[TrainedHeads, dict[str, np.ndarray], tuple[str, ...]]:
    def on_epoch(name: str, row: dict[str, float]) -> None:
        clock.callback.advance(1)
        clock.callback.log("epoch", {"run": name, **row})

    hooks = Hooks(on_epoch, open_run, build_setup(prepared.data, config))
    clock.report_stage("Training", config.train.epochs)
    key = split_key(config.seed).training
    trained = train_heads(key, prepared, config, **hooks._asdict())
    # k-means is there anyway.
    baselines = {"kmeans": np.asarray(prepared.kmeans.assignments)}
    if compared:
        passes = config.train.epochs * sum(name in TRAINED for name in compared)
        clock.report_stage("Comparing", passes or None)
    warnings: list[str] = []
    for name in compared:
        found = run_baseline(name, embeddings, prepared, config, hooks=hooks)
        baselines[name] = found.assignments
        warnings += baseline_warnings(name, found)
    return trained, baselines, tuple(warnings)


def _prepare_and_train(
    embedded: Embedded,
    texts: Any,
    table: NounTable,
    encoder: Encoder | None,
    config: Config,
    clock: Clock,
    *,
    compared: Sequence[str],
    checkpoint_dir: str | os.PathLike[str] | None,
) -> _Trained:
    keys = split_key(config.seed)
    clock.report_stage("Projecting")
    placed = shard_embeddings(embedded.embeddings, config)
    projected = project(placed, texts, config)
    del placed
    identity = None
    if checkpoint_dir is not None:
        identity = training_identity(config, embedded.embeddings, texts, table, encoder)
    del texts
    prepared = prepare(
        keys,
        projected.images,
        projected.nouns,
        table,
        config,
        on_stage=clock.report_stage,
    )
    open_run = None
    if checkpoint_dir is not None and identity is not None:
        noted = provenance(encoder, len(table.names))
        open_run = checkpoint_opener(
            checkpoint_dir, config, identity, noted, prepared.space, clock.callback
        )
    trained, baselines, warnings = _train(
        embedded.embeddings, prepared, config, clock, compared, open_run
    )
    return _Trained(projected, prepared, trained, baselines, warnings)


def _measure(trained: TrainedHeads, prepared: Prepared) -> dict[str, float]:
    predictions = predict_prepared(trained, prepared)
    return label_free_metrics(predictions, prepared, trained.fit)


def _cluster_embeddings(
    embedded: Embedded,
    texts: Any,
    table: NounTable,
    encoder: Encoder | None,
    config: Config,
    clock: Clock,
    **training: Any,
) -> ClusterResult:
    projected, prepared, trained, baselines, told = _prepare_and_train(
        embedded, texts, table, encoder, config, clock, **training
    )
    clock.report_stage("Reading out")
    # The risk is that of the networks as they were trained.
    label_free = _measure(trained, prepared)
    trained = calibrate_heads(trained, prepared, config)
    predictions = predict_prepared(trained, prepared)
    clock.report_stage("Naming")
    assignments = assign_clusters(predictions.probabilities)
    names = name_from_predictions(predictions, prepared, table, assignments)
    clusters = describe_clusters(names, predictions, prepared, table, assignments)
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
    clock.report_stage("Measuring")
    metrics: dict[str, Any] = {"label_free": label_free}
    if training["compared"]:
        compared = compare_baselines(assignments, baselines, prepared, config)
        metrics["baselines"] = compared
    clock.stop()
    return ClusterResult(
        paths=embedded.paths,
        root=embedded.root,
        assignments=assignments,
        probabilities=predictions.probabilities,
        clusters=clusters,
        metrics=metrics,
        history=trained.fit.history,
        status=trained.fit.status.value,
        skipped=embedded.skipped,
        audit=prepared.space.audit.counts(),
        warnings=(*embedded.warnings, *warnings_for(names, trained.fit), *told),
        seconds=clock.seconds,
        config=config_to_dict(config),
        provenance=provenance(encoder, len(table.names)),
        baselines=baselines,
        neighbors=np.asarray(prepared.data.image_neighbors),
        embeddings=embedded.embeddings,
        params=trained.fit.params,
        model=model,
    )
