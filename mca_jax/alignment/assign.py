"""Clusters of a whole set under some weights, wherever its images are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.core.host_tables import release
from mca_jax.core.parallel import HostRows, Rows, ShardedRows, over_devices, replicate
from mca_jax.core.parallel.shares import fill_shares, own_blocks
from mca_jax.core.types import Params

__all__ = ["Assign", "build_assign"]

Assign = Callable[[Params, Any], np.ndarray]

# Logits that are there at once, 256 MiB of them; a million images with a thousand
# clusters have 4 GiB.
_MOST_LOGITS = 2**26


def _nearest(
    params: Params, images: Float[Array, "n d"], *, heads: Heads
) -> Int[Array, " n"]:
    """Likeliest cluster of each image; ties go to the lower index."""

    def assign(rows: Float[Array, "b d"]) -> Int[Array, " b"]:
        return jnp.argmax(heads.image_logits(params, rows), axis=-1).astype(jnp.int32)

    num_clusters = params["image"]["bias"].shape[0]
    block = max(1, _MOST_LOGITS // num_clusters)
    if images.shape[0] <= block:
        return assign(images)

    def assign_one(row: Float[Array, " d"]) -> Int[Array, ""]:
        return assign(row[None])[0]

    return jax.lax.map(assign_one, images, batch_size=block)


def build_assign(heads: Heads) -> Assign:
    """Compile the assignment of a set.

    Args:
      heads: The three networks.

    Returns:
      ``(params, images)`` to the cluster of each image, int32 ``[n]`` on the
      host. Compiles once for each shape and place of the images.
    """
    function = partial(_nearest, heads=heads)
    on_one_device = jax.jit(function)
    spread: dict[Any, Callable[..., Any]] = {}

    def assign(params: Params, images: Array | Rows) -> np.ndarray:
        if isinstance(images, ShardedRows):
            if images.mesh not in spread:
                spread[images.mesh] = over_devices(
                    function, images.mesh, split=(False, True), split_out=True
                )
            params = replicate(params, images.mesh)
            found = spread[images.mesh](params, images.array)
            return np.asarray(ShardedRows(found, images.count, images.mesh))
        if isinstance(images, HostRows):
            # The weights may be on several devices; the blocks are on one.
            params = jax.tree.map(np.asarray, params)
            assigned = np.zeros(images.shape[0], np.int32)
            for rows in own_blocks(len(assigned), images.block_size):
                block = np.asarray(images.array[rows], np.float32)
                # Waits for it: the logits of all blocks at once would be too many.
                assigned[rows] = on_one_device(params, block)
                release(images.array)
            fill_shares(assigned)
            return assigned
        return np.asarray(on_one_device(params, images))

    return assign
