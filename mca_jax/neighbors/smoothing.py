"""Smoothing over the neighbour graph: an image moves towards its neighbours."""

from __future__ import annotations

from functools import partial
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.host_tables import allocate_rows, release, sum_picked
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    Table,
    over_devices,
)
from mca_jax.core.parallel.collectives import valid_rows

__all__ = ["smooth_embeddings", "smooth_new"]


def _step(
    own: Float[Array, "b d"], everyone: Float[Array, "n d"], near: Int[Array, "b r"]
) -> Float[Array, "b d"]:
    return l2_normalize(own + jnp.sum(everyone[near], axis=1))


_step_on_device = jax.jit(_step)


def _step_on_devices(
    own: Float[Array, "b d"], near: Int[Array, "b r"], *, axis_name: str, count: int
) -> Float[Array, "b d"]:
    everyone = jax.lax.all_gather(own, axis_name, tiled=True)
    valid = valid_rows(own.shape[0], axis_name, count)
    # What fills up stays zero, and so takes part in no sum.
    return jnp.where(valid[:, None], _step(own, everyone, near), 0.0)


def _step_on_host(rows: HostRows, near: np.ndarray) -> HostRows:
    smoothed = allocate_rows(rows.shape)
    for start in range(0, rows.shape[0], rows.block_size):
        block = slice(start, start + rows.block_size)
        total = rows.array[block] + sum_picked(rows.array, near[block])
        smoothed[block] = np.asarray(l2_normalize(jnp.asarray(total)))
        release(smoothed)
    release(rows.array)
    return HostRows(smoothed, rows.block_size, rows.mesh)


@overload
def smooth_embeddings(
    embeddings: Float[Array, "n d"], neighbors: Int[Array, "n r"], *, num_steps: int
) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]: ...


@overload
def smooth_embeddings(
    embeddings: Rows, neighbors: Table, *, num_steps: int
) -> tuple[Rows, Rows]: ...


def smooth_embeddings(
    embeddings: Float[Array, "n d"] | Rows,
    neighbors: Int[Array, "n r"] | Table,
    *,
    num_steps: int,
) -> tuple[Float[Array, "n d"] | Rows, Float[Array, "n d"] | Rows]:
    r"""Replace each image by the mean of itself and its neighbours, repeatedly.

    .. math:: u_i \leftarrow \mathrm{normalise}\bigl(u_i +
        \textstyle\sum_{j \in N_I(i)} u_j\bigr)

    What an image shares with its neighbours stays and what it has alone averages
    out, so that clusters of any shape draw together.

    Args:
      embeddings: Unit vectors, on one device, over several or on the host.
      neighbors: Rows of each image's neighbours, itself excluded, in the same
        place; found once, before the first step.
      num_steps: Steps, at least 0.

    Returns:
      Unit vectors after the last step, and those before it, from which
      :func:`smooth_new` places other images; both the embeddings without a step.

    References:
      Wu et al., Simplifying Graph Convolutional Networks, ICML 2019, Eq. (8), on
      the graph of the nearest images and with unit norm after each step.
    """
    before = now = embeddings
    for _ in range(num_steps):
        before = now
        if isinstance(now, HostRows):
            now = _step_on_host(now, np.asarray(neighbors))
        elif isinstance(now, ShardedRows):
            assert isinstance(neighbors, ShardedRows)
            spread = over_devices(
                partial(_step_on_devices, axis_name=DATA_AXIS, count=now.count),
                now.mesh,
                split=(True, True),
                split_out=True,
            )
            array = spread(now.array, neighbors.array)
            now = ShardedRows(array, now.count, now.mesh)
        else:
            now = _step_on_device(now, now, neighbors)
    return now, before


def smooth_new(
    smoothed: Float[Array, "n d"], near: Int[Array, "b r"]
) -> Float[Array, "b d"]:
    """Take the last step for images that need not be of the set.

    Args:
      smoothed: Images of the set before the last step, unit vectors.
      near: Rows of each new image's nearest images of the set, one more than
        :func:`smooth_embeddings` had. An image of the set finds itself among
        them, and so comes out as it did there.

    Returns:
      Unit vectors.
    """
    return l2_normalize(jnp.sum(smoothed[near], axis=1))
