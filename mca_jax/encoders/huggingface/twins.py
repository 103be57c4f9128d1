"""What other libraries call a model -> the same weights on the hub."""

from __future__ import annotations

import re

__all__ = ["twin_of"]

# In small letters, with "-" for every separator.
_TWINS = {
    "vit-b-32": "openai/clip-vit-base-patch32",
    "vit-b-16": "openai/clip-vit-base-patch16",
    "vit-l-14": "openai/clip-vit-large-patch14",
    "vit-l-14-336": "openai/clip-vit-large-patch14-336",
    "vit-h-14": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "vit-bigg-14": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "vit-b-16-siglip": "google/siglip-base-patch16-224",
    "vit-l-16-siglip-256": "google/siglip-large-patch16-256",
    "vit-so400m-14-siglip-384": "google/siglip-so400m-patch14-384",
    "vit-b-16-siglip2": "google/siglip2-base-patch16-224",
    "vit-l-16-siglip2-256": "google/siglip2-large-patch16-256",
}


def twin_of(name: str) -> str:
    """Return the id on the hub of a model that others name otherwise.

    Args:
      name: What OpenAI's clip, open_clip or sentence-transformers call it.

    Returns:
      The id; empty if none is known.

    Example:
      >>> twin_of("ViT-L/14@336px")
      'openai/clip-vit-large-patch14-336'
    """
    plain = re.sub(r"[-_/@. ]+", "-", name.lower())
    for prefix in ("sentence-transformers-", "hf-hub-", "clip-"):
        plain = plain.removeprefix(prefix)
    for suffix in ("px", "-quickgelu", "-openai"):
        plain = plain.removesuffix(suffix)
    return _TWINS.get(plain, "")
