"""What the files of a sentence encoder say: BERT, RoBERTa and MPNet types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.config import TowerConfig, parse_tower, parse_whole
from mca_jax.encoders.huggingface.checkpoint_files import read_json

__all__ = ["SentenceConfig", "parse_sentence_config", "read_pooling"]

# Model type in config.json -> how the model is built.
_FAMILIES = {
    "bert": "bert",
    "camembert": "roberta",
    "mpnet": "mpnet",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}
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
_VOCAB_SIZES = {"bert": 30522, "mpnet": 30527, "roberta": 50265}
_PAD_IDS = {"bert": 0, "mpnet": 1, "roberta": 1}
_PARTS = ("Transformer", "Pooling", "Normalize")


class SentenceConfig(NamedTuple):
    """Everything that the tower's shape and pooling depend on.

    Attributes:
      family: ``"bert"``, ``"roberta"``, which counts places from behind the padding
        id, or ``"mpnet"``, which also has relative positions.
      tower: The transformer.
      vocab_size: Number of token ids.
      num_positions: Rows of the table of positions.
      num_types: Rows of the table of token types; 0 for ``"mpnet"``.
      num_buckets: Relative positions that are told apart; 0 for the others.
      pad_id: Token that fills a row up.
      text_length: Longest text in tokens.
      pooling: ``"mean"`` of all places or ``"cls"``, the first.
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
    """Read the parsed config.json of a checkpoint.

    Args:
      raw: Content of config.json.
      source: Its path, for messages.
      pooling: See ``SentenceConfig``.
      most_tokens: Longest text in tokens, where other files say less than the
        table of positions has room for.

    Returns:
      The configuration, with the defaults of the reference for absent keys.

    Raises:
      InputError: The model is of another type, or a value is impossible.
    """
    kind = raw.get("model_type") if isinstance(raw, Mapping) else None
    if kind not in _FAMILIES:
        raise InputError(
            f"Expected {source} to have model_type {', '.join(sorted(_FAMILIES))}, "
            f"found {kind!r}; take a sentence encoder of one of these types"
        )
    family = _FAMILIES[kind]
    given = {**_DEFAULTS, "vocab_size": _VOCAB_SIZES[family]}
    given |= {name: value for name, value in raw.items() if value is not None}
    if given.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(
            f"Expected position_embedding_type absolute in {source}, found "
            f"{given['position_embedding_type']!r}"
        )
    pad_id = given.get("pad_token_id", _PAD_IDS[family])
    if not isinstance(pad_id, int) or pad_id < 0:
        raise InputError(
            f"Expected pad_token_id of {source} as a token, found {pad_id!r}"
        )
    # The reference's MPNet has 1 written into its code.
    pad_id = 1 if family == "mpnet" else pad_id
    num_positions = parse_whole(given, "max_position_embeddings", source)
    room = num_positions - (0 if family == "bert" else pad_id + 1)
    if room < 3:
        raise InputError(
            f"Expected max_position_embeddings of {source} with room for three "
            f"tokens, found {num_positions}"
        )
    is_mpnet = family == "mpnet"
    buckets = parse_whole(given, "relative_attention_num_buckets", source)
    return SentenceConfig(
        family=family,
        tower=parse_tower(given, source),
        vocab_size=parse_whole(given, "vocab_size", source),
        num_positions=num_positions,
        num_types=0 if is_mpnet else parse_whole(given, "type_vocab_size", source),
        num_buckets=buckets if is_mpnet else 0,
        pad_id=pad_id,
        text_length=min(room, most_tokens or room),
        pooling=pooling,
    )


def read_pooling(folder: Path) -> tuple[str, int | None]:
    """Read what sentence-transformers keeps beside a model.

    Args:
      folder: Local folder of the checkpoint.

    Returns:
      ``"mean"`` or ``"cls"``, and the longest text in tokens if that is said.
      Without such files the mean, as most are trained.

    Raises:
      InputError: The model has a part that is not known here.
    """
    if (folder / "modules.json").is_file():
        modules = read_json(folder / "modules.json")
        for module in modules if isinstance(modules, list) else []:
            part = str(module.get("type", "")).rpartition(".")[2]
            if part not in _PARTS:
                raise InputError(
                    f"Expected {folder / 'modules.json'} with no parts but "
                    f"{', '.join(_PARTS)}, found {part!r}; take another sentence "
                    "encoder"
                )
    most_tokens = None
    if (folder / "sentence_bert_config.json").is_file():
        most_tokens = read_json(folder / "sentence_bert_config.json").get(
            "max_seq_length"
        )
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean", most_tokens
    modes = {
        name.removeprefix("pooling_mode_")
        for name, value in read_json(path).items()
        if name.startswith("pooling_mode_") and value is True
    }
    known = {"mean_tokens": "mean", "cls_token": "cls"}
    if len(modes) != 1 or not modes <= known.keys():
        raise InputError(
            f"Expected {path} to choose mean_tokens or cls_token, found "
            f"{', '.join(sorted(modes)) or 'nothing'}"
        )
    return known[modes.pop()], most_tokens
