"""What config.json says about a DINOv2 or DINOv3 checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.transformer import (
    TowerConfig,
    check_whole,
    parse_tower,
    parse_whole,
)

__all__ = ["FAMILIES", "DinoConfig", "parse_dino_config"]

FAMILIES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
"""Model types in config.json."""

# What a key that config.json leaves out means, as the reference classes have it.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "dinov2": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": 224,
        "patch_size": 14,
        "num_channels": 3,
        "use_swiglu_ffn": False,
        "num_register_tokens": 0,
    },
    "dinov3_vit": {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "patch_size": 16,
        "num_channels": 3,
        "use_gated_mlp": False,
        "num_register_tokens": 0,
        "rope_theta": 100.0,
    },
}
_DEFAULTS["dinov2_with_registers"] = {**_DEFAULTS["dinov2"], "num_register_tokens": 4}


class DinoConfig(NamedTuple):
    """Everything that the tower's shape depends on, but for the size of images.

    Attributes:
      family: One of ``FAMILIES``.
      tower: The transformer.
      is_gated: Whether the MLP multiplies by a gate.
      patch_size: Height and width of a patch in pixels.
      num_registers: Tokens beside the patches that hold nothing of the image.
      grid_side: Side of the square of learnt positions; 0 where positions turn
        queries and keys instead.
      theta: Base of these turns, 0 without.
    """

    family: str
    tower: TowerConfig
    is_gated: bool
    patch_size: int
    num_registers: int
    grid_side: int
    theta: float


def parse_dino_config(raw: Any, *, source: str) -> DinoConfig:
    """Read the parsed config.json of a checkpoint, whose path is for messages.

    Raises:
      InputError: The model is another, or a value is impossible.
    """
    family = raw.get("model_type") if isinstance(raw, Mapping) else None
    if family not in FAMILIES:
        raise InputError(
            f"Expected {source} to have model_type {', '.join(FAMILIES)}, found "
            f"{family!r}; take a DINOv2 or DINOv3 checkpoint"
        )
    values = {**_DEFAULTS[family]}
    values |= {name: value for name, value in raw.items() if value is not None}
    if parse_whole(values, "num_channels", source) != 3:
        raise InputError(
            f"Expected num_channels 3 in {source}, found {values['num_channels']}"
        )
    patch_size = parse_whole(values, "patch_size", source)
    registers = values["num_register_tokens"]
    if registers != 0:
        registers = check_whole(registers, "num_register_tokens", source)
    is_v3 = family == "dinov3_vit"
    is_gated = bool(values["use_gated_mlp" if is_v3 else "use_swiglu_ffn"])
    if not is_v3:
        values["intermediate_size"] = _hidden_width(values, is_gated, source)
    if is_gated and not is_v3:
        # Its gate has this one whatever the rest has.
        values["hidden_act"] = "silu"
    tower = parse_tower(values, source)
    theta = float(values["rope_theta"]) if is_v3 else 0.0
    heads = tower.width // tower.num_heads
    if is_v3 and (heads % 4 or not math.isfinite(theta) or theta <= 1):
        raise InputError(
            f"Expected heads of {source} in fours and rope_theta above 1, found "
            f"{heads} and {theta}"
        )
    grid_side = 0
    if not is_v3:
        grid_side = parse_whole(values, "image_size", source) // patch_size
    return DinoConfig(
        family=family,
        tower=tower,
        is_gated=is_gated,
        patch_size=patch_size,
        num_registers=registers,
        grid_side=grid_side,
        theta=theta,
    )


def _hidden_width(values: Mapping[str, Any], is_gated: bool, source: str) -> int:
    """Return the width inside DINOv2's MLP."""
    ratio = values["mlp_ratio"]
    if not isinstance(ratio, int | float) or not 0 < ratio < 100:
        raise InputError(f"Expected mlp_ratio of {source} above 0, found {ratio!r}")
    width = int(parse_whole(values, "hidden_size", source) * ratio)
    # A gated one has two thirds of it, in eights.
    return (width * 2 // 3 + 7) // 8 * 8 if is_gated else width
