"""Instance level: an image and its neighbouring nouns agree."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.core.numerics import safe_log

__all__ = ["instance_loss"]


def instance_loss(
    image_assignments: Float[Array, "b k"],
    text_assignments: Float[Array, "b k"],
    trust: Float[Array, " b"],
) -> Float[Array, ""]:
    r"""Negative log-probability that image and nouns share a cluster.

    .. math::
      L_{inst} = -\frac1b \sum_i (1 - a_{i,null})
        \log \langle p_i, \hat q_i \rangle

    The sum is divided by the size of the batch, not by the total trust: a set
    whose nouns say little is shaped little by them.

    Args:
      image_assignments: ``p``, from the image network.
      text_assignments: ``q_hat``, attention-weighted mean over the nouns.
      trust: ``1 - a_null`` of each image, in [0, 1].

    Returns:
      Weighted mean over the batch, at least 0.
    """
    agreement = jnp.sum(image_assignments * text_assignments, axis=-1)
    return -jnp.mean(trust * safe_log(agreement))
