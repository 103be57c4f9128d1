"""What the blocks of all towers share: norm, MLP and attention."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mca_jax.encoders.clip.config import TowerConfig
from mca_jax.encoders.huggingface.activations import ACTIVATIONS

__all__ = ["Mlp", "attend", "layer_norm"]


def layer_norm(tower: TowerConfig, dtype: Any, name: str) -> nn.LayerNorm:
    """Return a layer norm with the variance in two passes: E[x²] − E[x]² loses digits.

    Args:
      tower: Whose epsilon is added to the variance.
      dtype: Type of what it returns.
      name: Its name among the weights.

    Returns:
      The module.
    """
    return nn.LayerNorm(
        epsilon=tower.epsilon, use_fast_variance=False, dtype=dtype, name=name
    )


class Mlp(nn.Module):
    """Two dense layers with the tower's activation between them."""

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "... w"]) -> Float[Array, "... w"]:
        """Apply both layers to each place."""
        hidden = nn.Dense(self.tower.hidden_width, dtype=self.dtype, name="expand")(x)
        hidden = ACTIVATIONS[self.tower.activation](hidden)
        return nn.Dense(self.tower.width, dtype=self.dtype, name="project")(hidden)


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
    on a CPU, where it has no fused kernel either.

    Args:
      query: What asks.
      keys: What is asked.
      values: What is mixed.
      mask: Which keys a query sees; None is all.
      num_heads: Number of heads; divides the width.
      bias: Added to the logits.

    Returns:
      Mixed values of all heads, side by side.
    """

    def split(x: Float[Array, "b t w"]) -> Float[Array, "b h t v"]:
        batch, length, width = x.shape
        return x.reshape(batch, length, num_heads, width // num_heads).swapaxes(1, 2)

    batch, length, width = query.shape
    query = split(query * (width // num_heads) ** -0.5)
    logits = jnp.einsum(
        "bhqv,bhtv->bhqt", query, split(keys), preferred_element_type=jnp.float32
    )
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
    attended = jnp.einsum("bhqt,bhtv->bhqv", weights, split(values))
    return attended.swapaxes(1, 2).reshape(batch, length, width)
