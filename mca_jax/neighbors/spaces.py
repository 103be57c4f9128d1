"""The space that is clustered, where images are embedded by several encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
from jax import Array as JaxArray
from jaxtyping import Array, Float

from mca_jax.core.numerics import EPSILON
from mca_jax.core.parallel import HostRows, Rows, map_rows, reduce_rows
from mca_jax.neighbors.projection import Projection

__all__ = ["fit_spaces"]


def fit_spaces(
    embeddings: Float[Array, "n d"] | Rows,
    widths: Sequence[int],
    fit: Callable[[Float[Array, "n s"] | Rows, slice], Projection],
) -> Projection:
    r"""Fit axes in each of some spaces and put them side by side.

    .. math:: x = (x_1, x_2, \dots) \mapsto
        (P_1 x_1 / \sqrt{E_1},\; P_2 x_2 / \sqrt{E_2},\; \dots), \qquad
        E_i = \overline{\lVert P_i x_i \rVert^2}

    Each space has the same part in what images lie apart, which no label says
    otherwise. A vector that is the mean in a space is 0 there: nouns, of which only
    one space knows, are as near to an image as in that space alone, but for a factor
    that is the same for all nouns.

    Args:
      embeddings: Vectors of the set; ``widths`` add up to ``d``.
      widths: Width of each space; none or one is a single space.
      fit: Vectors of one space, and its columns among all, to its map.

    Returns:
      The one map of all.
    """
    if len(widths) < 2:
        return fit(embeddings, slice(None))
    parts, start = [], 0
    for width in widths:
        columns = slice(start, start + width)
        rows = _pick_columns(embeddings, columns)
        part = fit(rows, columns)
        squares = jnp.sum(reduce_rows(_squares, rows, whole=part))
        scale = jnp.maximum(squares / embeddings.shape[0], EPSILON) ** -0.5
        parts.append(part._replace(axes=part.axes * scale))
        start += width
    mean = jnp.concatenate([part.mean for part in parts])
    axes = jnp.zeros((start, sum(part.axes.shape[1] for part in parts)))
    row = column = 0
    for part in parts:
        height, width = part.axes.shape
        axes = axes.at[row : row + height, column : column + width].set(part.axes)
        row, column = row + height, column + width
    return Projection(mean, axes)


def _squares(
    rows: Float[Array, "n s"], mean: Float[Array, " s"], axes: Float[Array, "s c"]
) -> Float[Array, " c"]:
    return jnp.sum(((rows - mean[None]) @ axes) ** 2, axis=0)


def _pick_columns(
    rows: Float[Array, "n d"] | Rows, columns: slice
) -> Float[Array, "n s"] | Rows:
    """Some columns of a table, where the table is."""
    if isinstance(rows, HostRows):
        return replace(rows, array=rows.array[:, columns])
    if isinstance(rows, JaxArray):
        return rows[:, columns]
    between = partial(_between, start=columns.start, stop=columns.stop)
    return map_rows(between, rows)


def _between(block: Array, *, start: int, stop: int) -> Array:
    return block[:, start:stop]
