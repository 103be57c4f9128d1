"""What works: families of encoders, and checkpoints by the command that loads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "CHECKPOINTS",
    "FAMILIES",
    "SPEEDS",
    "Checkpoint",
    "Family",
    "list_encoders",
]


class Family(NamedTuple):
    """Checkpoints that are read by the same code.

    Attributes:
      name: What they are.
      layout: Whose files they are in.
      flag: Flag of the command that takes them.
      goldens: Small checkpoints in that layout, below ``tests/goldens``, by which
        parity with the reference is tested.
      parity: Largest difference of a component of any unit vector from the reference's,
        over the goldens; the tests check that it is no more.
    """

    name: str
    layout: str
    flag: str
    goldens: tuple[str, ...]
    parity: float


class Checkpoint(NamedTuple):
    """A published checkpoint.

    Attributes:
      id: On the hub.
      family: A key of ``FAMILIES``.
      parameters: In millions.
      width: Of its embeddings.
      licence: As its card says.
      tower: Shape of its image tower, a key of ``SPEEDS``; empty for texts alone.
      note: Settings that it needs.
    """

    id: str
    family: str
    parameters: int
    width: int
    licence: str
    tower: str = ""
    note: str = ""


FAMILIES = {
    "clip": Family(
        "CLIP",
        "transformers",
        "--encoder",
        ("clip/laion", "clip/openai", "clip/rectangular"),
        1e-6,
    ),
    "metaclip2": Family(
        "MetaCLIP 2", "transformers", "--encoder", ("clip/metaclip2",), 1e-6
    ),
    "chinese_clip": Family(
        "Chinese-CLIP", "transformers", "--encoder", ("clip/chinese",), 1e-6
    ),
    "siglip": Family("SigLIP", "transformers", "--encoder", ("clip/siglip",), 1e-6),
    "siglip2": Family(
        "SigLIP 2",
        "transformers",
        "--encoder",
        ("clip/siglip2", "clip/siglip2_naflex"),
        1e-6,
    ),
    "open_clip": Family(
        "CLIP",
        "open_clip",
        "--encoder",
        ("open_clip/vit", "open_clip/custom_text"),
        1e-6,
    ),
    "open_clip_siglip": Family(
        "SigLIP 1 and 2",
        "open_clip",
        "--encoder",
        ("open_clip/siglip", "open_clip/siglip2"),
        1e-6,
    ),
    "open_clip_timm": Family(
        "Perception Encoder, MobileCLIP 2 L",
        "open_clip",
        "--encoder",
        ("open_clip/perception", "open_clip/mobileclip2"),
        1e-6,
    ),
    "dinov2": Family(
        "DINOv2",
        "transformers",
        "--image_encoder",
        ("dino/v2", "dino/v2_giant", "dino/v2_registers"),
        1e-6,
    ),
    "dinov3": Family(
        "DINOv3",
        "transformers",
        "--image_encoder",
        ("dino/v3", "dino/v3_gated"),
        1e-6,
    ),
    "timm": Family(
        "ViT of timm",
        "timm",
        "--image_encoder",
        (
            *("timm/clip", "timm/deit3", "timm/dinov2", "timm/dinov3"),
            *("timm/dinov3_gated", "timm/perception", "timm/plain", "timm/reg_gap"),
            *("timm/siglip", "timm/siglip_gap"),
        ),
        1e-6,
    ),
    "sentence": Family(
        "BERT, DistilBERT, RoBERTa, MPNet",
        "sentence-transformers",
        "--text_encoder",
        (
            *("sentence/bert", "sentence/distilbert"),
            *("sentence/mpnet", "sentence/roberta"),
        ),
        1e-6,
    ),
    "modernbert": Family(
        "ModernBERT",
        "sentence-transformers",
        "--text_encoder",
        ("sentence/modernbert",),
        1e-6,
    ),
    "qwen3": Family(
        "Qwen3", "sentence-transformers", "--text_encoder", ("sentence/qwen3",), 1e-6
    ),
}
"""Families, by the names that checkpoints refer to."""

_MIT, _APACHE, _CC = "MIT", "Apache-2.0", "CC-BY-NC-4.0"

SPEEDS = {
    "lite": 170,
    "lite2": 84,
    "vit-b32": 29,
    "vit-b16": 6.6,
    "vit-l14": 1.3,
    "vit-l14-336": 0.58,
    "vit-h14": 0.65,
    "siglip-b16": 6.6,
    "naflex-b16": 5.2,
    "perception-b16": 6.3,
    "perception-l14-336": 0.52,
    "dinov2-s": 17,
    "dinov2-b": 5,
    "dinov2-l": 1.3,
    "dinov2-g": 0.33,
    "dinov2-s-518": 1.5,
    "dinov2-b-518": 0.53,
    "dinov3-s-256": 17,
    "dinov3-b": 5.9,
}
"""Shape of an image tower -> images a second on two cores of a server, in float32.

