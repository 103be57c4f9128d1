"""The tower of a sentence encoder as a Flax module: BERT, RoBERTa, MPNet.

The transformer is that of Devlin et al., "BERT" (NAACL 2019), whose norms come
behind each part; RoBERTa's differs in how places are counted, and MPNet's (Song et
al., NeurIPS 2020) adds a learnt bias for how far apart two places are.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mca_jax.encoders.clip.config import TowerConfig
from mca_jax.encoders.huggingface.transformer import Mlp, attend, layer_norm
from mca_jax.encoders.sentence.config import SentenceConfig

__all__ = ["SentenceTower", "relative_buckets"]

_INIT = nn.initializers.normal(0.02)
# Distances from which all are one, as MPNet was trained.
_FARTHEST = 128


def relative_buckets(length: int, num_buckets: int) -> Int[np.ndarray, "t t"]:
    """Return the bucket of each pair of places.

    Near distances have a bucket of their own, far ones share by their logarithm;
    half the buckets are for keys behind the query.

    Args:
      length: Number of places.
      num_buckets: Even number of buckets.

    Returns:
      Bucket of key (column) seen from query (row).
    """
    places = np.arange(length)
    behind = places[None, :] - places[:, None]
    half = num_buckets // 2
    exact = half // 2
    distance = np.abs(behind)
    far = np.log(np.maximum(distance, 1).astype(np.float32) / exact)
    far = far / np.float32(math.log(_FARTHEST / exact)) * (half - exact)
    shared = np.minimum(exact + far.astype(np.int64), half - 1)
    return np.where(distance < exact, distance, shared) + half * (behind > 0)


class _Block(nn.Module):
    """Attention and MLP, each added to what went in and normed."""

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t w"],
        mask: Bool[Array, "b 1 1 t"],
        bias: Float[Array, "1 h t t"] | None,
    ) -> tuple[Float[Array, "b t w"], None]:
        width, heads = self.tower.width, self.tower.num_heads
        mixed = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(x)
        query, key, value = jnp.split(mixed, 3, axis=-1)
        attended = attend(query, key, value, mask, heads, bias)
        out = nn.Dense(width, dtype=self.dtype, name="out")(attended)
        x = layer_norm(self.tower, self.dtype, "attention_norm")(x + out)
        out = Mlp(self.tower, self.dtype, name="mlp")(x)
        return layer_norm(self.tower, self.dtype, "mlp_norm")(x + out), None


class SentenceTower(nn.Module):
    """Token ids to the embedding of a text, not yet of unit norm.

    A text ends at its last token that is no padding; what comes behind changes
    nothing.
    """

    config: SentenceConfig
    dtype: Any

    @nn.compact
    def __call__(self, ids: Int[Array, "b t"]) -> Float[Array, "b w"]:
        """Embed a batch of texts."""
        config, dtype = self.config, self.dtype
        tower = config.tower
        is_token = ids != config.pad_id
        tokens = self.param("tokens", _INIT, (config.vocab_size, tower.width))
        # The one token type in use is part of the table of positions.
        positions = self.param("positions", _INIT, (config.num_positions, tower.width))
        if config.family == "bert":
            places = jnp.arange(ids.shape[1])[None]
        else:
            places = jnp.cumsum(is_token, axis=1) * is_token + config.pad_id
        x = jnp.take(tokens, ids, axis=0) + jnp.take(positions, places, axis=0)
        x = layer_norm(tower, dtype, "embedding_norm")(x.astype(dtype))
        length = ids.shape[1]
        last = length - 1 - jnp.argmax(is_token[:, ::-1], axis=1)
        keep = jnp.arange(length)[None] <= last[:, None]
        bias = None
        if config.num_buckets:
            shape = (config.num_buckets, tower.num_heads)
            learnt = self.param("distances", _INIT, shape).astype(jnp.float32)
            buckets = relative_buckets(length, config.num_buckets)
            bias = learnt[buckets].transpose(2, 0, 1)[None]
        # Typed as a number, which says that arguments have an axis to scan over.
        no_axes: Any = (nn.broadcast, nn.broadcast)
        blocks = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=no_axes,
            length=tower.num_layers,
        )(tower, dtype, name="blocks")
        x, _ = blocks(x, keep[:, None, None], bias)
        if config.pooling == "cls":
            return x[:, 0]
        weights = keep[..., None].astype(jnp.float32)
        total = jnp.sum(x.astype(jnp.float32) * weights, axis=1)
        return total / jnp.sum(weights, axis=1)
