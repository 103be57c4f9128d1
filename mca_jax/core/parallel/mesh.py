"""The one axis that work is spread over: all devices of all hosts in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

__all__ = ["DATA_AXIS", "data_mesh", "default_mesh"]

DATA_AXIS = "data"
"""Name of the axis; rows of images are split along it."""


def data_mesh(
    num_devices: int | None = None, *, devices: Sequence[Any] | None = None
) -> Mesh:
    """Put devices in a row.

    Args:
      num_devices: How many to use, at least 1; None takes all.
      devices: From which; None takes those of all hosts.

    Returns:
      A mesh of one axis, ``DATA_AXIS``.
    """
    devices = (jax.devices() if devices is None else devices)[:num_devices]
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def default_mesh() -> Mesh | None:
    """The devices that a run uses, or None for one device.

    All of them where there are several, unless one was chosen by
    ``jax.default_device``.
    """
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is not None or jax.device_count() == 1:
        return None
    return data_mesh()
