"""Puts the model of a run together from what the stages gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from mca_jax.core.host_tables import release
from mca_jax.core.numerics import EPSILON
from mca_jax.core.parallel import fetch_rows, fill_shares, sum_over_hosts
from mca_jax.core.parallel.shares import own_blocks
from mca_jax.encoders import Encoder
from mca_jax.model.cluster_model import ClusterModel, Memory, Network
from mca_jax.model.result import Cluster
from mca_jax.neighbors.graph import Neighborhood
from mca_jax.pipeline.stages import Projected, TrainedHeads
from mca_jax.semantics import NounTable, SemanticSpace

__all__ = ["build_model", "host_network", "measure_closeness", "remember_images"]

_QUANTILES = 1000
# Rows that fit into memory a second time.
_BLOCK = 65_536
# Beyond, a sample has to do: two tables of 50 MB at 128 axes.
_MOST_REMEMBERED = 100_000


def host_network(projected: Projected, trained: TrainedHeads) -> Network:
    """Bring a projection and trained networks to the host.

    Args:
      projected: The space that was clustered.
      trained: From ``train_heads``.

    Returns:
      Arrays of NumPy.
    """
    return Network(
        mean=np.asarray(projected.projection.mean),
        axes=np.asarray(projected.projection.axes),
        noun_mean=np.asarray(projected.noun_mean),
        params=jax.tree.map(np.asarray, trained.fit.params),
        constants=dict(trained.constants),
    )


def remember_images(projected: Projected, near: Neighborhood | None) -> Memory:
    """Keep what smooths a new image as the training images were smoothed.

    Args:
      projected: The space that was clustered.
      near: Neighbours and smoothed images.

    Returns:
      Arrays of NumPy: of all images, of an even sample of them beyond 100,000,
      or of none where nothing was smoothed.
    """
    count = projected.images.shape[0]
    if near is None or not near.num_smoothing:
        nothing = np.zeros((0, projected.nouns.shape[1]), np.float32)
        return Memory(nothing, nothing, 0)
    if count > _MOST_REMEMBERED:
        rows = np.linspace(0, count - 1, _MOST_REMEMBERED).astype(np.int64)
    else:
        rows = np.arange(count)
    tables = (fetch_rows(each, rows) for each in (projected.images, near.before))
    # An image of the set is its own nearest.
    return Memory(*tables, num_near=near.num_smoothing + 1)


def measure_closeness(
    embeddings: Float[np.ndarray, "n d"],
    mean: Float[np.ndarray, " d"],
    assignments: Int[np.ndarray, " n"],
    num_clusters: int,
) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " q"]]:
    """Measure how near images are to the middle of the clusters.

    In the encoder's space, not in the projected one: what tells a strange image
    lies along axes on which the images of the set hardly differ, and those the
    projection drops.

    Args:
      embeddings: Image embeddings; each host reads its share.
      mean: Mean of all images.
      assignments: Cluster of each.
      num_clusters: ``k``.

    Returns:
      Unit directions from the mean to each cluster's mean, and the 1001 quantiles
      of the images' largest cosine to one of them.
    """
    sums = np.zeros((num_clusters, embeddings.shape[1]))
    for rows in own_blocks(len(embeddings), _BLOCK):
        own = assignments[rows]
        ones = np.ones(len(own)), (own, np.arange(len(own)))
        sums += csr_array(ones, shape=(num_clusters, len(own))) @ embeddings[rows]
        release(embeddings)
    (sums,) = sum_over_hosts([sums])
    sizes = np.bincount(assignments, minlength=num_clusters)[:, None]
    directions = np.where(sizes > 0, sums - sizes * mean[None].astype(float), 0.0)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    centers = (directions / np.maximum(lengths, EPSILON)).astype(np.float32)
    cosines = np.zeros(len(embeddings))
    for rows in own_blocks(len(embeddings), _BLOCK):
        shifted = embeddings[rows] - mean[None]
        lengths = np.maximum(np.linalg.norm(shifted, axis=1), EPSILON)
        cosines[rows] = (shifted @ centers.T).max(axis=1) / lengths
        release(embeddings)
    fill_shares(cosines)
    # An entry is a value that an image has: with "lower", fewer than the share are
    # below it, also in a small set.
    shares = np.arange(_QUANTILES + 1) / _QUANTILES
    quantiles = np.quantile(cosines, shares, method="lower")
    return centers, quantiles.astype(np.float32)


def build_model(
    *,
    encoder: Encoder | None,
    config: dict[str, Any],
    embeddings: Float[np.ndarray, "n d"],
    assignments: Int[np.ndarray, " n"],
    network: Network,
    memory: Memory,
    space: SemanticSpace,
    table: NounTable,
    clusters: Sequence[Cluster],
    num_neighbors: int,
) -> ClusterModel:
    """Put together what a new image needs to be placed.

    Args:
      encoder: The encoder, or None for given embeddings.
      config: All settings as plain JSON.
      embeddings: Embeddings of the training images.
      assignments: Their clusters.
      network: Projection and trained networks.
      memory: The training images as points.
      space: The semantic space.
      table: The vocabulary.
      clusters: What is shown of each cluster.
      num_neighbors: Nouns that an image attends to.

    Returns:
      The model, without edits.
    """
    centers, closeness = measure_closeness(
        embeddings, network.mean, assignments, len(clusters)
    )
    described = {"name": "given embeddings", "fingerprint": ""}
    if encoder is not None:
        described = {
            "name": encoder.name,
            "fingerprint": encoder.image_fingerprint or encoder.fingerprint,
            "domain": encoder.domain,
            "licence": encoder.licence,
        }
    rows = np.asarray(space.rows, np.int32)
    return ClusterModel(
        encoder=described,
        config=config,
        network=network,
        memory=memory,
        nouns=tuple(table.names[row] for row in rows),
        synsets=tuple(table.synsets[row] for row in rows),
        glosses=tuple(table.glosses[row] for row in rows),
        noun_rows=rows,
        noun_embeddings=np.asarray(space.embeddings),
        num_neighbors=num_neighbors,
        centers=centers,
        closeness=closeness,
        splits=(),
        groups=np.arange(len(clusters), dtype=np.int32),
        clusters=tuple(clusters),
    )
