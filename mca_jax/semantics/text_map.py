r"""Joins the space of a text encoder to that of the images, in closed form.

Both encoders embed the same nouns; the map is the one that brings the text
encoder's :math:`X` closest to the other's :math:`Y`, each less its mean:

.. math:: \min_W \|Y - XW\|_F^2 + \lambda \|W\|_F^2
    \quad\text{or}\quad \min_{W, s} \|Y - sXW\|_F^2,\; W \text{ orthogonal},

ridge regression, and Procrustes' problem with a scale (Schönemann, "A generalized
solution of the orthogonal Procrustes problem", Psychometrika 1966).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.numerics import EPSILON, l2_normalize

__all__ = ["TextMap", "apply_text_map", "fit_text_map"]


class TextMap(NamedTuple):
    """An affine map between two spaces of embeddings.

    Attributes:
      matrix: Float32 ``[s, d]``.
      offset: Added behind it, float32 ``[d]``.
    """

    matrix: Float[Array, "s d"]
    offset: Float[Array, " d"]


def fit_text_map(
    source: Float[Array, "m s"],
    target: Float[Array, "m d"],
    *,
    method: str = "ridge",
    ridge: float = 1e-3,
) -> TextMap:
    """Fit the map from one space to another on what both embed.

    Args:
      source: Embeddings by the text encoder.
      target: Embeddings of the same nouns by the encoder of the images.
      method: ``"ridge"`` or ``"procrustes"``. A ridge may turn, stretch and drop
        axes; Procrustes only turns and scales all alike, so that the text
        encoder's own similarities stay what they are.
      ridge: Penalty in mean squares of an axis of the source, at least 0; for
        ``"ridge"`` alone.

    Raises:
      InputError: The numbers of nouns differ, there is less than two, or a setting
        is invalid.

    Example:
      >>> import numpy as np
      >>> nouns = np.eye(4, 3, dtype=np.float32)
      >>> found = fit_text_map(nouns, nouns[:, ::-1], method="procrustes")
      >>> np.round(found.matrix + found.offset[None], 3).tolist()
      [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    check_one_of("text map", method, ("procrustes", "ridge"))
    check_in_range("ridge", ridge, 0)
    source, target = (jnp.asarray(rows, jnp.float32) for rows in (source, target))
    if source.shape[0] != target.shape[0] or source.shape[0] < 2:
        raise InputError(
            "Expected two or more nouns that both encoders embed, found "
            f"{source.shape[0]} and {target.shape[0]}"
        )
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    x, y = source - source_mean[None], target - target_mean[None]
    # Sums over all nouns: accelerators would multiply them with 10 bits.
    with jax.default_matmul_precision("highest"):
        cross = x.T @ y
        if method == "ridge":
            gram = x.T @ x
            axes = gram.shape[0]
            penalty = (ridge + EPSILON) * jnp.trace(gram) / axes + EPSILON
            matrix = jax.scipy.linalg.solve(
                gram + penalty * jnp.eye(axes), cross, assume_a="pos"
            )
        else:
            left, strengths, right = jnp.linalg.svd(cross, full_matrices=False)
            turn = left @ right
            # Less than all of the source's length is seen where d < s.
            seen = jnp.sum((x @ turn) ** 2)
            matrix = turn * (strengths.sum() / jnp.maximum(seen, EPSILON))
        return TextMap(matrix, target_mean - source_mean @ matrix)


def apply_text_map(
    text_map: TextMap, embeddings: Float[Array, "m s"]
) -> Float[Array, "m d"]:
    """Bring the text encoder's embeddings to the other space, as unit vectors."""
    moved = jnp.asarray(embeddings) @ text_map.matrix + text_map.offset[None]
    return l2_normalize(moved)
