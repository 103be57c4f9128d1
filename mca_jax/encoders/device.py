"""What the device decides: the type of weights, and how many images go at once."""

from __future__ import annotations

import jax

from mca_jax.encoders.registry import ENCODERS

__all__ = ["choose_batch_size", "choose_dtype"]

_ON_CPU, _ON_ACCELERATOR = 32, 256


def choose_dtype(dtype: str, *names: str) -> str:
    """Return the type of weights and activations of some encoders.

    Args:
      dtype: ``"float32"``, ``"bfloat16"``, or ``"auto"``: the latter on accelerators,
        whose matrix products are several times as fast in it.
      names: The encoders; embedded ones are in float32 alone, and what goes with them.

    Example:
      >>> choose_dtype("auto", "lite")
      'float32'
    """
    if dtype != "auto":
        return dtype
    is_plain = jax.default_backend() == "cpu" or any(name in ENCODERS for name in names)
    return "float32" if is_plain else "bfloat16"


def choose_batch_size(batch_size: int) -> int:
    """Return how many images are embedded at once; 0 leaves it to the device.

    More keep a CPU no busier; an accelerator's share is for each of its devices.

    Example:
      >>> choose_batch_size(7)
      7
    """
    if batch_size:
        return batch_size
    if jax.default_backend() == "cpu":
        return _ON_CPU
    return _ON_ACCELERATOR * jax.local_device_count()
