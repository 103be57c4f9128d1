"""What open_clip_config.json says, for the towers that are supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.config import ClipConfig
from mca_jax.encoders.huggingface.transformer import (
    TowerConfig,
    check_whole,
    parse_pair,
    parse_tower,
    parse_whole,
)
from mca_jax.encoders.open_clip.images import OpenClipImages, parse_images
from mca_jax.encoders.timm.config import TimmConfig, is_known, parse_trunk

__all__ = ["OpenClipConfig", "parse_open_clip_config", "rename_trunk"]

Value = TypeVar("Value")

_VISION = {
    "image_size": 224,
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
}
_TEXT = {
    "context_length": 77,
    "vocab_size": 49408,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
    "eos_id": 2,
}
# Settings that only other architectures than those supported have, and what they are
# where they don't.
_PLAIN = {
    "attentional_pool": False,
    "embed_cls": False,
    "final_ln_after_pool": False,
    "hf_model_name": None,
    "ls_init_value": None,
    "no_ln_pre": False,
    "qk_norm": False,
    "scale_attn": False,
    "scale_attn_inner": False,
    "scale_fc": False,
    "scale_heads": False,
    "scaled_cosine_attn": False,
    "tokenizer_mode": None,
}
# timm's names of SigLIP's image towers -> heads, and those with the quicker GELU.
_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
_TANH_GELU = (
    "vit_base_patch32_siglip_256",
    "vit_giantopt_patch16_siglip_",
    "vit_large_patch16_siglip_512",
    "vit_so400m_patch16_siglip_",
)
_TRUNK = "visual.trunk"
_HEAD = "visual.head.proj."
_INSTEAD = (
    "supported are its standard ViT towers and timm's plain ones; the nearest are "
    "openai/clip-vit-base-patch32 and google/siglip2-base-patch16-224, and a fine-tune "
    "of a supported one is converted by open_clip's save_for_hf"
)


# Begins of timm's names -> the nearest pair of towers that is supported.
_NEAREST = {
    "fastvit_": "timm/MobileCLIP2-L-14-OpenCLIP",
    "vit_base_mci_": "timm/MobileCLIP2-L-14-OpenCLIP",
    "vit_pe_core_": "timm/PE-Core-L-14-336",
    "eva": "openai/clip-vit-large-patch14",
    "": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
}


class OpenClipConfig(NamedTuple):
    """A checkpoint in open_clip's layout.

    Attributes:
      towers: What the towers' shapes depend on.
      images: How images are prepared.
      cleaning: How texts are, a key of ``CLEANING``.
      tokenizer: Id of a tokenizer on the hub, empty for OpenAI's own.
      trunk: Image tower of timm, None for open_clip's own and for SigLIP's.
      projection: Width of a last layer behind that trunk, 0 without.
      sees_all: Whether each token of a text sees all others, padding too.
    """

    towers: ClipConfig
    images: OpenClipImages
    cleaning: str
    tokenizer: str
    trunk: TimmConfig | None = None
    projection: int = 0
    sees_all: bool = False


def parse_open_clip_config(
    raw: Any, shapes: Mapping[str, tuple[int, ...]], *, source: str
) -> OpenClipConfig:
    """Read the parsed open_clip_config.json of a checkpoint.

    Args:
      raw: Its content.
      shapes: Name -> shape of the tensors: of SigLIP's image tower the file holds
        nothing but timm's name.
      source: Path of the file, for messages.

    Raises:
      InputError: The architecture is another, or a value is impossible.
    """
    model = raw.get("model_cfg") if isinstance(raw, Mapping) else None
    if not isinstance(model, Mapping):
        raise InputError(f"Expected model_cfg in {source}; download it again")
    if "multimodal_cfg" in model:
        raise InputError(
            f"{source} describes a CoCa, which is not supported; {_INSTEAD}"
        )
    vision = _section(model, "vision_cfg", source)
    text = _section(model, "text_cfg", source)
    size = parse_pair({**_VISION, **vision}, "image_size", source)
    name = str(vision.get("timm_model_name") or "")
    trunk, projection = None, 0
    embed_width = parse_whole({"embed_dim": None, **model}, "embed_dim", source)
    if name and "_siglip_" in name:
        family = "siglip"
        tower, patch_size = _parse_siglip(name, vision, shapes, source)
    elif name:
        family = "clip"
        trunk, projection = _parse_trunk(name, vision, shapes, size, source)
        if projection not in (0, embed_width):
            raise InputError(
                f"Expected images of embed_dim {embed_width} in {source}, found "
                f"{projection}"
            )
        tower = trunk.blocks.tower
        patch_size = trunk.blocks.patch_size, trunk.blocks.patch_size
    else:
        family = "clip"
        values = {**_VISION, **vision}
        width = parse_whole(values, "width", source)
        heads = width // check_whole(values["head_width"], "head_width", source)
        tower = _parse_blocks(values, heads, bool(model.get("quick_gelu")), source)
        patch_size = parse_pair(values, "patch_size", source)
    rows, columns = (s // p for s, p in zip(size, patch_size, strict=True))
    _check_text(text, family, source)
    values = {**_TEXT, **text}
    heads = parse_whole(values, "heads", source)
    quick = bool(model.get("quick_gelu"))
    pools_at_eos = text.get("pool_type") == "eos"
    towers = ClipConfig(
        family=family,
        vision=tower,
        text=_parse_blocks(values, heads, quick, source),
        image_size=size,
        patch_size=patch_size,
        num_patches=rows * columns,
        vocab_size=parse_whole(values, "vocab_size", source),
        text_length=parse_whole(values, "context_length", source),
        eos_id=parse_whole(values, "eos_id", source) if pools_at_eos else None,
        embed_width=embed_width,
    )
    tokenizer = str(text.get("hf_tokenizer_name") or "")
    kwargs = text.get("tokenizer_kwargs") or {}
    usual = "whitespace" if tokenizer else "lower"
    return OpenClipConfig(
        towers=towers,
        images=parse_images(raw.get("preprocess_cfg") or {}, size=size, source=source),
        cleaning=str(kwargs.get("clean", usual)),
        tokenizer=tokenizer,
        trunk=trunk,
        projection=projection,
        sees_all=family == "clip" and bool(text.get("no_causal_mask")),
    )


def _section(model: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    """Return one tower's section, checked to be of a supported architecture."""
    section = model.get(key)
    if not isinstance(section, Mapping):
        raise InputError(f"Expected {key} in {source}; download it again")
    for name, plain in _PLAIN.items():
        found = section.get(name, plain)
        if found != plain:
            raise InputError(
                f"{source} has {name} {found!r} in {key}, an architecture that is not "
                f"supported; {_INSTEAD}"
            )
    if isinstance(section.get("layers"), list):
        raise InputError(
            f"{source} describes a ResNet, which is not supported; {_INSTEAD}"
        )
    if key == "vision_cfg" and section.get("pool_type", "tok") != "tok":
        raise InputError(
            f"{source} pools images by {section['pool_type']!r}, which is not "
            f"supported; {_INSTEAD}"
        )
    return section


