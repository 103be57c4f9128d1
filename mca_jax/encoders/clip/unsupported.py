"""What a checkpoint is that is no pair of towers, and what to take instead."""

from __future__ import annotations

__all__ = ["describe_unsupported", "nearest_images"]

_CLIP = "openai/clip-vit-base-patch32"
_MANY_LANGUAGES = "google/siglip2-base-patch16-224"
_SECOND = "take it as --image_encoder beside a CLIP or SigLIP"
# Model types, or their begin -> what they are and the nearest that is supported.
_KNOWN = {
    "align": ("ALIGN, whose image tower is convolutional", _CLIP),
    "altclip": ("AltCLIP, whose text tower is XLM-RoBERTa", _MANY_LANGUAGES),
    "blip": ("BLIP, which fuses images and texts", _CLIP),
    "chinese_clip_": ("one tower of a Chinese-CLIP", _MANY_LANGUAGES),
    "clip_": ("one tower of a CLIP", _CLIP),
    "clipseg": ("CLIPSeg, which segments", _CLIP),
    "flava": ("FLAVA", _CLIP),
    "llava": ("a language model that sees", _CLIP),
    "owl": ("OWL, which detects", _CLIP),
    "siglip_": ("one tower of a SigLIP", _MANY_LANGUAGES),
    "siglip2_": ("one tower of a SigLIP 2", _MANY_LANGUAGES),
}
_IMAGES = (
    "beit",
    "convnext",
    "deit",
    "dinov3_convnext",
    "ijepa",
    "resnet",
    "swin",
    "vit",
)
# Model types of images, or their begin -> the nearest that is supported.
_NEAREST_IMAGES = {
    "deit": "timm/deit3_base_patch16_224.fb_in22k_ft_in1k",
    "dinov3": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "vit_m": "timm/vit_base_patch16_224.mae",
    "vit": "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
_TEXTS = (
    *("bert", "camembert", "distilbert", "modernbert", "mpnet", "qwen3", "roberta"),
    "xlm-roberta",
)


def nearest_images(model_type: str) -> str:
    """Return the nearest encoder of images to one that isn't supported.

    Example:
      >>> nearest_images("vit")
      'timm/vit_base_patch16_224.augreg2_in21k_ft_in1k'
    """
    for begin, nearest in _NEAREST_IMAGES.items():
        if model_type.startswith(begin):
            return nearest
    return "facebook/dinov2-base"


def describe_unsupported(model_type: str) -> str:
    """Say in one line what a model is, and what to take or do instead.

    Args:
      model_type: As config.json has it, or ``"timm's"`` and the name of a model of
        timm; ``"None"`` where it has neither.

    Example:
      >>> describe_unsupported("bert")
      'a text encoder; pass it as --text_encoder'
    """
    if model_type in ("dinov2", "dinov2_with_registers", "dinov3_vit"):
        return f"it sees images and reads no nouns; {_SECOND}"
    if model_type.startswith("timm's "):
        return f"timm's own layout holds no text tower; {_SECOND}"
    if model_type in _TEXTS:
        return "a text encoder; pass it as --text_encoder"
    if model_type.startswith(_IMAGES):
        return (
            "it sees images and reads no nouns, and is not supported; the nearest "
            f"beside a CLIP is --image_encoder={nearest_images(model_type)}"
        )
    for begin, (what, nearest) in _KNOWN.items():
        if model_type.startswith(begin):
            return f"{what}, is not supported; the nearest is {nearest}"
    return (
        f"not supported; the nearest is {_CLIP}, and a fine-tune of a supported model "
        "is converted by transformers' save_pretrained or open_clip's save_for_hf; "
        "mca-jax encoders lists what works"
    )
