"""How two clusterings of a set compare, and what can be said of each without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from mca_jax.core.parallel import HostRows
from mca_jax.evaluation.metrics import (
    adjusted_rand_index,
    normalized_mutual_information,
)

__all__ = ["compare_clusterings", "measure_clusters"]

_BLOCK = 65536


def _neighbor_agreement(
    assignments: Int[np.ndarray, " n"], neighbors: Int[np.ndarray, "n r"]
) -> float:
    shared = 0
    for start in range(0, len(assignments), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = assignments[neighbors[block]]
        shared += int((near == assignments[block, None]).sum())
    return shared / neighbors.size


def _compactness(
    assignments: Int[np.ndarray, " n"], images: Any, num_clusters: int
) -> float:
    """Mean cosine to the own cluster's mean: the length of its sum, over ``n``."""
    table = images.array if isinstance(images, HostRows) else np.asarray(images)
    sums = np.zeros((num_clusters, table.shape[1]))
    for start in range(0, len(assignments), _BLOCK):
        block = np.asarray(table[start : start + _BLOCK], np.float64)
        own = assignments[start : start + _BLOCK]
        for cluster in np.unique(own):
            sums[cluster] += block[own == cluster].sum(axis=0)
    return float(np.linalg.norm(sums, axis=1).sum() / len(assignments))


def measure_clusters(
    assignments: Int[np.ndarray, " n"],
    images: Any,
    neighbors: Int[np.ndarray, "n r"],
    *,
    num_clusters: int,
) -> dict[str, float]:
    """Measure hard clusters without labels, those of any method alike.

    Args:
      assignments: Cluster of each image, from 0 on.
      images: Unit vectors ``[n, d]`` in the space that was clustered, on devices
        or on the host.
      neighbors: Rows of each image's nearest other images.
      num_clusters: ``k``, at least 2.

    Returns:
      ``neighbor_agreement``, the share of neighbours in the same cluster;
      ``compactness``, the mean cosine of an image to its cluster's mean
      direction, which is what spherical k-means maximises; ``size_entropy``, 1
      for clusters of equal size; and ``empty_clusters``.

    Example:
      >>> import numpy as np
      >>> images = np.eye(2)[[0, 0, 1, 1]]
      >>> near = np.array([[1], [0], [3], [2]])
      >>> found = measure_clusters(np.array([0, 0, 1, 1]), images, near, num_clusters=2)
      >>> list(found.values())
      [1.0, 1.0, 1.0, 0.0]
    """
    assignments = np.asarray(assignments)
    sizes = np.bincount(assignments, minlength=num_clusters)
    shares = sizes[sizes > 0] / len(assignments)
    spread = float(-(shares * np.log(shares)).sum() / np.log(num_clusters))
    return {
        "neighbor_agreement": _neighbor_agreement(assignments, np.asarray(neighbors)),
        "compactness": _compactness(assignments, images, num_clusters),
        # Not minus zero where one cluster has all.
        "size_entropy": spread + 0.0,
        "empty_clusters": float((sizes == 0).sum()),
    }


def compare_clusterings(
    one: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Say how far two clusterings of the same images agree.

    Args:
      one: Cluster of each image.
      other: Cluster of each image by another method; numbers need not match.

    Returns:
      ``nmi_to_run`` in [0, 1] and ``ari_to_run`` in [-0.5, 1], 1 where they are
      the same but for the numbers, ARI about 0 where they agree by chance.

    Example:
      >>> compare_clusterings(np.array([0, 0, 1]), np.array([1, 1, 0]))
      {'nmi_to_run': 1.0, 'ari_to_run': 1.0}
    """
    return {
        "nmi_to_run": normalized_mutual_information(one, other),
        "ari_to_run": adjusted_rand_index(one, other),
    }
