"""The encoders that a user can name."""

from __future__ import annotations

from collections.abc import Callable

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
      name: One of the keys of ``ENCODERS``.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: There is no encoder of that name, or its assets are damaged.

    Example:
      >>> build_encoder("lite").image_size
      (224, 224)
    """
    return ENCODERS[check_one_of("encoder", name, ENCODERS)]()
