"""Puts the model of a run together from what the stages gave."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from mca_jax.core.host_tables import release
from mca_jax.core.numerics import EPSILON
from mca_jax.core.parallel import Rows, fetch_rows, fill_shares, sum_over_hosts
from mca_jax.core.parallel.shares import own_blocks
from mca_jax.core.types import Params
from mca_jax.encoders import Encoder
from mca_jax.model.cluster_model import ClusterModel, Memory, Network
from mca_jax.model.result import Cluster
from mca_jax.neighbors.graph import Neighborhood
from mca_jax.pipeline.config import Config, config_to_dict, settings_of_result
from mca_jax.pipeline.inputs import Nouns
from mca_jax.pipeline.stages import Projected, TrainingSetup

__all__ = ["build_model", "host_network", "measure_closeness", "remember_images"]

_QUANTILES = 1000
# Rows that fit into memory a second time.
_BLOCK = 65_536
# Beyond, a sample has to do: two tables of 50 MB at 128 axes.
_MOST_REMEMBERED = 100_000


def host_network(projected: Projected, setup: TrainingSetup, params: Params) -> Network:
    """Bring a projection and trained networks to the host."""
    return Network(
        mean=np.asarray(projected.projection.mean),
        axes=np.asarray(projected.projection.axes),
        noun_mean=np.asarray(projected.noun_mean),
        params=jax.tree.map(np.asarray, params),
        constants=dict(setup.constants),
    )


def remember_images(images: Rows, near: Neighborhood) -> Memory:
    """Keep what smooths a new image as the training images were smoothed.

    Args:
      images: Projected images.
      near: Their neighbours, and the same images smoothed.

    Returns:
      Arrays of NumPy: of all images, of an even sample of them beyond 100,000,
      or of none where nothing was smoothed.
    """
    count, width = images.shape
    if not near.num_smoothing:
        nothing = np.zeros((0, width), np.float32)
        return Memory(nothing, nothing, 0)
    if count > _MOST_REMEMBERED:
        rows = np.linspace(0, count - 1, _MOST_REMEMBERED).astype(np.int64)
    else:
        rows = np.arange(count)
    tables = (fetch_rows(each, rows) for each in (images, near.before))
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
    config: Config,
    embeddings: Float[np.ndarray, "n d"],
    assignments: Int[np.ndarray, " n"],
    network: Network,
    memory: Memory,
    nouns: Nouns,
    clusters: Sequence[Cluster],
) -> ClusterModel:
    """Put together what a new image needs to be assigned, without edits.

    Args:
      encoder: The encoder, or None for given embeddings.
      config: All settings.
      embeddings: Embeddings of the training images.
      assignments: Their clusters.
      network: Projection and trained networks.
      memory: The training images as points.
      nouns: The semantic space.
      clusters: What is shown of each cluster.
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
    table, rows = nouns.table, np.asarray(nouns.rows, np.int32)
    return ClusterModel(
        encoder=described,
        config=settings_of_result(config_to_dict(config)),
        network=network,
        memory=memory,
        nouns=tuple(table.names[row] for row in rows),
        synsets=tuple(table.synsets[row] for row in rows),
        glosses=tuple(table.glosses[row] for row in rows),
        noun_rows=rows,
        noun_embeddings=np.asarray(nouns.embeddings),
        num_neighbors=config.retrieval.noun_neighbors,
        centers=centers,
        closeness=closeness,
        splits=(),
        groups=np.arange(len(clusters), dtype=np.int32),
        clusters=tuple(clusters),
    )