def _check_text(text: Mapping[str, Any], family: str, source: str) -> None:
    """Check that texts are seen and pooled as those of the family are."""
    found = bool(text.get("no_causal_mask")), text.get("pool_type", "argmax")
    known = {
        "siglip": ((True, "last"),),
        "clip": ((False, "argmax"), (False, "eos"), (True, "argmax"), (True, "eos")),
    }
    if found not in known[family] or text.get("use_pad_mask"):
        raise InputError(
            f"{source} has no_causal_mask {found[0]} and pool_type {found[1]!r} in "
            f"text_cfg beside an image tower of {family}, which is not supported; "
            f"{_INSTEAD}"
        )


def _parse_blocks(
    section: Mapping[str, Any], heads: int, quick_gelu: bool, source: str
) -> TowerConfig:
    """Return a tower of open_clip's own."""
    width = parse_whole(section, "width", source)
    ratio = section["mlp_ratio"]
    act = section.get("act_kwargs") or {}
    norm = section.get("norm_kwargs") or {}
    activation = "gelu_pytorch_tanh" if act.get("approximate") == "tanh" else "gelu"
    return parse_tower(
        {
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": int(width * ratio) if _is_number(ratio) else ratio,
            "num_hidden_layers": section["layers"],
            "hidden_act": "quick_gelu" if quick_gelu else activation,
            "layer_norm_eps": norm.get("eps", 1e-5),
        },
        source,
    )


def _parse_siglip(
    name: str,
    vision: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    source: str,
) -> tuple[TowerConfig, tuple[int, int]]:
    """Return SigLIP's image tower, and its patches, from timm's name and the shapes."""
    kind = name.removeprefix("vit_").partition("_")[0]
    is_plain = vision.get("timm_pool") == "map" and vision.get("timm_proj") == "none"
    patch = shapes.get(f"{_TRUNK}.patch_embed.proj.weight", ())
    hidden = shapes.get(f"{_TRUNK}.blocks.0.mlp.fc1.weight", ())
    known = "_siglip_" in name and kind in _HEADS and len(patch) == 4
    if not known or not is_plain or len(hidden) != 2:
        raise InputError(
            f"{source} has timm's {name} as its image tower, which is not supported; "
            f"{_INSTEAD}"
        )
    layers = {part.split(".")[3] for part in shapes if part.startswith(f"{_TRUNK}.bl")}
    tower = parse_tower(
        {
            "hidden_size": patch[0],
            "num_attention_heads": _HEADS[kind],
            "intermediate_size": hidden[0],
            "num_hidden_layers": len(layers),
            "hidden_act": "gelu_pytorch_tanh"
            if name.startswith(_TANH_GELU)
            else "gelu",
            "layer_norm_eps": 1e-6,
        },
        source,
    )
    return tower, (int(patch[2]), int(patch[3]))


def _parse_trunk(
    name: str,
    vision: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    size: tuple[int, int],
    source: str,
) -> tuple[TimmConfig, int]:
    """Return an image tower of timm, and the width of a last layer behind it."""
    if not is_known(name):
        nearest = next(v for k, v in _NEAREST.items() if name.startswith(k))
        raise InputError(
            f"{source} has timm's {name} as its image tower, which is not supported; "
            f"supported are its plain vision transformers; the nearest is {nearest}"
        )
    own = rename_trunk(shapes)
    trunk = parse_trunk(
        name,
        own,
        image_size=size,
        pooling=str(vision.get("timm_pool", "avg")),
        settings={},
        source=source,
    )
    return trunk, own["head.weight"][0] if "head.weight" in own else 0


def rename_trunk(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Return what belongs to an image tower of timm, under timm's own names."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(f"{_TRUNK}."):
            found[name.removeprefix(f"{_TRUNK}.")] = value
        elif name.startswith(_HEAD):
            found["head." + name.removeprefix(_HEAD)] = value
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
