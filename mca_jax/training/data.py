"""What training reads: embeddings and neighbour tables. No labels anywhere."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.alignment.losses import Batch
from mca_jax.core.parallel import Rows, Table
from mca_jax.core.parallel.collectives import scatter_rows, take_rows
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors import sample_neighbors

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

    images: Float[Array, "n d"] | Rows
    nouns: Float[Array, "m d"]
    image_neighbors: Int[Array, "n ri"] | Table
    noun_neighbors: Int[Array, "n rt"] | Table
    noun_similarities: Float[Array, "n rt"] | Table


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


def gather_batch(
    key: PRNGKey,
    data: Any,
    rows: Int[Array, " b"],
    *,
    axis_name: str | None = None,
) -> Batch:
    """Collect anchors, a drawn neighbour of each, and the nouns of both.

    Args:
      key: Key of the neighbours' draw.
      data: The set as ``TrainingData`` of arrays; with ``axis_name`` this
        device's rows of it.
      rows: Anchors of the whole batch.
      axis_name: Axis of the devices that share the set; None for one device.

    Returns:
      Everything that a step reads; with ``axis_name`` this device's share, and
      the last devices' filled up where the batch does not divide.
    """
    if axis_name is not None:
        return _gather_share(key, data, rows, axis_name)
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


def _gather_share(
    key: PRNGKey, data: Any, rows: Int[Array, " b"], axis_name: str
) -> Batch:
    """Look up anchors and neighbours that other devices may hold."""
    candidates = take_rows(data.image_neighbors, rows, axis_name)
    near = sample_neighbors(key, candidates, jnp.arange(rows.shape[0]))
    missing = -rows.shape[0] % jax.lax.axis_size(axis_name)
    rows, near = (jnp.pad(x, (0, missing)) for x in (rows, near))
    own, other = (
        tuple(
            scatter_rows(table, which, axis_name)
            for table in (data.images, data.noun_neighbors, data.noun_similarities)
        )
        for which in (rows, near)
    )
    return Batch(own[0], other[0], data.nouns, *own[1:], *other[1:])
