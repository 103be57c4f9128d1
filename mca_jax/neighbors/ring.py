"""Exact top-r where queries and columns are both spread over devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.core.parallel.collectives import first_row

__all__ = ["merge_topk", "ring_topk"]


def merge_topk(
    first: tuple[Float[Array, "b r"], Int[Array, "b r"]],
    second: tuple[Float[Array, "b s"], Int[Array, "b s"]],
) -> tuple[Float[Array, "b r"], Int[Array, "b r"]]:
    """Keep the best of two lists of neighbours.

    Args:
      first: Scores and indices, best first.
      second: Others; no index is in both.

    Returns:
      As many as ``first`` has, best first; ties go to the lower index.
    """
    scores, indices = (
        jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)
    )
    worst_first, indices = jax.lax.sort((-scores, indices), num_keys=2)
    kept = first[0].shape[1]
    return -worst_first[:, :kept], indices[:, :kept]


def ring_topk(
    queries: Float[Array, "n d"],
    columns: Float[Array, "m d"],
    *,
    num_neighbors: int,
    axis_name: str,
    num_columns: int,
    exclude_self: bool = False,
    block_size: int = 1024,
) -> tuple[Float[Array, "n r"], Int[Array, "n r"]]:
    """Find the nearest of all columns for this device's queries.

    The columns travel around the ring of devices, one device's share at a time,
    so that no device ever holds them all.

    Args:
      queries: Own queries, unit vectors.
      columns: Own columns, unit vectors.
      num_neighbors: ``r``, at least 1 and at most the number of columns (one less
        with ``exclude_self``).
      axis_name: Axis of the devices.
      num_columns: Columns of all devices without those that fill up.
      exclude_self: Leave out column ``i`` for query ``i``.
      block_size: Queries scored at once.

    Returns:
      Scores in [-1, 1], best first, and rows among all columns. Ties go to the
      lower row.
    """
    devices = jax.lax.axis_size(axis_name)
    own = jax.lax.axis_index(axis_name)
    (num_local, width), share = queries.shape, columns.shape[0]
    num_blocks = max(1, -(-num_local // block_size))
    size = -(-num_local // num_blocks)
    padded = jnp.pad(queries, ((0, num_blocks * size - num_local), (0, 0)))
    blocks = padded.reshape(num_blocks, size, width)
    names = first_row(num_local, axis_name) + jnp.arange(num_blocks * size)

    def visit(
        step: Int[Array, ""], carry: tuple[Array, Array, Array]
    ) -> tuple[Array, Array, Array]:
        visitors, *best = carry
        ids = (own + step) % devices * share + jnp.arange(share)

        def score(
            part: tuple[Array, Array, tuple[Array, Array]],
        ) -> tuple[Array, Array]:
            block, name, known = part
            hidden = (ids >= num_columns)[None, :]
            if exclude_self:
                hidden = hidden | (ids[None, :] == name[:, None])
            scores = jnp.where(hidden, -jnp.inf, block @ visitors.T)
            top, index = jax.lax.top_k(scores, min(num_neighbors, share))
            return merge_topk(known, (top, ids[index].astype(jnp.int32)))

        scores, indices = jax.lax.map(
            score, (blocks, names.reshape(num_blocks, size), tuple(best))
        )
        ring = [(device, (device - 1) % devices) for device in range(devices)]
        return jax.lax.ppermute(visitors, axis_name, ring), scores, indices

    nothing = (
        jnp.full((num_blocks, size, num_neighbors), -jnp.inf, jnp.float32),
        jnp.full((num_blocks, size, num_neighbors), num_columns, jnp.int32),
    )
    _, scores, indices = jax.lax.fori_loop(0, devices, visit, (columns, *nothing))
    return (
        scores.reshape(-1, num_neighbors)[:num_local],
        indices.reshape(-1, num_neighbors)[:num_local],
    )
