"""Activations under the names that config.json files use."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS"]


def _quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """OpenAI's cheap stand-in for GELU, ``x * sigmoid(1.702 x)``."""
    return x * jax.nn.sigmoid(1.702 * x)


def _exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by the error function."""
    return jax.nn.gelu(x, approximate=False)


def _tanh_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by its approximation with the hyperbolic tangent."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": _exact_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "quick_gelu": _quick_gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
"""Name -> elementwise function."""
