"""Principal axes of the images, partly whitened: the space that is clustered."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mca_jax.core.errors import check_in_range
from mca_jax.core.numerics import EPSILON, l2_normalize
from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    fetch,
    over_devices,
    replicate,
)
from mca_jax.core.parallel.collectives import mean_rows, valid_rows
from mca_jax.neighbors.streamed import map_blocks, moments

__all__ = ["Projection", "apply_projection", "fit_projection", "unit_rows"]


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


def _moments(
    rows: Float[Array, "n d"], *, axis_name: str, count: int
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean and covariance of rows over devices."""
    mean = mean_rows(rows, axis_name, count)
    valid = valid_rows(rows.shape[0], axis_name, count)[:, None]
    centered = jnp.where(valid, rows - mean[None, :], 0.0)
    return mean, jax.lax.psum(centered.T @ centered, axis_name) / count


def _mean_and_covariance(
    embeddings: Float[Array, "n d"] | Rows,
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    if isinstance(embeddings, ShardedRows):
        function = over_devices(
            partial(_moments, axis_name=DATA_AXIS, count=embeddings.count),
            embeddings.mesh,
            split=(True,),
        )
        mean, covariance = function(embeddings.array)
        return jnp.asarray(fetch(mean)), jnp.asarray(fetch(covariance))
    if isinstance(embeddings, HostRows):
        mean, covariance = moments(embeddings)
        return jnp.asarray(mean), jnp.asarray(covariance)
    mean = jnp.mean(embeddings, axis=0)
    centered = embeddings - mean[None, :]
    return mean, centered.T @ centered / embeddings.shape[0]


def fit_projection(
    embeddings: Float[Array, "n d"] | Rows,
    *,
    components: int = 64,
    whitening: float = 0.5,
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
    mean, covariance = _mean_and_covariance(embeddings)
    variances, axes = jnp.linalg.eigh(covariance)
    kept = max(1, min(components, width, count - 1))
    variances, axes = variances[::-1][:kept], axes[:, ::-1][:, :kept]
    # An axis along which images don't differ says nothing of them, and whitening
    # would scale what nouns have there up to anything.
    used = variances > _LEAST_VARIANCE * jnp.maximum(variances[0], EPSILON)
    scale = jnp.where(used, jnp.maximum(variances, EPSILON**2) ** -whitening, 0.0)
    return Projection(mean, axes * scale[None])


def _map_rows(rows: Array, shift: Array, axes: Array) -> Array:
    return l2_normalize((rows - shift[None, :]) @ axes)


def _map_counted(
    rows: Array, shift: Array, axes: Array, *, axis_name: str, count: int
) -> Array:
    valid = valid_rows(rows.shape[0], axis_name, count)
    # What fills up stays zero, and so takes part in no sum.
    return jnp.where(valid[:, None], _map_rows(rows, shift, axes), 0.0)


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
    if isinstance(embeddings, ShardedRows):
        function = over_devices(
            partial(_map_counted, axis_name=DATA_AXIS, count=embeddings.count),
            embeddings.mesh,
            split=(True, False, False),
            split_out=True,
        )
        fixed = replicate((shift, projection.axes), embeddings.mesh)
        mapped = function(embeddings.array, *fixed)
        return ShardedRows(mapped, embeddings.count, embeddings.mesh)
    if isinstance(embeddings, HostRows):
        return map_blocks(_map_rows, embeddings, shift, projection.axes)
    return _map_rows(embeddings, shift, projection.axes)


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
    if isinstance(rows, ShardedRows):
        # Zeros that fill up stay zeros.
        scale = over_devices(l2_normalize, rows.mesh, split=(True,), split_out=True)
        return ShardedRows(scale(rows.array), rows.count, rows.mesh)
    if not isinstance(rows, HostRows):
        return l2_normalize(rows)
    if _norms_are_one(rows):
        return rows
    return map_blocks(l2_normalize, rows)
