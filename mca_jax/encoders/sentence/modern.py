"""ModernBERT: what config.json says, its tower in Flax, and its weights.

Warner et al., "Smarter, Better, Faster, Longer" (2024): norms come before each part,
positions turn queries and keys, and most layers see only near tokens.
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
    layer_norm,
    parse_tower,
    parse_whole,
    rotate_heads,
    text_turns,
)
from mca_jax.encoders.sentence.tower import find_tokens, pool_tokens

__all__ = ["ModernConfig", "ModernTower", "convert_modern", "parse_modern_config"]

_DEFAULTS = {
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "intermediate_size": 1152,
    "local_attention": 128,
    "local_rope_theta": 10_000.0,
    "max_position_embeddings": 8192,
    "norm_eps": 1e-5,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "vocab_size": 50368,
}
_INIT = nn.initializers.normal(0.02)


class ModernConfig(NamedTuple):
    """Everything that the tower's shape and pooling depend on.

    Attributes:
      family: ``"modernbert"``.
      tower: The transformer.
      vocab_size: Number of token ids.
      pad_id: Fills rows up; no token of the vocabulary.
      text_length: Longest text in tokens.
      pooling: ``"mean"``, ``"cls"`` or ``"last"``.
      far: For each layer whether it sees tokens at any distance.
      reach: Tokens to either side that the others see.
      thetas: Base of the turns in the former and in the latter.
    """

    family: str
    tower: TowerConfig
    vocab_size: int
    pad_id: int
    text_length: int
    pooling: str
    far: tuple[bool, ...]
    reach: int
    thetas: tuple[float, float]


def parse_modern_config(
    raw: Mapping[str, Any],
    *,
    source: str,
    pooling: str = "mean",
    most_tokens: int | None = None,
) -> ModernConfig:
    """Read the parsed config.json, in the form of before or since transformers 5.

    Raises:
      InputError: A value is impossible.
    """
    values = {**_DEFAULTS, **{k: v for k, v in raw.items() if v is not None}}
    tower = parse_tower(
        {
            **values,
            "hidden_act": values["hidden_activation"],
            "layer_norm_eps": values["norm_eps"],
        },
        source,
    )
    every = parse_whole(values, "global_attn_every_n_layers", source)
    kinds = values.get("layer_types") or [
        "sliding_attention" if layer % every else "full_attention"
        for layer in range(tower.num_layers)
    ]
    if len(kinds) != tower.num_layers:
        raise InputError(
            f"Expected {tower.num_layers} layer_types in {source}, found {len(kinds)}"
        )
    room = parse_whole(values, "max_position_embeddings", source)
    return ModernConfig(
        family="modernbert",
        tower=tower,
        vocab_size=parse_whole(values, "vocab_size", source),
        pad_id=-1,
        text_length=min(room, most_tokens or room),
        pooling=pooling,
        far=tuple(kind == "full_attention" for kind in kinds),
        reach=parse_whole(values, "local_attention", source) // 2,
        thetas=(
            _theta(values, "full_attention", "global_rope_theta", source),
            _theta(values, "sliding_attention", "local_rope_theta", source),
        ),
    )


def _theta(values: Mapping[str, Any], kind: str, name: str, source: str) -> float:
    """Return the base of the turns in one kind of layer."""
    given = (values.get("rope_parameters") or {}).get(kind) or {}
    if given.get("rope_type", "default") != "default":
        raise InputError(
            f"Expected rope_type default in {source}, found {given['rope_type']!r}"
        )
    return float(given.get("rope_theta", values[name]))


class _Block(nn.Module):
    """Pre-norm attention and gated MLP, each added to the residual stream."""

    tower: TowerConfig
    dtype: Any
    has_norm: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], is_far: Bool[Array, ""], shared: Any
    ) -> tuple[Float[Array, "b t w"], None]:
        tower, dtype = self.tower, self.dtype
        (far_turns, near_turns), (far_mask, near_mask) = shared
        cosines, sines = (
            jnp.where(is_far, far, near)
            for far, near in zip(far_turns, near_turns, strict=True)
        )
        normed = layer_norm(tower, dtype, "attention_norm")(x) if self.has_norm else x
        mixed = nn.Dense(3 * tower.width, dtype=dtype, name="qkv")(normed)
        query, key, value = jnp.split(mixed, 3, axis=-1)
        query, key = (
            rotate_heads(e, (cosines, sines), tower.num_heads) for e in (query, key)
        )
        mask = jnp.where(is_far, far_mask, near_mask)
        attended = attend(query, key, value, mask, tower.num_heads)
        x = x + nn.Dense(tower.width, dtype=dtype, name="out")(attended)
        normed = layer_norm(tower, dtype, "mlp_norm")(x)
        hidden = nn.Dense(2 * tower.hidden_width, dtype=dtype, name="expand")(normed)
        hidden, gate = jnp.split(hidden, 2, axis=-1)
        hidden = ACTIVATIONS[tower.activation](hidden) * gate
        return x + nn.Dense(tower.width, dtype=dtype, name="project")(hidden), None


class ModernTower(nn.Module):
    """Token ids to the embedding of a text, not yet of unit norm."""

    config: ModernConfig
    dtype: Any

    @nn.compact
    def __call__(self, ids: Int[Array, "b t"]) -> Float[Array, "b w"]:
        """Embed a batch of texts."""
        config, dtype = self.config, self.dtype
        tower = config.tower
        tokens = self.param("tokens", _INIT, (config.vocab_size, tower.width))
        x = jnp.take(tokens, jnp.maximum(ids, 0), axis=0).astype(dtype)
        x = layer_norm(tower, dtype, "embedding_norm")(x)
        keep, length = find_tokens(ids, config.pad_id), ids.shape[1]
        places = np.arange(length)
        near = np.abs(places[:, None] - places[None]) <= config.reach
        far_mask = jnp.broadcast_to(
            keep[:, None, None], (ids.shape[0], 1, length, length)
        )
        head_width = tower.width // tower.num_heads
        turns = tuple(
            text_turns(length, head_width=head_width, theta=theta)
            for theta in config.thetas
        )
        shared = turns, (far_mask, far_mask & near[None, None])
        far = jnp.asarray(config.far)
        x, _ = _Block(tower, dtype, has_norm=False, name="first")(x, far[0], shared)
        if tower.num_layers > 1:
            # Typed as numbers, which say that arguments have an axis to scan over.
            axes: Any = (0, nn.broadcast)
            blocks = nn.scan(
                _Block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=axes,
                length=tower.num_layers - 1,
            )(tower, dtype, name="blocks")
            x, _ = blocks(x, far[1:], shared)
        x = layer_norm(tower, dtype, "post_norm")(x)
        return pool_tokens(x, keep, config.pooling)


def convert_modern(
    tensors: Mapping[str, np.ndarray], config: ModernConfig, *, dtype: str, source: str
) -> dict[str, Any]:
    """Return the variables of ``ModernTower``.

    Raises:
      InputError: Tensors are missing, too many, or of another shape.
    """
    own = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if not name.startswith(("head.", "decoder.", "classifier."))
    }
    expected = _expected(config)
    add_zero_biases(own, expected)
    check_tensors(own, expected, source=source)
    named = Tensors(own, dtype)

    def block(layer: int) -> dict[str, Any]:
        name = f"layers.{layer}"
        norm = {"attention_norm": named.norm(f"{name}.attn_norm")} if layer else {}
        return norm | {
            "qkv": named.dense(f"{name}.attn.Wqkv"),
            "out": named.dense(f"{name}.attn.Wo"),
            "mlp_norm": named.norm(f"{name}.mlp_norm"),
            "expand": named.dense(f"{name}.mlp.Wi"),
            "project": named.dense(f"{name}.mlp.Wo"),
        }

    weights = {
        "tokens": named.array("embeddings.tok_embeddings.weight"),
        "embedding_norm": named.norm("embeddings.norm"),
        "first": block(0),
        "post_norm": named.norm("final_norm"),
    }
    rest = config.tower.num_layers - 1
    if rest:
        weights["blocks"] = stack_layers(lambda layer: block(layer + 1), rest)
    return {"params": weights}


def _expected(config: ModernConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that is read."""
    width, hidden = config.tower.width, config.tower.hidden_width
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.tok_embeddings.weight": (config.vocab_size, width)
    }
    norms = ["embeddings.norm", "final_norm"]
    for layer in range(config.tower.num_layers):
        name = f"layers.{layer}"
        norms += [f"{name}.mlp_norm", *([f"{name}.attn_norm"] if layer else [])]
        for part, outputs, inputs in (
            ("attn.Wqkv", 3 * width, width),
            ("attn.Wo", width, width),
            ("mlp.Wi", 2 * hidden, width),
            ("mlp.Wo", width, hidden),
        ):
            shapes[f"{name}.{part}.weight"] = (outputs, inputs)
            shapes[f"{name}.{part}.bias"] = (outputs,)
    for norm in norms:
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return shapes
