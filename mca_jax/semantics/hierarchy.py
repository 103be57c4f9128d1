"""Hierarchy filters: nouns that are too general for this set of images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

__all__ = ["ancestor_mask", "depth_mask"]


def ancestor_mask(
    kept: Bool[Array, " m"],
    children: Int[Array, " e"],
    parents: Int[Array, " e"],
    *,
    longest_path: int,
) -> Bool[Array, " m"]:
    """Mark nouns that are ancestors of a kept noun.

    A mark climbs one edge a step, for all edges at once, so ``longest_path``
    steps reach every ancestor however the hierarchy branches.

    Args:
      kept: True for nouns whose ancestors are wanted, bool ``[M]``.
      children: Child of each hypernym edge, int ``[E]``.
      parents: Parent of each hypernym edge, int ``[E]``.
      longest_path: Edges on the longest path of the hierarchy, at least 0.

    Returns:
      bool ``[M]``. A kept noun is marked only if it is above another one:
      ``kept & ~ancestor_mask(kept, ...)`` are the most specific of the kept.
    """
    kept = jnp.asarray(kept, bool)
    count = kept.shape[0]

    def climb(_: int, above: jax.Array) -> jax.Array:
        carried = (kept | above)[children].astype(jnp.int32)
        reached = jax.ops.segment_max(carried, parents, num_segments=count)
        return above | (reached > 0)

    return jax.lax.fori_loop(0, longest_path, climb, jnp.zeros_like(kept))


def depth_mask(depth: Int[Array, " m"], min_depth: int | Array) -> Bool[Array, " m"]:
    """Mark nouns that are deep enough in the hierarchy to mean something.

    Args:
      depth: Edges on the shortest path up to a root, int ``[M]``.
      min_depth: Smallest depth that passes; 0 lets every noun pass.

    Returns:
      bool ``[M]``.
    """
    return jnp.asarray(depth) >= min_depth
