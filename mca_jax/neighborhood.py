"""Who is near whom in a set of images, and the set smoothed by it."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from mca_jax.config import Config
from mca_jax.parallel import Rows, ShardedRows, Table
from mca_jax.retrieval import (
    NeighborTable,
    image_neighbors,
    probe_neighbors,
    smooth_embeddings,
)

__all__ = ["Neighborhood", "find_neighborhood", "near_images", "smoothing_neighbors"]

# Tells the key of the cells of neighbours from the others of a run.
_PROBING = 2


class Neighborhood(NamedTuple):
    """Neighbours of every image, and the images moved towards theirs.

    Attributes:
      images: Smoothed unit vectors ``[n, c]``.
      before: Those before the last step of smoothing.
      neighbors: Nearest images, found before the smoothing.
      num_smoothing: Neighbours that smoothing reads; 0 without smoothing.
      recall: Share of the nearest images that were found, in [0, 1], measured on
        a sample; None where the search was exact.
    """

    images: Float[Array, "n c"] | Rows
    before: Float[Array, "n c"] | Rows
    neighbors: NeighborTable
    num_smoothing: int
    recall: float | None


def near_images(
    images: Float[Array, "n d"] | Rows, config: Config
) -> tuple[NeighborTable, float | None]:
    """Find the nearest images of every image, exactly where that is affordable.

    Args:
      images: Unit vectors.
      config: Settings of retrieval.

    Returns:
      Neighbours, and their recall where the search was not exact, else None.
    """
    retrieval = config.retrieval
    if images.shape[0] <= retrieval.exact_up_to:
        table = image_neighbors(
            images,
            num_neighbors=retrieval.image_neighbors,
            block_size=retrieval.block_size,
        )
        return table, None
    return probe_neighbors(
        jax.random.fold_in(jax.random.key(config.seed), _PROBING),
        images,
        num_neighbors=retrieval.image_neighbors,
        num_probes=retrieval.probes,
    )


def smoothing_neighbors(num_images: int, config: Config) -> int:
    """Choose how many neighbours an image moves towards.

    Args:
      num_images: ``n``.
      config: Settings of retrieval; no more than half of a cluster of mean size
        are taken, for beyond that the neighbours are other clusters'.

    Returns:
      Their number; 0 where nothing is to be smoothed.
    """
    retrieval = config.retrieval
    if not retrieval.smoothing_steps:
        return 0
    half = num_images // (2 * config.num_clusters)
    return min(retrieval.smoothing_neighbors, retrieval.image_neighbors, half)


def _first_columns(table: Table, count: int) -> Table:
    if isinstance(table, ShardedRows):
        return ShardedRows(table.array[:, :count], table.count, table.mesh)
    return table[:, :count]


def find_neighborhood(
    images: Float[Array, "n c"] | Rows, config: Config
) -> Neighborhood:
    """Find the neighbours of every image and smooth the set by them.

    Args:
      images: Unit vectors, on one device, over several or on the host.
      config: Settings of retrieval.

    Returns:
      Neighbours and smoothed images, where the images are.
    """
    table, recall = near_images(images, config)
    count = smoothing_neighbors(images.shape[0], config)
    smoothed = before = images
    if count:
        nearest = _first_columns(table.indices, count)
        smoothed, before = smooth_embeddings(
            images, nearest, num_steps=config.retrieval.smoothing_steps
        )
    return Neighborhood(smoothed, before, table, count, recall)
