"""The encoders that a user can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mca_jax.checks import check_one_of
from mca_jax.encoders.encoder import Encoder
from mca_jax.encoders.lite import build_lite, build_lite2

__all__ = ["ENCODERS", "build_encoder"]

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lite": build_lite,
    "lite2": build_lite2,
}
"""Name of each embedded encoder -> the function that loads it."""


def build_encoder(name: str) -> Encoder:
    """Load an encoder by name.

    Args:
      name: One of the keys of ``ENCODERS``, a hub id such as
        ``"openai/clip-vit-base-patch32"``, or a folder with a CLIP or SigLIP
        checkpoint.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: There is no encoder of that name, or its assets are damaged.

    Example:
      >>> build_encoder("lite").image_size
      (224, 224)
    """
    if "/" in name or Path(name).expanduser().is_dir():
        # Imported here: runs with the embedded encoder need neither Flax nor the hub.
        from mca_jax.encoders.clip import build_clip

        return build_clip(name)
    return ENCODERS[check_one_of("encoder", name, ENCODERS)]()
