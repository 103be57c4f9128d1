"""What config.json says about a CLIP, SigLIP or SigLIP 2 checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.unsupported import describe_unsupported
from mca_jax.encoders.huggingface.transformer import (
    TowerConfig,
    parse_pair,
    parse_tower,
    parse_whole,
)

__all__ = ["FAMILIES", "ClipConfig", "parse_clip_config"]

FAMILIES = ("chinese_clip", "clip", "metaclip_2", "siglip", "siglip2")
"""Model types in config.json."""

# What a key that config.json leaves out means, as the reference classes have it.
# google/siglip-base-patch16-224, for one, names nothing but the two model types.
_VISION_DEFAULTS = {
    "clip": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "siglip": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": True,
        "num_patches": 256,
    },
}
_TEXT_DEFAULTS = {
    "clip": {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 49407,
    },
    "siglip": {
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "projection_size": None,
    },
    # A BERT, whose settings are read where its tower is.
    "chinese_clip": {
        "vocab_size": 30522,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
}

# The first CLIP configs named token 2 as the end of text although the
# tokenizer's is 49407; such models pool at the largest id of a row instead.
_WRONG_EOS_ID = 2


class ClipConfig(NamedTuple):
    """Everything that the two towers' shapes depend on.

    Attributes:
      family: ``"clip"``; ``"siglip"``, which the fixed-resolution SigLIP 2
        checkpoints are too; or ``"siglip2"``, the NaFlex checkpoints whose
        images keep their aspect ratio.
      vision: Transformer of the image tower.
      text: Transformer of the text tower.
      image_size: Height and width in pixels; (0, 0) for ``"siglip2"``, where
        it differs between images.
      patch_size: Height and width of a patch in pixels.
      num_patches: Patches of an image; for ``"siglip2"`` the size of the square
        grid of position embeddings.
      vocab_size: Number of token ids.
      text_length: Longest text in tokens.
      eos_id: Token at which the text is pooled; None pools at the largest id
        (CLIP configs of before 2023) and is meaningless for SigLIP.
      embed_width: Width of the joint space.
    """

    family: str
    vision: TowerConfig
    text: TowerConfig
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_patches: int
    vocab_size: int
    text_length: int
    eos_id: int | None
    embed_width: int


def parse_clip_config(raw: Any, *, source: str) -> ClipConfig:
    """Read the parsed config.json of a checkpoint, whose path is for messages.

    Absent keys have the defaults of the reference.

    Raises:
      InputError: The model is no CLIP or SigLIP, a value is impossible, or the
        activation is unknown.
    """
    family = raw.get("model_type") if isinstance(raw, Mapping) else None
    # CLIP's towers under CLIP's names; its tokenizer does end a text with token 2.
    is_metaclip, is_chinese = family == "metaclip_2", family == "chinese_clip"
    family = "clip" if is_metaclip or is_chinese else family
    if family is None and isinstance(raw, Mapping) and "architecture" in raw:
        family = f"timm's {raw['architecture']}"
    if family not in FAMILIES:
        raise InputError(
            f"Expected {source} to have model_type {', '.join(FAMILIES)}, found "
            f"{family!r}: {describe_unsupported(str(family))}"
        )
    kind = "clip" if family == "clip" else "siglip"
    vision = _section(raw, "vision_config", _VISION_DEFAULTS[kind], source)
    texts = "chinese_clip" if is_chinese else kind
    text = _section(raw, "text_config", _TEXT_DEFAULTS[texts], source)
    vision_tower = parse_tower(vision, f"vision_config of {source}")
    text_tower = parse_tower(text, f"text_config of {source}")
    patch_size = parse_pair(vision, "patch_size", source)
    if parse_whole(vision, "num_channels", source) != 3:
        raise InputError(
            f"Expected num_channels 3 in {source}, found {vision['num_channels']}"
        )
    if family == "siglip2":
        image_size = (0, 0)
        num_patches = parse_whole(vision, "num_patches", source)
        if math.isqrt(num_patches) ** 2 != num_patches:
            raise InputError(
                f"Expected num_patches in {source} to be a square number, found "
                f"{num_patches}"
            )
    else:
        image_size = parse_pair(vision, "image_size", source)
        num_patches = _count_patches(image_size, patch_size, source)
    return ClipConfig(
        family=family,
        vision=vision_tower,
        text=text_tower,
        image_size=image_size,
        patch_size=patch_size,
        num_patches=num_patches,
        vocab_size=parse_whole(text, "vocab_size", source),
        text_length=parse_whole(text, "max_position_embeddings", source),
        eos_id=_eos_id(text, source, is_metaclip) if texts == "clip" else None,
        embed_width=_embed_width(raw, vision, text, kind, source),
    )


def _section(
    raw: Mapping[str, Any], key: str, defaults: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Return one tower's section over its defaults.

    Old CLIP configs hold the section twice; the ``_dict`` one then decides
    everything, its own absent keys included.
    """
    for name in (f"{key}_dict", key):
        section = raw.get(name)
        if section is not None:
            if not isinstance(section, Mapping):
                raise InputError(f"Expected {name} of {source} to be an object")
            given = {k: v for k, v in section.items() if k in defaults}
            return {**defaults, **given}
    return dict(defaults)


def _count_patches(
    image_size: tuple[int, int], patch_size: tuple[int, int], source: str
) -> int:
    """Return how many whole patches fit into the image."""
    rows = image_size[0] // patch_size[0]
    columns = image_size[1] // patch_size[1]
    if rows * columns == 0:
        raise InputError(
            f"Expected image_size in {source} at least as large as patch_size, "
            f"found {list(image_size)} and {list(patch_size)}"
        )
    return rows * columns


def _eos_id(text: Mapping[str, Any], source: str, is_literal: bool) -> int | None:
    """Return the id at which CLIP pools, or None for the old configs."""
    value = text["eos_token_id"]
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(
            f"Expected eos_token_id in text_config of {source} to be a token id, "
            f"found {value!r}"
        )
    return None if value == _WRONG_EOS_ID and not is_literal else value


def _embed_width(
    raw: Mapping[str, Any],
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    kind: str,
    source: str,
) -> int:
    """Return the width of the joint space, checked to be one for both towers."""
    if kind == "clip":
        return parse_whole({"projection_dim": 512, **raw}, "projection_dim", source)
    if not vision["vision_use_head"]:
        raise InputError(
            f"Expected {source} with vision_use_head, found none: without the "
            "pooling head there is no image embedding"
        )
    text_width = text["projection_size"] or text["hidden_size"]
    if text_width != vision["hidden_size"]:
        raise InputError(
            f"Expected towers of one embedding width in {source}, found "
            f"{vision['hidden_size']} for images and {text_width} for texts"
        )
    return parse_whole(vision, "hidden_size", source)
