"""Prototype level: cluster c of the images is cluster c of the texts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.core.numerics import l2_normalize

__all__ = ["assignment_prototype_loss", "embedding_prototype_loss", "info_nce"]


def info_nce(
    first: Float[Array, "k d"], second: Float[Array, "k d"], *, temperature: float
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

    Returns:
      Mean over rows and both directions, at least 0.
    """
    logits = first @ second.T / temperature
    rows = jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
    columns = jnp.diagonal(jax.nn.log_softmax(logits, axis=0))
    return -0.5 * (jnp.mean(rows) + jnp.mean(columns))


def assignment_prototype_loss(
    image_assignments: Float[Array, "b k"],
    text_assignments: Float[Array, "b k"],
    neighbor_image_assignments: Float[Array, "b k"],
    neighbor_text_assignments: Float[Array, "b k"],
    *,
    temperature: float = 0.5,
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

    Returns:
      Mean of both contrasts, at least 0.
    """
    image, text, neighbor_image, neighbor_text = (
        l2_normalize(assignments.T)
        for assignments in (
            image_assignments,
            text_assignments,
            neighbor_image_assignments,
            neighbor_text_assignments,
        )
    )
    return 0.5 * (
        info_nce(image, neighbor_text, temperature=temperature)
        + info_nce(text, neighbor_image, temperature=temperature)
    )


def embedding_prototype_loss(
    image_prototypes: Float[Array, "k d"],
    text_prototypes: Float[Array, "k d"],
    *,
    temperature: float = 0.5,
) -> Float[Array, ""]:
    """Contrast the mean embeddings of the clusters, unit vectors (reading b)."""
    return info_nce(image_prototypes, text_prototypes, temperature=temperature)
