"""A small finished run, for examples in docstrings and docs."""

from __future__ import annotations

from functools import cache

import numpy as np

from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.config import Config, apply_overrides

__all__ = ["example_result"]


@cache
def example_result() -> ClusterResult:
    """Cluster sixty made-up embeddings: twenty each of cat, boat and tree.

    Returns:
      The result, the same object each time.

    Example:
      >>> sorted(cluster.name for cluster in example_result().clusters)
      ['boat', 'cat', 'tree']
    """
    axes = np.eye(4, dtype=np.float32)
    return cluster(
        image_embeddings=np.repeat(axes[:3], 20, axis=0),
        noun_embeddings=axes,
        nouns=["cat", "boat", "tree", "lamp"],
        num_clusters=3,
        config=apply_overrides(Config(), ["train.epochs=2"]),
    )
