"""What training reads: embeddings and neighbour tables. No labels anywhere."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.losses import Batch
from mca_jax.retrieval import sample_neighbors
from mca_jax.types import PRNGKey

__all__ = ["TrainingData", "epoch_order", "gather_batch"]


class TrainingData(NamedTuple):
    """Embeddings of images and nouns with their neighbour tables.

    Attributes:
      images: Unit vectors ``[n, d]``.
      nouns: Unit vectors of the semantic space, ``[m, d]``.
      image_neighbors: Rows of each image's nearest images, int32 ``[n, r_i]``.
      noun_neighbors: Rows of each image's nearest nouns, int32 ``[n, r_t]``.
      noun_similarities: Cosines to those nouns, ``[n, r_t]``.
    """

    images: Float[Array, "n d"]
    nouns: Float[Array, "m d"]
    image_neighbors: Int[Array, "n ri"]
    noun_neighbors: Int[Array, "n rt"]
    noun_similarities: Float[Array, "n rt"]


def epoch_order(key: PRNGKey, *, num_images: int, batch_size: int) -> Int[Array, "s b"]:
    """Permute the images and cut them into batches of one size.

    Args:
      key: Key of the permutation.
      num_images: ``n``.
      batch_size: ``b``, at most ``n``. The ``n mod b`` images that are left over
        sit out this pass; another permutation leaves out others.

    Returns:
      Rows of the images, one line a step.
    """
    steps = num_images // batch_size
    order = jax.random.permutation(key, num_images)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(jnp.int32)


def gather_batch(key: PRNGKey, data: TrainingData, rows: Int[Array, " b"]) -> Batch:
    """Collect anchors, a drawn neighbour of each, and the nouns of both.

    Args:
      key: Key of the neighbours' draw.
      data: The set.
      rows: Anchors.

    Returns:
      Everything that a step reads.
    """
    near = sample_neighbors(key, data.image_neighbors, rows)
    return Batch(
        images=data.images[rows],
        neighbors=data.images[near],
        nouns=data.nouns,
        rows=data.noun_neighbors[rows],
        similarities=data.noun_similarities[rows],
        neighbor_rows=data.noun_neighbors[near],
        neighbor_similarities=data.noun_similarities[near],
    )
