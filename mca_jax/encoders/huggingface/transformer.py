"""The transformer that all towers share: its settings, norm, MLP and attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mca_jax.core.errors import InputError, check_one_of

__all__ = [
    "ACTIVATIONS",
    "Mlp",
    "TowerConfig",
    "attend",
    "check_whole",
    "layer_norm",
    "parse_pair",
    "parse_tower",
    "parse_whole",
    "rotate_heads",
    "text_turns",
]


def _quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """OpenAI's cheap stand-in for GELU, ``x * sigmoid(1.702 x)``."""
    return x * jax.nn.sigmoid(1.702 * x)


def _exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by the error function.

    As PyTorch has it; jax.nn.gelu takes the complement, which is two and a half times
    as slow on a CPU and more exact only where GELU is 0 but for 1e-7.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * np.asarray(0.5**0.5, x.dtype)))


def _tanh_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by its approximation with the hyperbolic tangent."""
    return jax.nn.gelu(x, approximate=True)


# Tokens from which rows are attended to one by one on a CPU.
_LONG_ROW = 256

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": _exact_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "quick_gelu": _quick_gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
"""Name -> elementwise function."""


class TowerConfig(NamedTuple):
    """The transformer of one tower.

    Attributes:
      width: Width of the residual stream.
      hidden_width: Width inside each MLP.
      num_layers: Number of blocks.
      num_heads: Number of attention heads; divides ``width``.
      activation: Name of the MLP's activation, a key of ``ACTIVATIONS``.
      epsilon: Added to the variance in each layer norm.
    """

    width: int
    hidden_width: int
    num_layers: int
    num_heads: int
    activation: str
    epsilon: float


def parse_tower(section: Mapping[str, Any], source: str) -> TowerConfig:
    """Read the transformer of a tower from a section of config.json without gaps.

    ``source`` names the section in messages.

    Raises:
      InputError: A value is impossible or the activation unknown.
    """
    width = parse_whole(section, "hidden_size", source)
    num_heads = parse_whole(section, "num_attention_heads", source)
    if width % num_heads:
        raise InputError(
            f"Expected hidden_size of {source} to be a multiple of "
            f"num_attention_heads, found {width} and {num_heads}"
        )
    epsilon = section["layer_norm_eps"]
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise InputError(
            f"Expected layer_norm_eps of {source} between 0 and 1, found {epsilon!r}"
        )
    activation = section["hidden_act"]
    return TowerConfig(
        width=width,
        hidden_width=parse_whole(section, "intermediate_size", source),
        num_layers=parse_whole(section, "num_hidden_layers", source),
        num_heads=num_heads,
        activation=check_one_of(
            f"hidden_act in {source}", str(activation), ACTIVATIONS
        ),
        epsilon=float(epsilon),
    )


def parse_pair(section: Mapping[str, Any], name: str, source: str) -> tuple[int, int]:
    """Return height and width from one number or a pair."""
    value = section[name]
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise InputError(
            f"Expected {name} in {source} to be a number or [height, width], "
            f"found {value!r}"
        )
    height, width = (check_whole(side, name, source) for side in sides)
    return height, width


def parse_whole(section: Mapping[str, Any], name: str, source: str) -> int:
    """Return what a key of config.json names, a whole number of at least 1.

    Raises:
      InputError: It is none.
    """
    return check_whole(section[name], name, source)


def check_whole(value: Any, name: str, source: str) -> int:
    """Return a value of config.json if it is a whole number of at least 1.

    Raises:
      InputError: It isn't.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"Expected {name} in {source} to be a whole number of at least 1, "
            f"found {value!r}"
        )
    return value


def layer_norm(tower: TowerConfig, dtype: Any, name: str) -> nn.LayerNorm:
    """Layer norm with the variance in two passes: E[x²] − E[x]² loses digits."""
    return nn.LayerNorm(
        epsilon=tower.epsilon, use_fast_variance=False, dtype=dtype, name=name
    )


class Mlp(nn.Module):
    """Two dense layers with the tower's activation between them."""

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "... w"]) -> Float[Array, "... w"]:
        """Apply both layers to each token."""
        hidden = nn.Dense(self.tower.hidden_width, dtype=self.dtype, name="expand")(x)
        hidden = ACTIVATIONS[self.tower.activation](hidden)
        return nn.Dense(self.tower.width, dtype=self.dtype, name="project")(hidden)


def rotate_heads(
    x: Float[Array, "b t w"], turns: tuple[Any, Any], num_heads: int
) -> Float[Array, "b t w"]:
    """Turn each head's axes by where a token is; the second half turns as the first.

    ``turns`` are cosines and sines ``[t, v]`` of the angles.
    """
    cosines, sines = turns
    batch, length, width = x.shape
    heads = x.reshape(batch, length, num_heads, width // num_heads)
    low, high = jnp.split(heads, 2, axis=-1)
    turned = heads * cosines[None, :, None] + (
        jnp.concatenate([-high, low], axis=-1) * sines[None, :, None]
    )
    return turned.reshape(batch, length, width).astype(x.dtype)


def text_turns(
    length: int, *, head_width: int, theta: float
) -> tuple[Float[np.ndarray, "t v"], Float[np.ndarray, "t v"]]:
    """Cosines and sines by which tokens of a text turn, at falling speeds.

    Su et al., "RoFormer" (2021), with the axes in two halves.
    """
    speeds = theta ** -(np.arange(0, head_width, 2) / head_width)
    angles = np.tile(np.arange(length)[:, None] * speeds, 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def attend(
    query: Float[Array, "b q w"],
    keys: Float[Array, "b t w"],
    values: Float[Array, "b t w"],
    mask: Bool[Array, "b|1 1 q|1 t"] | None,
    num_heads: int,
    bias: Float[Array, "1 h q t"] | None = None,
) -> Float[Array, "b q w"]:
    """Attention of several heads, its logits in float32.

    Written out because ``jax.nn.dot_product_attention`` takes half as long again
    on a CPU, where it has no fused kernel either. The mask says which keys a query
    sees, None all; the bias is added to the logits. On a CPU long rows come one by one:
    the logits of one stay in a processor's cache, those of a batch don't.
    """
    every = partial(_attend, mask=mask, bias=bias, num_heads=num_heads)
    is_long = min(query.shape[1], keys.shape[1]) >= _LONG_ROW
    if is_long and mask is None and bias is None and jax.default_backend() == "cpu":
        rows = (query[:, None], keys[:, None], values[:, None])
        return jax.lax.map(lambda row: every(*row), rows)[:, 0]
    return every(query, keys, values)


def _attend(
    query: Float[Array, "b q w"],
    keys: Float[Array, "b t w"],
    values: Float[Array, "b t w"],
    *,
    mask: Bool[Array, "b|1 1 q|1 t"] | None,
    bias: Float[Array, "1 h q t"] | None,
    num_heads: int,
) -> Float[Array, "b q w"]:
    """Attention of rows at once."""
    head_width = query.shape[-1] // num_heads

    def split(x: Float[Array, "b t w"]) -> Float[Array, "b h t v"]:
        return x.reshape(*x.shape[:2], num_heads, head_width).swapaxes(1, 2)

    query = split(query * head_width**-0.5)
    logits = jnp.einsum(
        "bhqv,bhtv->bhqt", query, split(keys), preferred_element_type=jnp.float32
    )
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
    attended = jnp.einsum("bhqt,bhtv->bhqv", weights, split(values))
    return attended.swapaxes(1, 2).reshape(attended.shape[0], attended.shape[2], -1)
