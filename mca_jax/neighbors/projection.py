"""The space that is clustered: axes on which images differ and views of one don't."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from mca_jax.core.errors import check_in_range
from mca_jax.core.numerics import EPSILON, l2_normalize
from mca_jax.core.parallel import HostRows, Rows, map_rows, reduce_rows

__all__ = [
    "Projection",
    "apply_projection",
    "fit_projection",
    "unit_rows",
    "view_covariance",
]


_LEAST_VARIANCE = 1e-4
_BLOCK = 65536
# What float16 leaves of a unit norm.
_NORM_TOLERANCE = 1e-2


class Projection(NamedTuple):
    """An affine map to the principal axes of a set.

    Attributes:
      mean: Subtracted first, float32 ``[d]``.
      axes: Principal axes, scaled, float32 ``[d, c]``.
    """

    mean: Float[Array, " d"]
    axes: Float[Array, "d c"]


def _gram(rows: Float[Array, "n d"], mean: Float[Array, " d"]) -> Float[Array, "d d"]:
    centered = rows - mean[None, :]
    return centered.T @ centered


@jax.jit
def view_covariance(views: Float[Array, "s v d"]) -> Float[Array, "d d"]:
    """Covariance within the views of one image, the mean over images.

    Args:
      views: Embeddings of at least two views of each image.

    Returns:
      How the views of an image scatter about their mean, unbiased.

    Raises:
      InputError: There are fewer than two views of an image.
    """
    check_in_range("views of an image", views.shape[1], 2)
    scatter = views - jnp.mean(views, axis=1, keepdims=True)
    rows = scatter.reshape(-1, views.shape[2])
    return rows.T @ rows / (views.shape[0] * (views.shape[1] - 1))


def fit_projection(
    embeddings: Float[Array, "n d"] | Rows,
    *,
    components: int = 64,
    whitening: float = 0.5,
    within: Float[Array, "d d"] | None = None,
    shrinkage: float = 1.0,
) -> Projection:
    r"""Fit the map to ``components`` axes of a set.

    What all images share goes with the mean. Without ``within`` the axes are the
    principal ones, partly whitened,

    .. math:: x \mapsto \Lambda^{-w}\, V^\top (x - \bar x).

    Axes along which images hardly differ are noise to a cosine, and whitening keeps
    the few strongest, often brightness or background, from deciding it alone.

    With ``within``, the covariance :math:`\Sigma_w` of views of one image, they are
    those on which images differ most *for how little* views of one image do, as in
    linear discriminant analysis with each image as a class of its own:

    .. math:: \Sigma v = \lambda\, (\Sigma_w + \rho\,
        \tfrac{\mathrm{tr}\,\Sigma_w}{d}\, I)\, v, \qquad
        v^\top (\Sigma_w + \rho\, \tfrac{\mathrm{tr}\,\Sigma_w}{d}\, I)\, v = 1.

    Args:
      embeddings: Vectors of the set.
      components: Axes to keep, at least 1; cut to what ``n`` and ``d`` allow.
      whitening: ``w`` in [0, 0.5]: 0 keeps the variances, 0.5 makes them equal. Not
        read with ``within``, which gives the axes their scale.
      within: From :func:`view_covariance`, on a sample of the set.
      shrinkage: ``rho`` > 0: how far views are taken to scatter alike in all
        directions, for a sample of them tells only so much.

    Returns:
      The map; the sign of an axis does not matter to cosines.

    Raises:
      InputError: A setting is out of range.
    """
    check_in_range("projection components", components, 1)
    check_in_range("projection whitening", whitening, 0, 0.5)
    check_in_range("projection shrinkage", shrinkage, 1e-3)
    count, width = embeddings.shape
    mean = reduce_rows(partial(jnp.sum, axis=0), embeddings) / count
    covariance = reduce_rows(_gram, embeddings, whole=(mean,)) / count
    kept = max(1, min(components, width, count - 1))
    if within is not None:
        return Projection(mean, _discriminant_axes(covariance, within, kept, shrinkage))
    return Projection(mean, _principal_axes(covariance, kept, whitening))


@partial(jax.jit, static_argnames=("kept", "whitening"))
def _principal_axes(
    covariance: Float[Array, "d d"], kept: int, whitening: float
) -> Float[Array, "d c"]:
    variances, axes = jnp.linalg.eigh(covariance)
    variances, axes = variances[::-1][:kept], axes[:, ::-1][:, :kept]
    # An axis along which images don't differ says nothing of them, and whitening
    # would scale what nouns have there up to anything.
    used = variances > _LEAST_VARIANCE * jnp.maximum(variances[0], EPSILON)
    scale = jnp.where(used, jnp.maximum(variances, EPSILON**2) ** -whitening, 0.0)
    return axes * scale[None]


@partial(jax.jit, static_argnames=("kept", "shrinkage"))
def _discriminant_axes(
    between: Float[Array, "d d"],
    within: Float[Array, "d d"],
    kept: int,
    shrinkage: float,
) -> Float[Array, "d c"]:
    """Solve the generalized eigenproblem by way of a Cholesky factor."""
    width = within.shape[0]
    spread = jnp.maximum(jnp.trace(within) / width, EPSILON)
    factor = jnp.linalg.cholesky(within + shrinkage * spread * jnp.eye(width))
    half = solve_triangular(factor, between, lower=True)
    ratios, axes = jnp.linalg.eigh(solve_triangular(factor, half.T, lower=True))
    ratios, axes = ratios[::-1][:kept], axes[:, ::-1][:, :kept]
    axes = jnp.where(ratios > _LEAST_VARIANCE * ratios[0], axes, 0.0)
    return solve_triangular(factor, axes, lower=True, trans="T")


def _project(rows: Array, shift: Array, axes: Array) -> Array:
    return l2_normalize((rows - shift[None, :]) @ axes)


@overload
def apply_projection(
    projection: Projection,
    embeddings: Float[Array, "n d"],
    mean: Float[Array, " d"] | None = None,
) -> Float[Array, "n c"]: ...


@overload
def apply_projection(
    projection: Projection, embeddings: Rows, mean: Float[Array, " d"] | None = None
) -> Rows: ...


def apply_projection(
    projection: Projection,
    embeddings: Float[Array, "n d"] | Rows,
    mean: Float[Array, " d"] | None = None,
) -> Float[Array, "n c"] | Rows:
    """Map vectors and scale them to unit norm.

    Args:
      projection: From :func:`fit_projection`.
      embeddings: Images or nouns.
      mean: Subtracted in place of the images' mean; the nouns have their own,
        since texts lie apart from images.

    Returns:
      Unit vectors, where the embeddings are.
    """
    shift = projection.mean if mean is None else mean
    return map_rows(_project, embeddings, whole=(shift, projection.axes))


def _norms_are_one(rows: HostRows) -> bool:
    """Whether a table on the host has unit rows already, read block by block."""
    for start in range(0, rows.shape[0], _BLOCK):
        block = np.asarray(rows.array[start : start + _BLOCK], np.float32)
        if np.abs(np.linalg.norm(block, axis=1) - 1).max() > _NORM_TOLERANCE:
            return False
    return True


def unit_rows(rows: Float[Array, "n d"] | Rows) -> Float[Array, "n d"] | Rows:
    """Scale embeddings to unit norm, without any projection.

    Args:
      rows: Embeddings of the images as an encoder gives them.

    Returns:
      Unit vectors, where the rows are. A table on the host that has unit rows
      already is taken as it is, since a copy may not fit.
    """
    if isinstance(rows, HostRows) and _norms_are_one(rows):
        return rows
    return map_rows(l2_normalize, rows)
