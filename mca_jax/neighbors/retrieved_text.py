"""Retrieved text features: each image's nearest nouns as one vector."""

from __future__ import annotations

import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    Table,
    over_devices,
    replicate,
    shard_rows,
)
from mca_jax.core.parallel.collectives import valid_rows

__all__ = ["image_text_rows", "retrieve_text"]


def retrieve_text(
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    *,
    temperature: float,
) -> Float[Array, "n d"]:
    r"""Retrieve a text for each image: the weighted mean of its nearest nouns.

    .. math:: s_i = \mathrm{normalise}\Bigl(\sum_{j \in N_T(i)}
        \mathrm{softmax}_j(\langle u_i, t_j \rangle / \tau)\, t_j\Bigr)

    Args:
      nouns: Unit vectors.
      neighbors: Rows of each image's nearest nouns.
      similarities: Cosines to them.
      temperature: ``tau`` > 0.

    Returns:
      Unit vectors.

    References:
      Li et al., Image Clustering with External Guidance, ICML 2024, Section 3.1.
    """
    weights = jax.nn.softmax(similarities / temperature, axis=-1)
    total = jnp.zeros((neighbors.shape[0], nouns.shape[1]))
    # A column at a time: all nouns of all images at once would be r times as much.
    for column in range(neighbors.shape[1]):
        total = total + weights[:, column, None] * nouns[neighbors[:, column]]
    return l2_normalize(total)


def _beside_texts(
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    *,
    temperature: float,
    axis_name: str | None = None,
    count: int | None = None,
) -> Float[Array, "n e"]:
    views = retrieve_text(nouns, neighbors, similarities, temperature=temperature)
    rows = l2_normalize(jnp.concatenate([images, views], axis=1))
    # What fills up the last devices takes part in no sum.
    valid = valid_rows(rows.shape[0], axis_name, count)
    return jnp.where(valid[:, None], rows, 0.0)


def image_text_rows(
    images: Float[Array, "n d"] | Rows,
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"] | Table,
    similarities: Float[Array, "n r"] | Table,
    *,
    temperature: float,
) -> Float[Array, "n e"] | Rows:
    """Put each image's retrieved text beside it.

    Args:
      images: Unit vectors, on one device, over several or on the host.
      nouns: Unit vectors.
      neighbors: Rows of each image's nearest nouns.
      similarities: Cosines to them.
      temperature: That of :func:`retrieve_text`.

    Returns:
      Unit vectors ``[n, 2 d]`` where the images are; k-means of them is TAC
      without training.

    References:
      Li et al., Image Clustering with External Guidance, ICML 2024: its variant
      without training.
    """
    join = partial(_beside_texts, temperature=temperature)
    if isinstance(images, ShardedRows):
        function = over_devices(
            partial(join, axis_name=DATA_AXIS, count=images.count),
            images.mesh,
            split=(True, False, True, True),
            split_out=True,
        )
        near = (shard_rows(x, images.mesh).array for x in (neighbors, similarities))
        rows = function(images.array, replicate(nouns, images.mesh), *near)
        return ShardedRows(rows, images.count, images.mesh)
    if not isinstance(images, HostRows):
        return join(images, nouns, jnp.asarray(neighbors), jnp.asarray(similarities))
    near_host, cosines = np.asarray(neighbors), np.asarray(similarities)
    nouns = jnp.asarray(np.asarray(nouns))
    shape = (images.shape[0], 2 * images.shape[1])
    with tempfile.TemporaryFile() as file:
        joined = np.memmap(file, np.float32, mode="w+", shape=shape)
    for start in range(0, images.shape[0], images.block_size):
        block = slice(start, start + images.block_size)
        own = jnp.asarray(np.asarray(images.array[block], np.float32))
        joined[block] = join(
            own, nouns, jnp.asarray(near_host[block]), jnp.asarray(cosines[block])
        )
    return HostRows(joined, images.block_size, images.mesh)
