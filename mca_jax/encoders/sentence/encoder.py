"""Sentence encoders from a Hugging Face checkpoint: BERT's kin, and Qwen3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.numerics import l2_normalize
from mca_jax.encoders.encoder import TextEncoder
from mca_jax.encoders.huggingface.checkpoint_files import (
    find_checkpoint,
    find_weights,
    hash_files,
    read_json,
    read_licence,
    read_weights,
)
from mca_jax.encoders.huggingface.tensors import Tensors, check_tensors, stack_layers
from mca_jax.encoders.huggingface.tokenizers import (
    lowercase_first,
    read_bert_tokenizer,
    read_tokenizer,
)
from mca_jax.encoders.prompts import PHOTO, build_prompts, check_templates
from mca_jax.encoders.sentence.modern import (
    ModernConfig,
    ModernTower,
    convert_modern,
    parse_modern_config,
)
from mca_jax.encoders.sentence.qwen import (
    QwenConfig,
    QwenTower,
    convert_qwen,
    parse_qwen_config,
)
from mca_jax.encoders.sentence.stored_settings import read_stored_settings
from mca_jax.encoders.sentence.tower import (
    SentenceConfig,
    SentenceTower,
    parse_sentence_config,
)

__all__ = ["build_sentence_encoder", "convert_sentence_tensors"]

# Part of each fingerprint: to be changed when the same files give new embeddings.
_VERSION = "sentence-1"
# Widths of token rows are multiples of this, to compile for few.
_STEP = 8
# What a whole model may carry its encoder under, and what else may be there.
_PREFIXES = ("", "bert.", "distilbert.", "roberta.", "mpnet.")
_HEADS = ("cls.", "lm_head.", "pooler.", "classifier.", "pre_classifier.", "vocab_")
# Parts of DistilBERT's names -> of BERT's.
_DISTILLED = (
    ("transformer.layer.", "encoder.layer."),
    (".attention.q_lin.", ".attention.self.query."),
    (".attention.k_lin.", ".attention.self.key."),
    (".attention.v_lin.", ".attention.self.value."),
    (".attention.out_lin.", ".attention.output.dense."),
    (".sa_layer_norm.", ".attention.output.LayerNorm."),
    (".ffn.lin1.", ".intermediate.dense."),
    (".ffn.lin2.", ".output.dense."),
    (".output_layer_norm.", ".output.LayerNorm."),
)
_BUFFERS = (".position_ids", ".token_type_ids")
# Names of a layer's parts, for all but MPNet and for MPNet.
_SELF = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
_MPNET_SELF = ("attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm")


def build_sentence_encoder(
    checkpoint: str,
    *,
    dtype: str = "float32",
    prompts: Sequence[str] = PHOTO,
    with_stored_prompt: bool = True,
    glosses: Mapping[str, str] | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> TextEncoder:
    """Load a sentence encoder: BERT, RoBERTa, MPNet, ModernBERT or Qwen3 types.

    Pooling, longest text, lower case and prompt are what sentence-transformers' files
    say, see ``read_stored_settings``; without them pooling is the mean over tokens.
    In float32 the embeddings are those of the reference's PyTorch model to 1e-5.

    Args:
      checkpoint: An id on the hub, such as
        ``"sentence-transformers/all-MiniLM-L6-v2"``, or a local folder.
      dtype: ``"float32"`` or ``"bfloat16"``, the type of weights and activations.
      prompts: Templates with one ``{}`` for the noun.
      with_stored_prompt: Whether the prompt that is stored with the model, such as
        ``"query: "``, goes before each of them.
      glosses: Synset id -> gloss that goes behind the noun's prompt.
      revision: Branch, tag or commit on the hub.
      cache_dir: Where the hub's files are cached; None is its usual place.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: The checkpoint can't be had, is of another type, is damaged or
        incomplete, or a setting is invalid; one line says which.

    Example:
      >>> build_sentence_encoder(
      ...     "sentence-transformers/all-MiniLM-L6-v2").width  # doctest: +SKIP
      384
    """
    check_one_of("dtype", dtype, ("float32", "bfloat16"))
    templates = check_templates(prompts)
    folder = find_checkpoint(checkpoint, revision=revision, cache_dir=cache_dir)
    stored = read_stored_settings(folder)
    if with_stored_prompt:
        templates = tuple(stored.prompt + template for template in templates)
    path = folder / "config.json"
    raw = read_json(path)
    kind = raw.get("model_type") if isinstance(raw, Mapping) else None
    model = _MODELS.get(str(kind), _BERT)
    config = model.parse(
        raw,
        source=str(path),
        pooling=stored.pooling,
        most_tokens=stored.most_tokens,
    )
    split = _load_tokenizer(folder, config, stored.lowercase)
    files = find_weights(folder, source=checkpoint)
    params = model.convert(
        read_weights(files), config, dtype=dtype, source=str(files[0])
    )
    tower = model.tower(config, jnp.dtype(dtype))
    glossed = sorted((glosses or {}).items())
    # Only where it holds: fingerprints of before stay what they were.
    lowercase = ("lowercase",) if stored.lowercase else ()

    def tokenize(names: Sequence[str], synset_ids: Sequence[str]) -> np.ndarray:
        """Return token ids ``[m, prompts, t]``."""
        texts = build_prompts(names, synset_ids, templates=templates, glosses=glosses)
        tokens = split([text for prompts in texts for text in prompts])
        if tokens.size and tokens.max() >= config.vocab_size:
            raise InputError(
                f"The tokenizer of {checkpoint} gives id {tokens.max()}, but "
                f"config.json has vocab_size {config.vocab_size}; they belong to "
                "different models"
            )
        return tokens.reshape(len(texts), len(templates), -1)

    return TextEncoder(
        name=checkpoint,
        fingerprint=hash_files(
            (_VERSION, config, dtype, templates, glossed, *lowercase),
            [*files, *_find_tables(folder)],
        ),
        licence=read_licence(folder),
        width=config.tower.width,
        params=params,
        tokenize=tokenize,
        encode_texts=_build_encode_texts(tower, dtype),
        count_tokens=_build_count_tokens(config.pad_id),
    )


def _load_tokenizer(
    folder: Path, config: SentenceConfig | ModernConfig | QwenConfig, lowercase: bool
) -> Callable[[Sequence[str]], np.ndarray]:
    """Return the function from texts to token rows, with what goes around them."""
    if config.family == "bert":
        library = read_bert_tokenizer(folder)
    elif (folder / "tokenizer.json").is_file():
        library = read_tokenizer(folder / "tokenizer.json")
    else:
        raise InputError(
            f"No tokenizer.json in {folder}; download the checkpoint again, or save "
            "its tokenizer with transformers' save_pretrained"
        )
    library.enable_truncation(config.text_length)
    if lowercase:
        lowercase_first(library)

    def split(texts: Sequence[str]) -> np.ndarray:
        rows = [each.ids for each in library.encode_batch(list(texts))]
        longest = -(-max(map(len, rows), default=1) // _STEP) * _STEP
        width = max(min(longest, config.text_length), 1)
        tokens = np.full((len(rows), width), config.pad_id, np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return tokens

    return split


def _find_tables(folder: Path) -> list[Path]:
    """Return the file that token ids come from."""
    path = folder / "tokenizer.json"
    return [path if path.is_file() else folder / "vocab.txt"]


def _build_count_tokens(pad_id: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that finds the last token that is no padding."""

    def count_tokens(tokens: Int[np.ndarray, "m p t"]) -> Int[np.ndarray, " m"]:
        used = (tokens != pad_id).any(axis=1)
        return tokens.shape[2] - np.argmax(used[:, ::-1], axis=1)

    return count_tokens


