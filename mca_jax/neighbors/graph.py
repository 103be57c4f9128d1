"""Who is near whom in a set of images, and the set smoothed by it."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Float

from mca_jax.core.parallel import Rows, first_columns
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors import (
    NeighborTable,
    image_neighbors,
    probe_neighbors,
    smooth_embeddings,
)

__all__ = ["Neighborhood", "find_neighborhood", "near_images", "smoothing_neighbors"]


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
    key: PRNGKey,
    images: Float[Array, "n d"] | Rows,
    *,
    num_neighbors: int,
    exact_up_to: int = 250_000,
    num_probes: int = 56,
    block_size: int = 1024,
) -> tuple[NeighborTable, float | None]:
    """Find the nearest images of every image, exactly where that is affordable.

    Args:
      key: Key of the inverted lists of an approximate search.
      images: Unit vectors.
      num_neighbors: ``r_i``, at least 1.
      exact_up_to: Images up to which the search is exact.
      num_probes: Inverted lists that each image looks into above that.
      block_size: Rows scored at once; bounds memory.

    Returns:
      Neighbours, and their recall where the search was not exact, else None.
    """
    if images.shape[0] <= exact_up_to:
        table = image_neighbors(
            images, num_neighbors=num_neighbors, block_size=block_size
        )
        return table, None
    return probe_neighbors(
        key, images, num_neighbors=num_neighbors, num_probes=num_probes
    )


def smoothing_neighbors(num_images: int, num_clusters: int, wanted: int) -> int:
    """Choose how many neighbours an image moves towards.

    Args:
      num_images: ``n``.
      num_clusters: ``k``; no more than half of a cluster of mean size are taken,
        for beyond that the neighbours are other clusters'.
      wanted: Most of them.

    Returns:
      Their number, at least 0.

    Example:
      >>> smoothing_neighbors(60, 10, wanted=10)
      3
    """
    return min(wanted, num_images // (2 * num_clusters))


def find_neighborhood(
    key: PRNGKey,
    images: Float[Array, "n c"] | Rows,
    *,
    num_smoothing: int,
    smoothing_steps: int,
    **search: int,
) -> Neighborhood:
    """Find the neighbours of every image and smooth the set by them.

    Args:
      key: As for :func:`near_images`.
      images: Unit vectors, on one device, over several or on the host.
      num_smoothing: Neighbours that an image moves towards, from
        :func:`smoothing_neighbors`; at most ``num_neighbors``, 0 smooths nothing.
      smoothing_steps: How often it does; 0 smooths nothing.
      **search: Settings of :func:`near_images`.

    Returns:
      Neighbours and smoothed images, where the images are.
    """
    table, recall = near_images(key, images, **search)
    count = num_smoothing if smoothing_steps else 0
    smoothed = before = images
    if count:
        nearest = first_columns(table.indices, count)
        smoothed, before = smooth_embeddings(images, nearest, num_steps=smoothing_steps)
    return Neighborhood(smoothed, before, table, count, recall)
