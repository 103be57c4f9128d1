"""Guarded numerics: every function is finite, and so is its gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["EPSILON", "entropy", "l2_normalize", "safe_log"]

EPSILON = 1e-8
"""Floor for probabilities and norms in float32."""


def safe_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Natural logarithm of ``max(x, 1e-8)``.

    A probability that underflows to zero would give minus infinity, and its
    gradient a NaN that spreads to all weights. Below the floor the value is
    constant and the gradient zero.

    """
    return jnp.log(jnp.maximum(x, EPSILON))


def l2_normalize(x: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Scale to unit Euclidean norm along an axis; zero vectors stay zero.

    ``x / norm(x)`` has a NaN gradient at zero, which is where an empty
    cluster's prototype lies. The norm's square is bounded before the root.
    """
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, EPSILON**2))


def entropy(p: Float[Array, "... k"]) -> Float[Array, "..."]:
    """Shannon entropy in nats along the last axis, in ``[0, log k]``."""
    return -jnp.sum(p * safe_log(p), axis=-1)
