"""Finds likely outliers among the images; takes no labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.host_tables import release

__all__ = ["Outlier", "find_outliers"]

_OUTLIER_NEIGHBORS = 10
_OUTLIER_PART = 100
_LEAST_OUTLIERS = 8
_MOST_OUTLIERS = 1000
_BLOCK = 512
# Rows after which what was read of a large set is given back.
_RELEASE = 64 * _BLOCK


class Outlier(NamedTuple):
    """An image's row and its mean cosine distance to its nearest ones, in [0, 2]."""

    row: int
    distance: float


def _neighbor_cosines(
    embeddings: Float[np.ndarray, "n d"],
    neighbors: Int[np.ndarray, "n r"],
    center: Float[np.ndarray, " d"],
) -> Float[np.ndarray, "n r"]:
    """Cosine of each row with its neighbours, seen from a centre."""
    cosines = np.zeros(neighbors.shape, np.float32)
    # Block by block: the rows of the neighbours are many times all rows.
    for start in range(0, len(embeddings), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = embeddings[block].astype(np.float32) - center
        near = embeddings[neighbors[block]].astype(np.float32) - center
        lengths = np.linalg.norm(own, axis=-1)[:, None] * np.linalg.norm(near, axis=-1)
        products = np.einsum("nd,nrd->nr", own, near)
        cosines[block] = products / np.maximum(lengths, 1e-12)
        if start % _RELEASE == 0:
            release(embeddings)
    return cosines


def find_outliers(
    embeddings: Float[np.ndarray, "n d"], neighbors: Int[np.ndarray, "n r"]
) -> tuple[Outlier, ...]:
    """Find the images that are farthest from their own nearest images.

    Args:
      embeddings: One row an image.
      neighbors: Rows of each image's nearest others, nearest first; 10 are used.

    Returns:
      The most distant hundredth of the images, at least 8 and at most 1,000 of
      them, most distant first; none where there are no neighbours.

    References:
      Sun et al., "Out-of-distribution detection with deep nearest neighbors",
      2022; here with the mean over neighbours in place of the last one.
    """
    if not neighbors.shape[1]:
        return ()
    # From the mean image: what all images share tells none apart.
    mean = embeddings.mean(axis=0, dtype=np.float32)
    cosines = _neighbor_cosines(embeddings, neighbors[:, :_OUTLIER_NEIGHBORS], mean)
    distances = 1.0 - cosines.mean(axis=1)
    wanted = np.clip(len(distances) // _OUTLIER_PART, _LEAST_OUTLIERS, _MOST_OUTLIERS)
    order = np.argsort(-distances, kind="stable")[: int(wanted)]
    return tuple(Outlier(row, float(distances[row])) for row in order.tolist())
