"""Prototype level: cluster c of the images is cluster c of the texts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.core.numerics import EPSILON
from mca_jax.core.parallel.collectives import global_sum, valid_rows

__all__ = ["assignment_prototype_loss", "embedding_prototype_loss", "info_nce"]


def info_nce(
    first: Float[Array, "k d"],
    second: Float[Array, "k d"],
    *,
    temperature: float,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Symmetric contrast of matching rows against all other pairs of rows.

    .. math::
      \tfrac{1}{2k}\sum_c \Big[-\log
        \frac{e^{a_c^\top b_c/\tau}}{\sum_{c'} e^{a_c^\top b_{c'}/\tau}}
        -\log\frac{e^{a_c^\top b_c/\tau}}{\sum_{c'} e^{a_{c'}^\top b_c/\tau}}
      \Big]

    Args:
      first: Unit vectors.
      second: Unit vectors; row ``c`` belongs to row ``c`` of ``first``.
      temperature: ``tau`` > 0.
      axis_name: Axis of the devices of which each holds some of the ``d``
        columns; None for one device.

    Returns:
      Mean over rows and both directions, at least 0.
    """
    logits = global_sum(first @ second.T, axis_name) / temperature
    rows = jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
    columns = jnp.diagonal(jax.nn.log_softmax(logits, axis=0))
    return -0.5 * (jnp.mean(rows) + jnp.mean(columns))


def _unit_columns(
    assignments: Float[Array, "b k"], axis_name: str | None, batch_size: int | None
) -> Float[Array, "k b"]:
    """Columns of the whole batch, scaled to unit norm; this device's part."""
    if batch_size is not None:
        valid = valid_rows(assignments.shape[0], axis_name, batch_size)
        assignments = jnp.where(valid[:, None], assignments, 0.0)
    columns = assignments.T
    square = global_sum(jnp.sum(columns * columns, axis=1, keepdims=True), axis_name)
    return columns * jax.lax.rsqrt(jnp.maximum(square, EPSILON**2))


def assignment_prototype_loss(
    image_assignments: Float[Array, "b k"],
    text_assignments: Float[Array, "b k"],
    neighbor_image_assignments: Float[Array, "b k"],
    neighbor_text_assignments: Float[Array, "b k"],
    *,
    temperature: float = 0.5,
    axis_name: str | None = None,
    batch_size: int | None = None,
) -> Float[Array, ""]:
    """Contrast the columns of the two assignment matrices (reading a).

    A cluster is the column of its assignments over the batch; those of images
    are matched with those of the texts of the images' neighbours, and back.

    Args:
      image_assignments: ``P``.
      text_assignments: ``Q_hat``.
      neighbor_image_assignments: ``P'``, of one neighbour of each image.
      neighbor_text_assignments: ``Q_hat'``, of the same neighbours.
      temperature: ``tau_p`` > 0.
      axis_name: Axis of the devices that share the batch; None for one device.
      batch_size: Images of the whole batch, where other rows fill the last
        devices up; None counts every row.

    Returns:
      Mean of both contrasts, at least 0.
    """
    image, text, neighbor_image, neighbor_text = (
        _unit_columns(a, axis_name, batch_size)
        for a in (
            image_assignments,
            text_assignments,
            neighbor_image_assignments,
            neighbor_text_assignments,
        )
    )
    return 0.5 * (
        info_nce(image, neighbor_text, temperature=temperature, axis_name=axis_name)
        + info_nce(text, neighbor_image, temperature=temperature, axis_name=axis_name)
    )


def embedding_prototype_loss(
    image_prototypes: Float[Array, "k d"],
    text_prototypes: Float[Array, "k d"],
    *,
    temperature: float = 0.5,
) -> Float[Array, ""]:
    """Contrast the mean embeddings of the clusters (reading b).

    Args:
      image_prototypes: Mean image direction of each cluster, unit vectors.
      text_prototypes: Mean text direction of each cluster, unit vectors.
      temperature: ``tau_p`` > 0.

    Returns:
      Symmetric contrast, at least 0.
    """
    return info_nce(image_prototypes, text_prototypes, temperature=temperature)
