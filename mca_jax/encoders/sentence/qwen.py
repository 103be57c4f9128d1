"""Qwen3 as an encoder of texts: config.json, its tower in Flax, and its weights.

A language model whose last token stands for a text: Zhang et al., "Qwen3 Embedding"
(2025). Tokens see what comes before them, several queries share a key, and norms have
no mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.tensors import (
    Tensors,
    add_zero_biases,
    check_tensors,
    stack_layers,
)
from mca_jax.encoders.huggingface.transformer import (
    ACTIVATIONS,
    TowerConfig,
    attend,
    parse_tower,
    parse_whole,
    rotate_heads,
    text_turns,
)
from mca_jax.encoders.sentence.tower import find_tokens, pool_tokens

__all__ = ["QwenConfig", "QwenTower", "convert_qwen", "parse_qwen_config"]

_DEFAULTS = {
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "vocab_size": 151936,
}
_INIT = nn.initializers.normal(0.02)


class QwenConfig(NamedTuple):
    """Everything that the tower's shape and pooling depend on.

    Attributes:
      family: ``"qwen3"``.
      tower: The transformer, whose heads may be wider than its width has room for.
      vocab_size: Number of token ids.
      pad_id: Fills rows up; no token of the vocabulary.
      text_length: Longest text in tokens.
      pooling: ``"mean"``, ``"cls"`` or ``"last"``.
      head_width: Width of a head.
      num_key_heads: Heads of keys and values.
      theta: Base of the turns.
    """

    family: str
    tower: TowerConfig
    vocab_size: int
    pad_id: int
    text_length: int
    pooling: str
    head_width: int
    num_key_heads: int
    theta: float


def parse_qwen_config(
    raw: Mapping[str, Any],
    *,
    source: str,
    pooling: str = "last",
    most_tokens: int | None = None,
) -> QwenConfig:
    """Read the parsed config.json.

    Raises:
      InputError: A value is impossible, or asks for what is not supported.
    """
    values = {**_DEFAULTS, **{k: v for k, v in raw.items() if v is not None}}
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or values.get("use_sliding_window"):
        raise InputError(
            f"Expected plain positions in {source}, found rope_type {kind!r} and "
            f"use_sliding_window {bool(values.get('use_sliding_window'))}; take "
            "Qwen/Qwen3-Embedding-0.6B"
        )
    heads = parse_whole(values, "num_attention_heads", source)
    keys = parse_whole(values, "num_key_value_heads", source)
    tower = parse_tower({**values, "layer_norm_eps": values["rms_norm_eps"]}, source)
    head_width = parse_whole(values, "head_dim", source)
    if heads % keys or head_width % 2:
        raise InputError(
            f"Expected num_attention_heads of {source} to be a multiple of "
            f"num_key_value_heads, and an even head_dim, found {heads}, {keys} and "
            f"{head_width}"
        )
    room = parse_whole(values, "max_position_embeddings", source)
    return QwenConfig(
        family="qwen3",
        tower=tower,
        vocab_size=parse_whole(values, "vocab_size", source),
        pad_id=-1,
        text_length=min(room, most_tokens or room),
        pooling=pooling,
        head_width=head_width,
        num_key_heads=keys,
        theta=float(rope.get("rope_theta", values["rope_theta"])),
    )


def _norm(config: QwenConfig, dtype: Any, name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=config.tower.epsilon, dtype=dtype, name=name)


class _Block(nn.Module):
    """Pre-norm attention and gated MLP, each added to the residual stream."""

    config: QwenConfig
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], turns: Any, mask: Bool[Array, "b 1 t t"]
    ) -> tuple[Float[Array, "b t w"], None]:
        config, dtype = self.config, self.dtype
        tower, keys, head = config.tower, config.num_key_heads, config.head_width
        normed = _norm(config, dtype, "attention_norm")(x)
        sizes = tower.num_heads * head, keys * head
        mixed = nn.Dense(sizes[0] + 2 * sizes[1], dtype=dtype, name="qkv")(normed)
        query, key, value = jnp.split(mixed, (sizes[0], sum(sizes)), axis=-1)
        batch, length, _ = x.shape
        query = query.reshape(batch, length, tower.num_heads, head)
        key = key.reshape(batch, length, keys, head)
        query = _norm(config, dtype, "query_norm")(query)
        key = _norm(config, dtype, "key_norm")(key)
        query = rotate_heads(query.reshape(batch, length, -1), turns, tower.num_heads)
        key = rotate_heads(key.reshape(batch, length, -1), turns, keys)
        shared = tower.num_heads // keys
        key, value = (
            jnp.repeat(each.reshape(batch, length, keys, head), shared, axis=2)
            for each in (key, value)
        )
        attended = attend(
            query,
            key.reshape(batch, length, -1),
            value.reshape(batch, length, -1),
            mask,
            tower.num_heads,
        )
        x = x + nn.Dense(tower.width, dtype=dtype, name="out")(attended)
        normed = _norm(config, dtype, "mlp_norm")(x)
        hidden = nn.Dense(2 * tower.hidden_width, dtype=dtype, name="expand")(normed)
        gate, hidden = jnp.split(hidden, 2, axis=-1)
        hidden = ACTIVATIONS[tower.activation](gate) * hidden
        return x + nn.Dense(tower.width, dtype=dtype, name="project")(hidden), None


class QwenTower(nn.Module):
    """Token ids to the embedding of a text, not yet of unit norm."""

    config: QwenConfig
    dtype: Any

    @nn.compact
    def __call__(self, ids: Int[Array, "b t"]) -> Float[Array, "b w"]:
        """Embed a batch of texts."""
        config, dtype = self.config, self.dtype
        tower = config.tower
        tokens = self.param("tokens", _INIT, (config.vocab_size, tower.width))
        x = jnp.take(tokens, jnp.maximum(ids, 0), axis=0).astype(dtype)
        keep, length = find_tokens(ids, config.pad_id), ids.shape[1]
        mask = keep[:, None, None] & jnp.tri(length, dtype=bool)[None, None]
        turns = text_turns(length, head_width=config.head_width, theta=config.theta)
        # Typed as a number, which says that arguments have an axis to scan over.
        no_axes: Any = (nn.broadcast, nn.broadcast)
        blocks = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=no_axes,
            length=tower.num_layers,
        )(config, dtype, name="blocks")
        x, _ = blocks(x, turns, mask)
        x = _norm(config, dtype, "post_norm")(x)
        return pool_tokens(x, keep, config.pooling)


def convert_qwen(
    tensors: Mapping[str, np.ndarray], config: QwenConfig, *, dtype: str, source: str
) -> dict[str, Any]:
    """Return the variables of ``QwenTower``.

    Raises:
      InputError: Tensors are missing, too many, or of another shape.
    """
    own = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if not name.startswith("lm_head.")
    }
    expected = _expected(config)
    add_zero_biases(own, expected)
    check_tensors(own, expected, source=source, ignored=("inv_freq",))
    named = Tensors(own, dtype)

    def scale(name: str) -> dict[str, np.ndarray]:
        return {"scale": named.array(f"{name}.weight")}

    def block(layer: int) -> dict[str, Any]:
        name, attention = f"layers.{layer}", f"layers.{layer}.self_attn"
        return {
            "attention_norm": scale(f"{name}.input_layernorm"),
            "qkv": named.dense(*(f"{attention}.{part}_proj" for part in "qkv")),
            "query_norm": scale(f"{attention}.q_norm"),
            "key_norm": scale(f"{attention}.k_norm"),
            "out": named.dense(f"{attention}.o_proj"),
            "mlp_norm": scale(f"{name}.post_attention_layernorm"),
            "expand": named.dense(f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj"),
            "project": named.dense(f"{name}.mlp.down_proj"),
        }

    weights = {
        "tokens": named.array("embed_tokens.weight"),
        "blocks": stack_layers(block, config.tower.num_layers),
        "post_norm": scale("norm"),
    }
    return {"params": weights}


def _expected(config: QwenConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that is read."""
    width, hidden = config.tower.width, config.tower.hidden_width
    queries = config.tower.num_heads * config.head_width
    keys = config.num_key_heads * config.head_width
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (config.vocab_size, width),
        "norm.weight": (width,),
    }
    for layer in range(config.tower.num_layers):
        name = f"layers.{layer}"
        for part, outputs, inputs in (
            ("self_attn.q_proj", queries, width),
            ("self_attn.k_proj", keys, width),
            ("self_attn.v_proj", keys, width),
            ("self_attn.o_proj", width, queries),
            ("mlp.gate_proj", hidden, width),
            ("mlp.up_proj", hidden, width),
            ("mlp.down_proj", width, hidden),
        ):
            shapes[f"{name}.{part}.weight"] = (outputs, inputs)
            shapes[f"{name}.{part}.bias"] = (outputs,)
        for part in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{name}.{part}.weight"] = (width,)
        for part in ("q_norm", "k_norm"):
            shapes[f"{name}.self_attn.{part}.weight"] = (config.head_width,)
    return shapes
