"""Tensors of open_clip under the names that transformers gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

__all__ = ["rename_tensors"]

_Named = Iterator[tuple[str, np.ndarray]]
_Converter = Callable[[str, np.ndarray], _Named]


def _plain(name: str, tensor: np.ndarray) -> _Named:
    yield name, tensor


def _transposed(name: str, tensor: np.ndarray) -> _Named:
    """A matrix that open_clip multiplies from the right."""
    yield name, tensor.T


def _without_first_axis(name: str, tensor: np.ndarray) -> _Named:
    yield name, tensor[0]


def _split(name: str, tensor: np.ndarray) -> _Named:
    """One product for queries, keys and values."""
    stem, _, kind = name.rpartition(".")
    for part, rows in zip("qkv", np.split(tensor, 3), strict=True):
        yield f"{stem}.{part}_proj.{kind}", rows


_EMBEDDINGS = "vision_model.embeddings"
_POOL = "visual.trunk.attn_pool"


def _block_rules(prefix: str, model: str) -> list[tuple[str, str, _Converter]]:
    """Rules for the blocks of one of open_clip's own towers."""
    block = rf"{prefix}transformer\.resblocks\.(\d+)\."
    layer = rf"{model}.encoder.layers.\1"
    return [
        (rf"{block}ln_([12])\.(.*)", rf"{layer}.layer_norm\2.\3", _plain),
        (rf"{block}attn\.in_proj_(.*)", rf"{layer}.self_attn.\2", _split),
        (rf"{block}attn\.out_proj\.(.*)", rf"{layer}.self_attn.out_proj.\2", _plain),
        (rf"{block}mlp\.c_fc\.(.*)", rf"{layer}.mlp.fc1.\2", _plain),
        (rf"{block}mlp\.c_proj\.(.*)", rf"{layer}.mlp.fc2.\2", _plain),
    ]


def _image_rules() -> list[tuple[str, str, _Converter]]:
    """Rules for what stands around the blocks of the image tower."""
    return [
        (r"visual\.conv1\.(.*)", rf"{_EMBEDDINGS}.patch_embedding.\1", _plain),
        (r"visual\.class_embedding", f"{_EMBEDDINGS}.class_embedding", _plain),
        (
            r"visual\.positional_embedding",
            f"{_EMBEDDINGS}.position_embedding.weight",
            _plain,
        ),
        # The misspelling is that of transformers.
        (r"visual\.ln_pre\.(.*)", r"vision_model.pre_layrnorm.\1", _plain),
        (r"visual\.ln_post\.(.*)", r"vision_model.post_layernorm.\1", _plain),
        (r"visual\.proj", "visual_projection.weight", _transposed),
    ]


def _text_rules() -> list[tuple[str, str, _Converter]]:
    """Rules for what stands around the blocks of the text tower."""
    text, embeddings = r"(?:text\.)?", "text_model.embeddings"
    return [
        (rf"{text}token_embedding\.(.*)", rf"{embeddings}.token_embedding.\1", _plain),
        (
            rf"{text}positional_embedding",
            f"{embeddings}.position_embedding.weight",
            _plain,
        ),
        (rf"{text}ln_final\.(.*)", r"text_model.final_layer_norm.\1", _plain),
        (rf"{text}text_projection", "text_projection.weight", _transposed),
        (rf"{text}text_projection\.(weight|bias)", r"text_model.head.\1", _plain),
    ]


def _trunk_rules() -> list[tuple[str, str, _Converter]]:
    """Rules for SigLIP's image tower as timm names it."""
    trunk = r"visual\.trunk\."
    block, layer = rf"{trunk}blocks\.(\d+)\.", r"vision_model.encoder.layers.\1"
    pool, head = rf"{trunk}attn_pool\.", "vision_model.head"
    return [
        (rf"{block}norm([12])\.(.*)", rf"{layer}.layer_norm\2.\3", _plain),
        (rf"{block}attn\.qkv\.(.*)", rf"{layer}.self_attn.\2", _split),
        (rf"{block}attn\.proj\.(.*)", rf"{layer}.self_attn.out_proj.\2", _plain),
        (rf"{block}mlp\.(.*)", rf"{layer}.mlp.\2", _plain),
        (
            rf"{trunk}patch_embed\.proj\.(.*)",
            rf"{_EMBEDDINGS}.patch_embedding.\1",
            _plain,
        ),
        (
            rf"{trunk}pos_embed",
            f"{_EMBEDDINGS}.position_embedding.weight",
            _without_first_axis,
        ),
        (rf"{trunk}norm\.(.*)", r"vision_model.post_layernorm.\1", _plain),
        (rf"{pool}latent", f"{head}.probe", _plain),
        (rf"{pool}proj\.(.*)", rf"{head}.attention.out_proj.\1", _plain),
        (rf"{pool}norm\.(.*)", rf"{head}.layernorm.\1", _plain),
        (rf"{pool}mlp\.(.*)", rf"{head}.mlp.\1", _plain),
    ]


# Patterns of whole names, with what becomes of name and tensor.
_RULES = [
    *_block_rules(r"visual\.", "vision_model"),
    *_block_rules(r"(?:text\.)?", "text_model"),
    *_image_rules(),
    *_text_rules(),
    *_trunk_rules(),
]


def rename_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors as a checkpoint of transformers has them.

    Args:
      tensors: Name -> array, of a CLIP or a SigLIP as open_clip saves it. May be
        memory-mapped: views of them are returned where that is possible.

    Returns:
      The same under other names; what is not known keeps its name.
    """
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if name.startswith((f"{_POOL}.q.", f"{_POOL}.kv.")):
            continue
        found.update(_rename(name, tensor))
    for kind in ("weight", "bias"):
        parts = [tensors.get(f"{_POOL}.{part}.{kind}") for part in ("q", "kv")]
        given = [part for part in parts if part is not None]
        if given:
            key = f"vision_model.head.attention.in_proj_{kind}"
            found[key] = np.concatenate(given)
    return found


def _rename(name: str, tensor: np.ndarray) -> _Named:
    """Name one tensor anew."""
    for pattern, replacement, convert in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            return convert(match.expand(replacement), tensor)
    return _plain(name, tensor)
