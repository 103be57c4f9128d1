"""BERT, RoBERTa and MPNet types: what their files say, and their tower in Flax.

The transformer is that of Devlin et al., "BERT" (NAACL 2019), whose norms come
behind each part; RoBERTa's differs in how positions are counted, and MPNet's (Song et
al., NeurIPS 2020) adds a learnt bias for how far apart two tokens are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.transformer import (
    Mlp,
    TowerConfig,
    attend,
    layer_norm,
    parse_tower,
    parse_whole,
)

__all__ = [
    "SentenceConfig",
    "SentenceTower",
    "find_tokens",
    "parse_sentence_config",
    "pool_tokens",
    "relative_buckets",
]

# Model type in config.json -> how the model is built.
_FAMILIES = {
    "bert": "bert",
    "camembert": "roberta",
    "distilbert": "bert",
    "mpnet": "mpnet",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}
_KNOWN = ", ".join(sorted((*_FAMILIES, "modernbert", "qwen3")))
_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "relative_attention_num_buckets": 32,
    "type_vocab_size": 2,
}
# What DistilBERT calls its settings.
_DISTILLED = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "activation": "hidden_act",
}
_VOCAB_SIZES = {"bert": 30522, "mpnet": 30527, "roberta": 50265}
_PAD_IDS = {"bert": 0, "mpnet": 1, "roberta": 1}
_INIT = nn.initializers.normal(0.02)
# Distances from which all are one, as MPNet was trained.
_FARTHEST = 128


class SentenceConfig(NamedTuple):
    """Everything that the tower's shape and pooling depend on.

    Attributes:
      family: ``"bert"``, ``"roberta"``, which counts positions from behind the padding
        id, or ``"mpnet"``, which also has relative positions.
      tower: The transformer.
      vocab_size: Number of token ids.
      num_positions: Rows of the table of positions.
      num_types: Rows of the table of token types; 0 for MPNet and DistilBERT.
      num_buckets: Relative positions that differ; 0 for the others.
      pad_id: Padding token.
      text_length: Longest text in tokens.
      pooling: ``"mean"`` of all tokens, ``"cls"``, the first, or ``"last"``.
    """

    family: str
    tower: TowerConfig
    vocab_size: int
    num_positions: int
    num_types: int
    num_buckets: int
    pad_id: int
    text_length: int
    pooling: str


def parse_sentence_config(
    raw: Any, *, source: str, pooling: str = "mean", most_tokens: int | None = None
) -> SentenceConfig:
    """Read the parsed config.json of a checkpoint, whose path is for messages.

    Absent keys have the defaults of the reference. ``most_tokens`` is the longest text,
    where other files say less than the table of positions has room for.

    Raises:
      InputError: The model is of another type, or a value is impossible.
    """
    kind = raw.get("model_type") if isinstance(raw, Mapping) else None
    if kind not in _FAMILIES:
        raise InputError(
            f"Expected {source} to have model_type {_KNOWN}, "
            f"found {kind!r}; take a sentence encoder of one of these types: the "
            f"nearest is {_nearest(str(kind))}"
        )
    family = _FAMILIES[kind]
    values = {**_DEFAULTS, "vocab_size": _VOCAB_SIZES[family]}
    is_distilled = kind == "distilbert"
    if is_distilled:
        values["num_hidden_layers"] = 6
    names = _DISTILLED if is_distilled else {}
    given = {str(key): value for key, value in raw.items() if value is not None}
    values |= {names.get(key, key): value for key, value in given.items()}
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(
            f"Expected position_embedding_type absolute in {source}, found "
            f"{values['position_embedding_type']!r}"
        )
    pad_id = values.get("pad_token_id", _PAD_IDS[family])
    if not isinstance(pad_id, int) or pad_id < 0:
        raise InputError(
            f"Expected pad_token_id of {source} as a token, found {pad_id!r}"
        )
    # The reference's MPNet has 1 written into its code.
    pad_id = 1 if family == "mpnet" else pad_id
    num_positions = parse_whole(values, "max_position_embeddings", source)
    room = num_positions - (0 if family == "bert" else pad_id + 1)
    if room < 3:
        raise InputError(
            f"Expected max_position_embeddings of {source} with room for three "
            f"tokens, found {num_positions}"
        )
    is_mpnet, has_no_types = family == "mpnet", is_distilled or family == "mpnet"
    buckets = parse_whole(values, "relative_attention_num_buckets", source)
    return SentenceConfig(
        family=family,
        tower=parse_tower(values, source),
        vocab_size=parse_whole(values, "vocab_size", source),
        num_positions=num_positions,
        num_types=0 if has_no_types else parse_whole(values, "type_vocab_size", source),
        num_buckets=buckets if is_mpnet else 0,
        pad_id=pad_id,
        text_length=min(room, most_tokens or room),
        pooling=pooling,
    )


def _nearest(kind: str) -> str:
    """Return the nearest checkpoint to a type that is not supported."""
    decoders = ("gemma", "llama", "mistral", "phi", "qwen")
    if kind.startswith(decoders):
        return "Qwen/Qwen3-Embedding-0.6B"
    return "sentence-transformers/all-mpnet-base-v2"


def relative_buckets(length: int, num_buckets: int) -> Int[np.ndarray, "t t"]:
    """Return the bucket of key (column) seen from query (row), of an even number.

    Near distances have a bucket of their own, far ones share by their logarithm;
    half the buckets are for keys behind the query.
    """
    indices = np.arange(length)
    behind = indices[None, :] - indices[:, None]
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
            index = jnp.arange(ids.shape[1])[None]
        else:
            index = jnp.cumsum(is_token, axis=1) * is_token + config.pad_id
        x = jnp.take(tokens, ids, axis=0) + jnp.take(positions, index, axis=0)
        x = layer_norm(tower, dtype, "embedding_norm")(x.astype(dtype))
        keep, length = find_tokens(ids, config.pad_id), ids.shape[1]
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
        return pool_tokens(x, keep, config.pooling)


def find_tokens(ids: Int[Array, "b t"], pad_id: int) -> Bool[Array, "b t"]:
    """Return which tokens belong to a text: all to its last that is no padding."""
    length = ids.shape[1]
    last = length - 1 - jnp.argmax((ids != pad_id)[:, ::-1], axis=1)
    return jnp.arange(length)[None] <= last[:, None]


def pool_tokens(
    x: Float[Array, "b t w"], keep: Bool[Array, "b t"], pooling: str
) -> Float[Array, "b w"]:
    """Make one vector of a text's tokens: their mean, the first or the last."""
    if pooling == "cls":
        return x[:, 0]
    if pooling == "last":
        return x[jnp.arange(x.shape[0]), jnp.sum(keep, axis=1) - 1]
    weights = keep[..., None].astype(jnp.float32)
    total = jnp.sum(x.astype(jnp.float32) * weights, axis=1)
    return total / jnp.sum(weights, axis=1)
