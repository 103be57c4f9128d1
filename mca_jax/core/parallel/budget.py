"""Whether a set fits on the devices, or has to stay on the host."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mca_jax.core.parallel.rows import HostRows, Rows, shard_rows

__all__ = ["device_budget", "shard_images"]

_GIB = 2**30
# Of what a device has: the rest is for scores, gradients and the compiler's room.
_SHARE = 0.5
_LEAST_BLOCK, _MOST_BLOCK = 256, 65_536


def device_budget(budget_gib: float) -> int:
    """Tell how many bytes of tables a device may hold.

    Args:
      budget_gib: In GiB; 0 takes half of what the device has, for CPUs half of
        the machine's memory, divided among the devices of the machine.

    Returns:
      Bytes for each device.
    """
    if budget_gib > 0:
        return int(budget_gib * _GIB)
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and stats.get("bytes_limit"):
        return int(_SHARE * stats["bytes_limit"])
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_SHARE * physical) // jax.local_device_count()


def shard_images(
    embeddings: np.ndarray,
    mesh: Mesh | None,
    *,
    bytes_per_row: int,
    budget_gib: float = 0.0,
) -> Rows:
    """Put embeddings on the devices if they fit, else leave them on the host.

    Where they are changes how a run computes, not what it gives.

    Args:
      embeddings: Float32 ``[n, d]``, also memory-mapped.
      mesh: The devices, or None for one.
      bytes_per_row: All that a run keeps on devices for each image.
      budget_gib: Memory for it on each device in GiB; 0 asks the device.

    Returns:
      The table on its place.
    """
    budget = device_budget(budget_gib)
    shared = 1 if mesh is None else mesh.size
    if len(embeddings) * bytes_per_row <= budget * shared:
        if mesh is None:
            return jnp.asarray(embeddings, jnp.float32)
        return shard_rows(embeddings, mesh, np.float32)
    # A block and what is computed from it take a small part of the budget.
    rows = budget // (8 * max(bytes_per_row, 1))
    block = int(np.clip(rows, _LEAST_BLOCK, _MOST_BLOCK))
    return HostRows(embeddings, block, mesh)