From ``python -m benchmarks.encoder_list``: random weights, decoded pixels, by the time
that the processors worked.
"""

CHECKPOINTS = (
    Checkpoint("openai/clip-vit-base-patch32", "clip", 151, 512, _MIT, "vit-b32"),
    Checkpoint("openai/clip-vit-base-patch16", "clip", 150, 512, _MIT, "vit-b16"),
    Checkpoint("openai/clip-vit-large-patch14", "clip", 428, 768, _MIT, "vit-l14"),
    Checkpoint(
        "openai/clip-vit-large-patch14-336",
        "clip",
        428,
        768,
        _MIT,
        "vit-l14-336",
        "--set=encoder.revision=refs/pr/8",
    ),
    Checkpoint(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "clip", 151, 512, _MIT, "vit-b32"
    ),
    Checkpoint(
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "clip", 150, 512, _MIT, "vit-b16"
    ),
    Checkpoint(
        "facebook/metaclip-2-worldwide-huge-quickgelu",
        "metaclip2",
        1860,
        1024,
        _CC,
        "vit-h14",
    ),
    # Its repository was last seen with a pickle alone: see the page.
    Checkpoint(
        "./chinese-clip-vit-base-patch16",
        "chinese_clip",
        188,
        512,
        "see its card",
        "vit-b16",
    ),
    Checkpoint(
        "google/siglip-base-patch16-224", "siglip", 203, 768, _APACHE, "siglip-b16"
    ),
    Checkpoint(
        "google/siglip2-base-patch16-224", "siglip2", 375, 768, _APACHE, "siglip-b16"
    ),
    Checkpoint(
        "google/siglip2-base-patch16-naflex", "siglip2", 375, 768, _APACHE, "naflex-b16"
    ),
    Checkpoint(
        "timm/vit_base_patch32_clip_224.openai",
        "open_clip",
        151,
        512,
        _APACHE,
        "vit-b32",
    ),
    Checkpoint(
        "timm/ViT-B-16-SigLIP", "open_clip_siglip", 203, 768, _APACHE, "siglip-b16"
    ),
    Checkpoint(
        "timm/ViT-B-16-SigLIP2", "open_clip_siglip", 375, 768, _APACHE, "siglip-b16"
    ),
    Checkpoint(
        "timm/PE-Core-B-16", "open_clip_timm", 448, 1024, _APACHE, "perception-b16"
    ),
    Checkpoint(
        "timm/PE-Core-L-14-336",
        "open_clip_timm",
        671,
        1024,
        _APACHE,
        "perception-l14-336",
    ),
    Checkpoint(
        "timm/MobileCLIP2-L-14-OpenCLIP",
        "open_clip_timm",
        428,
        768,
        "Apple AMLR",
        "vit-l14",
    ),
    Checkpoint("facebook/dinov2-small", "dinov2", 22, 384, _APACHE, "dinov2-s"),
    Checkpoint("facebook/dinov2-base", "dinov2", 87, 768, _APACHE, "dinov2-b"),
    Checkpoint(
        "facebook/dinov2-with-registers-base", "dinov2", 87, 768, _APACHE, "dinov2-b"
    ),
    Checkpoint("facebook/dinov2-large", "dinov2", 304, 1024, _APACHE, "dinov2-l"),
    Checkpoint("facebook/dinov2-giant", "dinov2", 1137, 1536, _APACHE, "dinov2-g"),
    Checkpoint(
        "facebook/dinov3-vitb16-pretrain-lvd1689m",
        "dinov3",
        86,
        768,
        "DINOv3, to accept",
        "dinov3-b",
    ),
    Checkpoint("timm/vit_base_patch16_224.mae", "timm", 86, 768, _CC, "vit-b16"),
    Checkpoint(
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "timm",
        86,
        768,
        _APACHE,
        "vit-b16",
    ),
    Checkpoint(
        "timm/deit3_base_patch16_224.fb_in22k_ft_in1k",
        "timm",
        86,
        768,
        _APACHE,
        "vit-b16",
    ),
    Checkpoint(
        "timm/vit_small_patch14_dinov2.lvd142m",
        "timm",
        22,
        384,
        _APACHE,
        "dinov2-s-518",
    ),
    Checkpoint(
        "timm/vit_base_patch14_reg4_dinov2.lvd142m",
        "timm",
        87,
        768,
        _APACHE,
        "dinov2-b-518",
    ),
    Checkpoint(
        "timm/vit_small_patch16_dinov3.lvd1689m",
        "timm",
        22,
        384,
        "DINOv3",
        "dinov3-s-256",
    ),
    Checkpoint(
        "timm/vit_pe_core_base_patch16_224.fb",
        "timm",
        93,
        768,
        _APACHE,
        "perception-b16",
    ),
    Checkpoint("sentence-transformers/all-MiniLM-L6-v2", "sentence", 23, 384, _APACHE),
    Checkpoint(
        "sentence-transformers/all-distilroberta-v1", "sentence", 82, 768, _APACHE
    ),
    Checkpoint(
        "sentence-transformers/all-mpnet-base-v2", "sentence", 109, 768, _APACHE
    ),
    Checkpoint("nomic-ai/modernbert-embed-base", "modernbert", 149, 768, _APACHE),
    Checkpoint("Qwen/Qwen3-Embedding-0.6B", "qwen3", 596, 1024, _APACHE),
)
"""Checkpoints of each family that are downloaded much; others load likewise."""

_HEADER = (
    *("flag", "checkpoint", "family", "layout"),
    *("M parameters", "width", "licence", "parity", "images/s"),
)


def list_encoders(*, is_markdown: bool = False) -> str:
    """Return what works as a table, for the terminal or for a page.

    Example:
      >>> print(list_encoders().splitlines()[1])  # doctest: +ELLIPSIS
      --encoder        lite ...
    """
    rows: list[Sequence[str]] = [
        _HEADER,
        *(
            (
                *("--encoder", name, "EfficientNet", "embedded", parameters, "1280"),
                *(_APACHE, "", f"{SPEEDS[name]:g}"),
            )
            for name, parameters in (("lite", "5"), ("lite2", "6"))
        ),
    ]
    for each in CHECKPOINTS:
        family = FAMILIES[each.family]
        name = f"{each.id} {each.note}".strip()
        rows.append(
            (
                *(family.flag, name, family.name, family.layout),
                *(str(each.parameters), str(each.width), each.licence),
                f"{family.parity:.0e}",
                f"{SPEEDS[each.tower]:g}" if each.tower else "",
            )
        )
    if is_markdown:
        lines = [" | ".join(("", *row, "")).strip() for row in _in_code(rows)]
        return "\n".join([lines[0], "|---" * len(_HEADER) + "|", *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _in_code(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Set flags and names in code."""
    marked = [(f"`{flag}`", f"`{name}`", *rest) for flag, name, *rest in rows[1:]]
    return [rows[0], *marked]
