"""Puts new images into the groups of a finished run, which stay as they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.progress import Clock
from mca_jax.core.random import make_keys
from mca_jax.data import ImageSource, find_images, open_source
from mca_jax.data.files import SkippedImage
from mca_jax.data.folder import ImageFolder
from mca_jax.encoders.cache.embedding_cache import EmbeddingCache
from mca_jax.encoders.device import choose_batch_size
from mca_jax.encoders.embed_images import encode_rows
from mca_jax.model.cluster_model import ClusterModel
from mca_jax.model.predict import (
    OUTLIER_QUANTILE,
    Predictor,
    load_encoder,
    project_images,
)
from mca_jax.model.result import Cluster, ClusterResult
from mca_jax.neighbors import Projection, apply_projection
from mca_jax.neighbors.graph import near_images
from mca_jax.pipeline.changes import FolderChanges, compare_folder
from mca_jax.pipeline.config import Config, config_from_dict
from mca_jax.pipeline.describe import describe_cluster, measure_risk_of

__all__ = ["Update", "update_result"]

# What is not known of other images than those that it was measured on.
_STALE = ("scores", "contingency", "baselines")
_UPDATED = "Updated since training: "
# More of the new images than this share, and that many, say: train anew.
_MANY, _LEAST = 0.1, 3


class Update(NamedTuple):
    """A result over a folder as it is now.

    Attributes:
      result: The result; its model is that of before.
      changes: What happened to the images.
      new: Rows of the images that were assigned now.
      nowhere: Those of them that are far from every group; they stand in the nearest.
      train_anew: Whether so many since the training fit nowhere that groups of their
        own are likely.
    """

    result: ClusterResult
    changes: FolderChanges
    new: np.ndarray
    nowhere: np.ndarray
    train_anew: bool


class _Read(NamedTuple):
    """Images that were embedded: row of each name, embeddings, digests, reasons."""

    rows: dict[str, int]
    embeddings: np.ndarray
    digests: np.ndarray
    skipped: tuple[SkippedImage, ...]


def _open(folder: ImageFolder, config: Config) -> ImageSource:
    return open_source(
        folder,
        max_pixels=round(config.data.max_megapixels * 10**6),
        partial_jpegs=config.data.partial_jpegs,
    )


def _embed(
    model: ClusterModel,
    source: ImageSource,
    config: Config,
    cache_dir: str | os.PathLike[str] | None,
    clock: Clock,
) -> _Read:
    """Embed images as the run did, into its cache; none may be readable."""
    encoder, settings = load_encoder(model), config.encoder
    count = len(source.names)
    clock.report_stage("Embedding", count)
    table = np.zeros((count, encoder.width), settings.store_dtype)
    digests = np.zeros((count, 32), np.uint8)
    cache = None
    if cache_dir is not None:
        key = encoder.image_fingerprint or encoder.fingerprint
        cache = EmbeddingCache(cache_dir, encoder.name, key, dtype=settings.store_dtype)
    reasons, _ = encode_rows(
        encoder,
        source,
        range(count),
        table,
        first=0,
        batch_size=choose_batch_size(settings.batch_size),
        cache=cache,
        digests=digests,
        threads=settings.threads or None,
        progress=clock.callback.advance,
    )
    if cache is not None:
        cache.flush()
    good = {name: row for row, name in enumerate(source.names) if row not in reasons}
    skipped = (SkippedImage(source.names[row], reasons[row]) for row in sorted(reasons))
    return _Read(good, table, digests, tuple(skipped))


def update_result(
    result: ClusterResult,
    images: str | os.PathLike[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    outlier_quantile: float = OUTLIER_QUANTILE,
    clock: Clock | None = None,
) -> Update:
    """Bring a result to what its folder of images holds now.

    New and changed images are embedded and assigned by the model; those that are gone
    are taken out, renamed ones get their path. Groups, their names, ids and edits, and
    the groups of all other images stay. Nothing is trained.

    Args:
      result: A result with a model, of a folder.
      images: The folder where it is now; None takes that of ``result``.
      cache_dir: Embeddings of the run; None embeds what is new and keeps nothing.
      outlier_quantile: As for ``predict``: what fits nowhere.
      clock: Times the stages.

    Raises:
      InputError: The run is not one of a folder, no image is left, or the encoder is
        another than that of the run.
    """
    clock = clock or Clock(None)
    model = result.model
    if model is None or result.config.get("data", {}).get("dataset"):
        raise InputError("Expected a run of a folder of images, found another")
    root = os.fspath(images) if images is not None else result.root
    if not root:
        raise InputError(
            "Expected a run of a folder of images, found one of arrays or of a list"
        )
    config = config_from_dict(model.config)
    folder = find_images(root)
    source = _open(folder, config)
    clock.report_stage("Comparing files", None)
    changes = compare_folder(result, source, cache_dir or "")
    kept = {*result.paths} - {*changes.changed}
    wanted = [
        name
        for name in source.names
        if name not in changes.renamed and name not in kept
    ]
    read = _Read({}, result.embeddings[:0], np.zeros((0, 32), np.uint8), ())
    if wanted:
        part = ImageFolder(source.root, tuple(wanted), ())
        read = _embed(model, _open(part, config), config, cache_dir, clock)
    clock.report_stage("Assigning", None)
    before = {path: row for row, path in enumerate(result.paths)}
    old = {
        name: before[changes.renamed.get(name, name)]
        for name in source.names
        if name in changes.renamed or name in kept
    }
    paths = tuple(name for name in source.names if name in old or name in read.rows)
    if not paths:
        raise InputError(f"No readable image is left in {source.root!r}")
    new = np.array([i for i, name in enumerate(paths) if name in read.rows], np.int64)
    updated, far = _assemble(
        replace(result, root=source.root, skipped=(*folder.skipped, *read.skipped)),
        paths,
        old,
        read,
        new,
        outlier_quantile,
    )
    updated, train_anew = _describe(updated, config, changes, len(new), len(far))
    clock.stop()
    return Update(updated, changes, new, far, train_anew)


def _assemble(
    result: ClusterResult,
    paths: tuple[str, ...],
    old: dict[str, int],
    read: _Read,
    new: np.ndarray,
    outlier_quantile: float,
) -> tuple[ClusterResult, np.ndarray]:
    """Put the tables of old and new rows together; tell which new ones are far off."""
    stay = np.array([i for i, name in enumerate(paths) if name in old], np.int64)
    was = np.array([old[paths[i]] for i in stay], np.int64)
    fresh = np.array([read.rows[paths[i]] for i in new], np.int64)

    def join(before: np.ndarray, values: Any) -> np.ndarray:
        table = np.zeros((len(paths), *before.shape[1:]), before.dtype)
        table[stay], table[new] = before[was], values
        return table

    tables: dict[str, Any] = {}
    far = np.zeros(0, np.int64)
    assigned = {"assignments": 0, "probabilities": 0}
    if len(new):
        vectors = read.embeddings[fresh].astype(np.float32)
        found = Predictor(result.model).predict(
            image_embeddings=vectors, outlier_quantile=outlier_quantile
        )
        assigned = {"assignments": found.nearest, "probabilities": found.probabilities}
        far = new[found.clusters < 0]
    for name, values in assigned.items():
        tables[name] = join(vars(result)[name], values)
    tables["embeddings"] = join(result.embeddings, read.embeddings[fresh])
    if result.digests is not None:
        tables["digests"] = join(result.digests, read.digests[fresh])
    if result.pictures is not None:
        # Black ones are read when the report is written.
        tables["pictures"] = join(result.pictures, 0)
    return replace(result, paths=paths, **tables), far


def _describe(
    result: ClusterResult,
    config: Config,
    changes: FolderChanges,
    num_new: int,
    num_far: int,
) -> tuple[ClusterResult, bool]:
    """Say anew what depends on the images, and nothing else."""
    model = result.model
    vectors = np.asarray(result.embeddings, np.float32)
    images = project_images(model, vectors)
    clusters = tuple(
        replace(
            describe_cluster(
                each.index,
                each.name,
                each.nouns,
                images=images,
                probabilities=result.probabilities,
                assignments=result.assignments,
                guess=each.guess,
            ),
            id=each.id,
        )
        for each in result.clusters
    )
    projection = Projection(
        jnp.asarray(model.network.mean), jnp.asarray(model.network.axes)
    )
    retrieval = config.retrieval
    table, _ = near_images(
        make_keys(jax.random.key(config.seed)).neighbor_search,
        apply_projection(projection, jnp.asarray(vectors)),
        num_neighbors=min(retrieval.image_neighbors, max(len(vectors) - 1, 1)),
        exact_up_to=retrieval.exact_up_to,
        num_probes=retrieval.probes,
        block_size=retrieval.block_size,
    )
    neighbors = np.asarray(table.indices)
    metrics = {name: v for name, v in result.metrics.items() if name not in _STALE}
    earlier = metrics.get("update", {"new": 0, "fit_nowhere": 0})
    total = {
        "new": earlier["new"] + num_new,
        "fit_nowhere": earlier["fit_nowhere"] + num_far,
    }
    metrics["update"] = {**total, "last": changes.counts()}
    risk = measure_risk_of(result.probabilities, neighbors)
    metrics["label_free"] = {**metrics.get("label_free", {}), **risk}
    updated = replace(
        result,
        clusters=clusters,
        model=replace(model, clusters=clusters),
        neighbors=neighbors,
        metrics=metrics,
        baselines={},
        # Its leaves are of the images of before.
        tree=None,
        warnings=_warnings(result.warnings, total, clusters),
    )
    many = total["fit_nowhere"] > _MANY * total["new"]
    return updated, many and total["fit_nowhere"] >= _LEAST


def _warnings(
    before: Sequence[str], total: dict[str, int], clusters: Sequence[Cluster]
) -> tuple[str, ...]:
    """The warnings of before, and what a reader of the report should know now."""
    others = [text for text in before if not text.startswith(_UPDATED)]
    one = total["new"] == 1
    verb, them = ("image was", "it") if one else ("images were", "them")
    text = (
        f"{_UPDATED}{total['new']:,} {verb} put into groups that were made "
        f"without {them}; "
        f"{total['fit_nowhere']:,} fit none of the {len(clusters)}."
    )
    return (*others, text)
