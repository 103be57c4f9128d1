"""What timm's name of a vision transformer and the shapes of its tensors say.

A config.json of timm names an architecture and what differs from it. The shapes tell
most; what they don't tell, the table here has by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.encoders.dino.config import DinoConfig
from mca_jax.encoders.huggingface.transformer import (
    TowerConfig,
    check_whole,
    parse_tower,
)

__all__ = [
    "Kind",
    "TimmConfig",
    "find_kind",
    "is_known",
    "parse_trunk",
    "read_sizes",
]

Shapes = Mapping[str, tuple[int, ...]]


class Kind(NamedTuple):
    """Vision transformers that the shapes of their tensors tell apart."""

    pattern: str
    activation: str
    epsilon: float
    rotation: str = ""


# The first that fits a whole name counts.
_KINDS = (
    Kind(r"(vit|deit|deit3)_[a-z]+_patch\d+_\d+(_miil)?", "gelu", 1e-6),
    Kind(r"flexivit_[a-z]+", "gelu", 1e-6),
    Kind(r"vit_[a-z]+_patch\d+_(reg\d+_)?(dinov2|tipsv2)", "gelu", 1e-6),
    Kind(r"vit_[a-z]+_(plus_)?patch\d+_dinov3(_qkvb)?", "gelu", 1e-5, "dinov3"),
    Kind(r"vit_(7b)_patch\d+_dinov3(_qkvb)?", "gelu", 1e-5, "dinov3"),
    Kind(r"vit_[a-z]+_patch\d+_clip_quickgelu_\d+", "quick_gelu", 1e-5),
    Kind(r"vit_[a-z]+_patch\d+_(plus_)?clip_\d+", "gelu", 1e-5),
    Kind(
        r"vit_(base_patch32_siglip_(gap_)?256|giantopt_patch16_siglip_(gap_)?\d+"
        r"|large_patch16_siglip_(gap_)?512|so400m_patch16_siglip_(gap_)?\d+)",
        "gelu_pytorch_tanh",
        1e-6,
    ),
    Kind(r"vit_[a-z0-9]+_patch\d+_siglip_(gap_)?\d+", "gelu", 1e-6),
    Kind(
        r"vit_(little|wee|medium|mediumd|betwixt|so150m|so150m2|giant|huge)"
        r"_patch\d+_(reg\d+_)?gap_\d+",
        "gelu",
        1e-6,
    ),
    Kind(
        r"vit_pe_core_(tiny|small|base|large)_patch\d+_\d+", "gelu", 1e-5, "perception"
    ),
)
# Sizes -> heads; those of others, and of what is "plus", are 64 wide.
_HEADS = {
    **{"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16},
    **{"gigantic": 16, "so400m": 16, "giantopt": 16, "7b": 32},
}
# Heads of the Perception Encoder's pooling.
_POOL_HEADS = 8
# Settings that differ from the architecture's own and that shapes tell, or that act
# in training alone.
_TOLD = frozenset(
    (
        *("class_token", "depth", "drop_path_rate", "drop_rate", "dynamic_img_size"),
        *("embed_dim", "global_pool", "img_size", "in_chans", "init_values"),
        *("mlp_ratio", "num_classes", "num_heads", "num_reg_tokens", "patch_size"),
        *("pos_drop_rate", "qkv_bias", "ref_feat_shape", "reg_tokens"),
    )
)
_INSTEAD = "mca-jax encoders lists what works; the nearest is facebook/dinov2-base"


class TimmConfig(NamedTuple):
    """Everything that the shape of a vision transformer of timm depends on.

    Attributes:
      blocks: Transformer, gate, patches and turns, as of DINO's towers.
      image_size: Height and width in pixels.
      num_first: Class token and registers, before the patches.
      num_placed: Of these, how many have a learnt position.
      has_positions: Whether patches have learnt ones.
      has_pre_norm: Whether a norm goes before the blocks.
      pooling: ``"token"``, the first; ``"avg"``, the mean of the patches; or
        ``"map"``, by attention.
      norms_pooled: Whether the last norm goes behind the pooling.
      rotation: Whose way of turning queries and keys by where patches are:
        ``"dinov3"``, ``"perception"`` or empty.
      rotation_grid: Rows and columns that positions were counted by in training.
      pool: Transformer of the pooling by attention.
    """

    blocks: DinoConfig
    image_size: tuple[int, int]
    num_first: int
    num_placed: int
    has_positions: bool
    has_pre_norm: bool
    pooling: str
    norms_pooled: bool
    rotation: str
    rotation_grid: tuple[int, int]
    pool: TowerConfig | None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.blocks.patch_size
        return self.image_size[0] // side, self.image_size[1] // side


def is_known(name: str) -> bool:
    """Return whether an architecture is supported, by timm's name of it.

    Example:
      >>> is_known("vit_base_patch14_dinov2"), is_known("swin_base_patch4_window7_224")
      (True, False)
    """
    return any(re.fullmatch(kind.pattern, name) for kind in _KINDS)


def find_kind(name: str, source: str) -> Kind:
    """Return what timm's name tells.

    Raises:
      InputError: The architecture is not supported.
    """
    for kind in _KINDS:
        if re.fullmatch(kind.pattern, name):
            return kind
    raise InputError(
        f"{source}: timm's {name} is not supported: its plain vision transformers are, "
        "those of CLIP, SigLIP, DeiT, DINOv2, DINOv3 and the Perception Encoder among "
        f"them; {_INSTEAD}"
    )


def read_sizes(
    raw: Mapping[str, Any], name: str, source: str
) -> tuple[tuple[int, int], Mapping[str, Any]]:
    """Return image size and differing settings of a config.json of timm.

    Raises:
      InputError: A setting is unknown or impossible.
    """
    settings = raw.get("model_args") or {}
    unknown = sorted(set(settings) - _TOLD)
    if unknown:
        raise InputError(
            f"{source} changes {', '.join(unknown)} of timm's {name}, which is not "
            f"supported; {_INSTEAD}"
        )
    # What images are prepared to; a model may have been made for another size.
    given = (raw.get("pretrained_cfg") or {}).get("input_size")
    if isinstance(given, list) and len(given) == 3:
        given = given[1:]
    else:
        given = given or settings.get("img_size") or 224
    sides = list(given) if isinstance(given, list | tuple) else [given, given]
    if len(sides) != 2:
        raise InputError(f"Expected a size of images in {source}, found {given!r}")
    height, width = (check_whole(side, "input_size", source) for side in sides)
    return (height, width), settings


def parse_trunk(
    name: str,
    shapes: Shapes,
    *,
    image_size: tuple[int, int],
    pooling: str,
    settings: Mapping[str, Any],
    source: str,
) -> TimmConfig:
    """Return what timm's name, the tensors' shapes and a few settings tell.

    Args:
      name: Of the architecture, such as ``"vit_base_patch14_dinov2"``.
      shapes: Name -> shape of the tensors.
      image_size: Height and width in pixels.
      pooling: What timm calls ``global_pool``.
      settings: What differs from the architecture's own, ``model_args``.
      source: Path of the configuration, for messages.

    Raises:
      InputError: The architecture isn't supported, or does not fit its tensors.
    """
    kind = find_kind(name, source)
    patch = _shape(shapes, "patch_embed.proj.weight", 4, source)
    width, side = patch[0], patch[2]
    if patch[1] != 3 or patch[2] != patch[3] or min(image_size) < side:
        raise InputError(
            f"Expected square patches of three channels of images of {image_size} in "
            f"{source}, found {list(patch)}"
        )
    gated, hidden = _find_mlp(shapes, source)
    heads = settings.get("num_heads") or _count_heads(name, width)
    tower = parse_tower(
        {
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": hidden,
            "num_hidden_layers": _count_layers(shapes),
            "hidden_act": "silu" if gated else kind.activation,
            "layer_norm_eps": kind.epsilon,
        },
        source,
    )
    is_dinov3 = kind.rotation == "dinov3"
    registers = shapes.get("reg_token", (1, 0, width))[1]
    num_first = registers + ("cls_token" in shapes)
    count = (image_size[0] // side) * (image_size[1] // side)
    rows = shapes.get("pos_embed", (1, 0, width))[1]
    if rows not in (0, count, count + num_first) or (rows == 0 and not is_dinov3):
        raise InputError(
            f"Expected positions of {count} patches in {source}, found {rows}; its "
            "input_size does not belong to its weights"
        )
    check_one_of(f"global_pool in {source}", pooling, ("token", "avg", "map"))
    return TimmConfig(
        blocks=DinoConfig(
            family="timm",
            tower=tower,
            is_gated=gated,
            patch_size=side,
            num_registers=registers,
            grid_side=0,
            # DINOv3's gates have the names that go with it.
            theta=100.0 if is_dinov3 else 0.0,
        ),
        image_size=image_size,
        num_first=num_first,
        num_placed=max(rows - count, 0),
        has_positions=rows > 0,
        has_pre_norm="norm_pre.weight" in shapes,
        pooling=pooling,
        norms_pooled="fc_norm.weight" in shapes,
        rotation=kind.rotation,
        rotation_grid=_rotation_grid(name, kind, settings),
        pool=_parse_pool(shapes, tower, kind, source) if pooling == "map" else None,
    )


def _shape(shapes: Shapes, name: str, axes: int, source: str) -> tuple[int, ...]:
    """Return the shape of a tensor that has to be there."""
    found = shapes.get(name, ())
    if len(found) != axes:
        raise InputError(
            f"Missing tensor {name} of {source}; take a complete checkpoint"
        )
    return found


def _find_mlp(shapes: Shapes, source: str) -> tuple[bool, int]:
    """Return whether the MLP has a gate, and its width inside."""
    hidden = _shape(shapes, "blocks.0.mlp.fc2.weight", 2, source)[1]
    packed = shapes.get("blocks.0.mlp.fc1.weight", (0,))[0] == 2 * hidden
    return packed or "blocks.0.mlp.fc1_g.weight" in shapes, hidden


def _count_layers(shapes: Shapes) -> int:
    """Count the blocks that there are tensors of."""
    return len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})


def _count_heads(name: str, width: int) -> int:
    """Return how many heads an architecture has."""
    found = re.match(r"(?:vit|deit3?)_(?:pe_core_)?([a-z0-9]+)_", name)
    size = found[1] if found else ""
    # CLIP's giants.
    if width == 1408:
        return 16
    known = None if "_plus_" in name else _HEADS.get(size)
    return known or max(width // 64, 1)


def _rotation_grid(
    name: str, kind: Kind, settings: Mapping[str, Any]
) -> tuple[int, int]:
    """Return the grid that the Perception Encoder counts positions by."""
    if kind.rotation != "perception":
        return 0, 0
    given = settings.get("ref_feat_shape")
    if given:
        rows, columns = given
        return int(rows), int(columns)
    side, size = re.findall(r"patch(\d+)_(\d+)", name)[0]
    return int(size) // int(side), int(size) // int(side)


def _parse_pool(
    shapes: Shapes, tower: TowerConfig, kind: Kind, source: str
) -> TowerConfig:
    """Return the transformer of the pooling by attention."""
    hidden = _shape(shapes, "attn_pool.mlp.fc1.weight", 2, source)[0]
    is_perception = kind.rotation == "perception"
    heads = _POOL_HEADS if is_perception else tower.num_heads
    return tower._replace(hidden_width=hidden, num_heads=heads)