def _build_encode_texts(
    tower: nn.Module, dtype: str
) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the pure function from weights and token ids to unit vectors."""
    precision = "highest" if dtype == "float32" else None

    def encode_texts(params: Any, tokens: Int[Array, "m p t"]) -> Float[Array, "m s"]:
        nouns, prompts, length = tokens.shape
        with jax.default_matmul_precision(precision):
            x = tower.apply(params, tokens.reshape(nouns * prompts, length))
            x = jnp.asarray(x, jnp.float32)
        each = l2_normalize(x)
        return l2_normalize(jnp.mean(each.reshape(nouns, prompts, -1), axis=1))

    return encode_texts


def _layer_names(config: SentenceConfig, layer: int) -> dict[str, str]:
    """Names of a layer's parts in the reference's checkpoints."""
    parts = _MPNET_SELF if config.family == "mpnet" else _SELF
    name = f"encoder.layer.{layer}"
    own = [f"{name}.attention.{part}" for part in parts]
    keys = ("query", "key", "value", "out", "attention_norm")
    return dict(zip(keys, own, strict=True)) | {
        "expand": f"{name}.intermediate.dense",
        "project": f"{name}.output.dense",
        "mlp_norm": f"{name}.output.LayerNorm",
    }


def _expected_tensors(config: SentenceConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that is read."""
    width, hidden = config.tower.width, config.tower.hidden_width
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, width),
        "embeddings.position_embeddings.weight": (config.num_positions, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    if config.num_types:
        shapes["embeddings.token_type_embeddings.weight"] = (config.num_types, width)
    if config.num_buckets:
        heads = config.tower.num_heads
        shapes["encoder.relative_attention_bias.weight"] = (config.num_buckets, heads)
    for layer in range(config.tower.num_layers):
        for key, name in _layer_names(config, layer).items():
            inputs = hidden if key == "project" else width
            outputs = hidden if key == "expand" else width
            is_norm = key.endswith("norm")
            shapes[f"{name}.weight"] = (width,) if is_norm else (outputs, inputs)
            shapes[f"{name}.bias"] = (outputs,)
    return shapes


def convert_sentence_tensors(
    tensors: Mapping[str, np.ndarray],
    config: SentenceConfig,
    *,
    dtype: str,
    source: str,
) -> dict[str, Any]:
    """Return the variables of ``SentenceTower``.

    Raises:
      InputError: Tensors are missing, too many, or of another shape.
    """
    first = "embeddings.word_embeddings.weight"
    prefix = next((each for each in _PREFIXES if each + first in tensors), "")
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith(_HEADS)
    }
    for old, new in _DISTILLED:
        own = {name.replace(old, new): tensor for name, tensor in own.items()}
    check_tensors(own, _expected_tensors(config), source=source, ignored=_BUFFERS)
    named = Tensors(own, dtype)

    def layer(index: int) -> dict[str, Any]:
        names = _layer_names(config, index)
        return {
            "qkv": named.dense(*(names[key] for key in ("query", "key", "value"))),
            "out": named.dense(names["out"]),
            "attention_norm": named.norm(names["attention_norm"]),
            "mlp": {key: named.dense(names[key]) for key in ("expand", "project")},
            "mlp_norm": named.norm(names["mlp_norm"]),
        }

    positions = named.array("embeddings.position_embeddings.weight")
    if config.num_types:
        types = named.array("embeddings.token_type_embeddings.weight")
        positions = positions + types[:1]
    weights = {
        "tokens": named.array(first),
        "positions": positions,
        "embedding_norm": named.norm("embeddings.LayerNorm"),
        "blocks": stack_layers(layer, config.tower.num_layers),
    }
    if config.num_buckets:
        weights["distances"] = named.array("encoder.relative_attention_bias.weight")
    return {"params": weights}


class _Model(NamedTuple):
    """How checkpoints of a type are read."""

    parse: Callable[..., Any]
    tower: Callable[[Any, Any], nn.Module]
    convert: Callable[..., dict[str, Any]]


_BERT = _Model(parse_sentence_config, SentenceTower, convert_sentence_tensors)
_MODELS = {
    "modernbert": _Model(parse_modern_config, ModernTower, convert_modern),
    "qwen3": _Model(parse_qwen_config, QwenTower, convert_qwen),
}
