"""Reads the trained networks out over a whole set, in bounded memory."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.heads import Heads
from mca_jax.parallel import (
    HostRows,
    Rows,
    ShardedRows,
    Table,
    over_devices,
    place_rows,
    replicate,
)
from mca_jax.types import Params

__all__ = ["Readout", "noun_evidence", "read_out"]


class Readout(NamedTuple):
    """What the networks say of every image and every noun.

    Attributes:
      probabilities: Assignment probabilities of the images, ``[n, k]``.
      noun_weights: Attention on each image's nouns, ``[n, r]``; rows sum to 1.
      trust: ``1 - a_null`` of each image, ``[n]``.
      noun_assignments: Assignment probabilities of the nouns, ``[m, k]``.
    """

    probabilities: Float[np.ndarray, "n k"]
    noun_weights: Float[np.ndarray, "n r"]
    trust: Float[np.ndarray, " n"]
    noun_assignments: Float[np.ndarray, "m k"]


def _read_out(
    params: Params,
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    *,
    heads: Heads,
    block_size: int,
) -> tuple[Array, Array, Array, Array]:
    def read_image(
        row: tuple[Float[Array, " d"], Int[Array, " r"], Float[Array, " r"]],
    ) -> tuple[Array, Array]:
        image, own, cosines = row
        attended = heads.attend(
            params, image[None, :], nouns[own][None, :, :], cosines[None, :]
        )
        return attended.weights[0], attended.trust[0]

    weights, trust = jax.lax.map(
        read_image, (images, neighbors, similarities), batch_size=block_size
    )
    return (
        jax.nn.softmax(heads.image_logits(params, images), axis=-1),
        weights,
        trust,
        jax.nn.softmax(heads.text_logits(params, nouns), axis=-1),
    )


_on_one_device = jax.jit(_read_out, static_argnames=("heads", "block_size"))


def _on_devices(
    heads: Heads,
    params: Params,
    images: ShardedRows,
    nouns: Array,
    *near: ShardedRows,
    size: int,
) -> tuple[np.ndarray, ...]:
    """Each device reads its own images out; all of them read all nouns."""
    function = over_devices(
        partial(_read_out, heads=heads, block_size=size),
        images.mesh,
        split=(False, True, False, True, True),
        split_out=(True, True, True, False),
    )
    fixed = replicate((params, nouns), images.mesh)
    *rows, noun_rows = function(
        fixed[0], images.array, fixed[1], *(table.array for table in near)
    )
    spread = (ShardedRows(x, images.count, images.mesh) for x in rows)
    return (*(np.asarray(x) for x in spread), np.asarray(noun_rows))


def _from_host(
    heads: Heads,
    params: Params,
    images: HostRows,
    nouns: Array,
    neighbors: Any,
    similarities: Any,
    *,
    size: int,
) -> Readout:
    """Block by block; only what is read out is ever whole."""
    neighbors, similarities = np.asarray(neighbors), np.asarray(similarities)
    # The weights may be on several devices; the blocks are on one.
    params, nouns = jax.tree.map(np.asarray, (params, nouns))
    count, clusters = images.shape[0], params["image"]["bias"].shape[0]
    probabilities = np.zeros((count, clusters), np.float32)
    weights = np.zeros(neighbors.shape, np.float32)
    trust = np.zeros(count, np.float32)
    noun_rows = np.zeros(0, np.float32)
    for start in range(0, images.shape[0], images.block_size):
        block = slice(start, start + images.block_size)
        *rows, assigned = _on_one_device(
            params,
            np.asarray(images.array[block], np.float32),
            nouns,
            neighbors[block],
            similarities[block],
            heads=heads,
            block_size=size,
        )
        for whole, part in zip((probabilities, weights, trust), rows, strict=True):
            whole[block] = part
        noun_rows = np.asarray(assigned)
    return Readout(probabilities, weights, trust, noun_rows)


def read_out(
    heads: Heads,
    params: Params,
    *,
    images: Float[Array, "n d"] | Rows,
    nouns: Float[Array, "m d"],
    noun_neighbors: Int[Array, "n r"] | Table,
    noun_similarities: Float[Array, "n r"] | Table,
    block_size: int = 1024,
) -> Readout:
    """Compute assignments and attention of a whole set.

    Args:
      heads: The three networks.
      params: Their weights.
      images: Unit vectors, on one device, over several or on the host.
      nouns: Unit vectors of the semantic space.
      noun_neighbors: Rows of each image's nearest nouns.
      noun_similarities: Cosines to them, placed as the images are.
      block_size: Images attended at once; bounds memory.

    Returns:
      Arrays on the host.
    """
    near = (noun_neighbors, noun_similarities)
    size = min(block_size, images.shape[0])
    if isinstance(images, ShardedRows):
        tables = tuple(place_rows(table, images.mesh) for table in near)
        outputs = _on_devices(heads, params, images, nouns, *tables, size=size)
        return Readout(*outputs)
    if isinstance(images, HostRows):
        return _from_host(heads, params, images, nouns, *near, size=size)
    outputs = _on_one_device(params, images, nouns, *near, heads=heads, block_size=size)
    return Readout(*(np.asarray(output) for output in outputs))


def noun_evidence(
    readout: Readout,
    noun_neighbors: Int[np.ndarray, "n r"],
    assignments: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "k m"]:
    """Sum the attention on every noun over the images of every cluster.

    Args:
      readout: From :func:`read_out`.
      noun_neighbors: Rows of each image's nearest nouns.
      assignments: Cluster of each image.

    Returns:
      Evidence at least 0, weighted by each image's trust in its nouns.
    """
    num_nouns, num_clusters = readout.noun_assignments.shape
    evidence = np.zeros((num_clusters, num_nouns), np.float32)
    weights = readout.noun_weights * readout.trust[:, None]
    np.add.at(evidence, (assignments[:, None], noun_neighbors), weights)
    return evidence
