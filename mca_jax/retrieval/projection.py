"""Principal axes of the images, partly whitened: the space that is clustered."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.checks import check_in_range
from mca_jax.numerics import EPSILON, l2_normalize

__all__ = ["Projection", "apply_projection", "fit_projection"]


_LEAST_VARIANCE = 1e-4


class Projection(NamedTuple):
    """An affine map to the principal axes of a set.

    Attributes:
      mean: Subtracted first, float32 ``[d]``.
      axes: Principal axes, scaled, float32 ``[d, c]``.
    """

    mean: Float[Array, " d"]
    axes: Float[Array, "d c"]


def fit_projection(
    embeddings: Float[Array, "n d"], *, components: int = 64, whitening: float = 0.5
) -> Projection:
    r"""Fit the map to ``components`` principal axes of a set.

    .. math:: x \mapsto \Lambda^{-w}\, V^\top (x - \bar x)

    What all images share goes with the mean; axes along which they hardly differ
    are noise to a cosine; and whitening keeps the few strongest axes, often
    brightness or background, from deciding it alone.

    Args:
      embeddings: Vectors of the set.
      components: Axes to keep, at least 1; cut to what ``n`` and ``d`` allow.
      whitening: ``w`` in [0, 0.5]: 0 keeps the variances, 0.5 makes them equal.

    Returns:
      The map; the sign of an axis does not matter to cosines.

    Raises:
      InputError: A setting is out of range.
    """
    check_in_range("projection components", components, 1)
    check_in_range("projection whitening", whitening, 0, 0.5)
    count, width = embeddings.shape
    mean = jnp.mean(embeddings, axis=0)
    centered = embeddings - mean[None, :]
    variances, axes = jnp.linalg.eigh(centered.T @ centered / count)
    kept = max(1, min(components, width, count - 1))
    variances, axes = variances[::-1][:kept], axes[:, ::-1][:, :kept]
    # An axis along which images don't differ says nothing of them, and whitening
    # would scale what nouns have there up to anything.
    used = variances > _LEAST_VARIANCE * jnp.maximum(variances[0], EPSILON)
    scale = jnp.where(used, jnp.maximum(variances, EPSILON**2) ** -whitening, 0.0)
    return Projection(mean, axes * scale[None])


def apply_projection(
    projection: Projection,
    embeddings: Float[Array, "n d"],
    mean: Float[Array, " d"] | None = None,
) -> Float[Array, "n c"]:
    """Map vectors and scale them to unit norm.

    Args:
      projection: From :func:`fit_projection`.
      embeddings: Images or nouns.
      mean: Subtracted in place of the images' mean; the nouns have their own,
        since texts lie apart from images.

    Returns:
      Unit vectors.
    """
    shift = projection.mean if mean is None else mean
    return l2_normalize((embeddings - shift[None, :]) @ projection.axes)
