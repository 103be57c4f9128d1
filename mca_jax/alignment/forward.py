"""Forward pass of the networks: over a batch, and over a whole set block by block."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.alignment.heads import Heads
from mca_jax.core.host_tables import allocate_rows, release, row_blocks
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    HostRows,
    Rows,
    ShardedRows,
    Table,
    over_devices,
    replicate,
    shard_rows,
)
from mca_jax.core.types import Params

__all__ = [
    "Batch",
    "BatchOutputs",
    "Predictions",
    "assign_clusters",
    "forward_batch",
    "forward_pass",
    "noun_evidence",
]

# Probabilities that are there at once, 256 MiB of them; a million images with a
# thousand clusters have 4 GiB.
_MOST_PROBABILITIES = 2**26


class Batch(NamedTuple):
    """Anchors, one neighbour of each, and the nouns of both.

    Attributes:
      images: Embeddings of the anchors, unit vectors ``[b, d]``.
      neighbors: Embeddings of their neighbours, ``[b, d]``.
      nouns: Embeddings of all nouns that any image has, ``[m, d]``.
      rows: Rows of the anchors' nouns, ``[b, r]``.
      similarities: Cosines of anchors and nouns, ``[b, r]``.
      neighbor_rows: Rows of the neighbours' nouns, ``[b, r]``.
      neighbor_similarities: Their cosines, ``[b, r]``.
    """

    images: Float[Array, "b d"]
    neighbors: Float[Array, "b d"]
    nouns: Float[Array, "m d"]
    rows: Int[Array, "b r"]
    similarities: Float[Array, "b r"]
    neighbor_rows: Int[Array, "b r"]
    neighbor_similarities: Float[Array, "b r"]


class BatchOutputs(NamedTuple):
    """What the networks say of a batch; a row depends on its image alone.

    Attributes:
      logits: Of the image network for the anchors, ``[b, k]``.
      neighbor_logits: The same for their neighbours.
      text_assignments: ``q_hat`` of the anchors: attention-weighted mean of their
        nouns' assignments, ``[b, k]``.
      neighbor_text_assignments: The same for their neighbours.
      text_features: ``s_hat``, the retrieved text of the anchors: attention-weighted
        mean of their nouns, unit vectors ``[b, d]``.
      trust: ``1 - a_null`` of the anchors, ``[b]``.
    """

    logits: Float[Array, "b k"]
    neighbor_logits: Float[Array, "b k"]
    text_assignments: Float[Array, "b k"]
    neighbor_text_assignments: Float[Array, "b k"]
    text_features: Float[Array, "b d"]
    trust: Float[Array, " b"]


def forward_batch(heads: Heads, params: Params, batch: Batch) -> BatchOutputs:
    """Compute assignments of a batch's images and of the nouns around them."""
    own, near = batch.nouns[batch.rows], batch.nouns[batch.neighbor_rows]
    if batch.nouns.shape[0] <= 2 * batch.rows.size:
        # Fewer nouns than places in the batch: assign each noun once.
        table = jax.nn.softmax(heads.text_logits(params, batch.nouns), axis=-1)
        own_q, near_q = table[batch.rows], table[batch.neighbor_rows]
    else:
        own_q, near_q = (
            jax.nn.softmax(heads.text_logits(params, x), axis=-1) for x in (own, near)
        )
    attended = heads.attend(params, batch.images, own, batch.similarities)
    near_attended = heads.attend(
        params, batch.neighbors, near, batch.neighbor_similarities
    )
    return BatchOutputs(
        logits=heads.image_logits(params, batch.images),
        neighbor_logits=heads.image_logits(params, batch.neighbors),
        text_assignments=jnp.einsum("br,brk->bk", attended.weights, own_q),
        neighbor_text_assignments=jnp.einsum(
            "br,brk->bk", near_attended.weights, near_q
        ),
        text_features=l2_normalize(jnp.einsum("br,brd->bd", attended.weights, own)),
        trust=attended.trust,
    )


class Predictions(NamedTuple):
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


def _forward(
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


_on_one_device = jax.jit(_forward, static_argnames=("heads", "block_size"))


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
        partial(_forward, heads=heads, block_size=size),
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


def _in_blocks(
    heads: Heads,
    params: Params,
    images: Any,
    nouns: Array,
    *near: Any,
    size: int,
    rows_at_once: int,
) -> Predictions:
    """Block by block; only what is read out is ever whole, and that may be a file."""
    neighbors, similarities = (np.asarray(table) for table in near)
    # The weights may be on several devices; the blocks are on one.
    params, nouns = jax.tree.map(np.asarray, (params, nouns))
    count, clusters = len(neighbors), params["image"]["bias"].shape[0]
    probabilities = allocate_rows((count, clusters))
    weights = np.zeros(neighbors.shape, np.float32)
    trust = np.zeros(count, np.float32)
    noun_rows = np.zeros(0, np.float32)
    for start in range(0, count, rows_at_once):
        block = slice(start, start + rows_at_once)
        *rows, assigned = _on_one_device(
            params,
            np.asarray(images[block], np.float32),
            nouns,
            neighbors[block],
            similarities[block],
            heads=heads,
            block_size=min(size, count),
        )
        for whole, part in zip((probabilities, weights, trust), rows, strict=True):
            whole[block] = part
        noun_rows = np.asarray(assigned)
        release(images)
        release(probabilities)
    return Predictions(probabilities, weights, trust, noun_rows)


def forward_pass(
    heads: Heads,
    params: Params,
    *,
    images: Float[Array, "n d"] | Rows,
    nouns: Float[Array, "m d"],
    noun_neighbors: Int[Array, "n r"] | Table,
    noun_similarities: Float[Array, "n r"] | Table,
    block_size: int = 1024,
) -> Predictions:
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
      Arrays on the host. Beyond 256 MiB the probabilities are memory-mapped from
      a file that goes with the array, and a single device computes them in blocks.
    """
    near = (noun_neighbors, noun_similarities)
    size = min(block_size, images.shape[0])
    if isinstance(images, ShardedRows):
        tables = tuple(shard_rows(table, images.mesh) for table in near)
        outputs = _on_devices(heads, params, images, nouns, *tables, size=size)
        return Predictions(*outputs)
    affordable = max(1, _MOST_PROBABILITIES // params["image"]["bias"].shape[0])
    in_blocks = partial(_in_blocks, heads, params, size=size)
    if isinstance(images, HostRows):
        at_once = min(images.block_size, affordable)
        return in_blocks(images.array, nouns, *near, rows_at_once=at_once)
    if images.shape[0] > affordable:
        return in_blocks(images, nouns, *near, rows_at_once=affordable)
    outputs = _on_one_device(params, images, nouns, *near, heads=heads, block_size=size)
    return Predictions(*(np.asarray(output) for output in outputs))


def assign_clusters(
    probabilities: Float[np.ndarray, "n k"],
) -> Int[np.ndarray, " n"]:
    """Assign each image to its likeliest cluster.

    Args:
      probabilities: Assignment probabilities, also memory-mapped.

    Returns:
      Clusters, int32; a tie goes to the first.
    """
    assignments = np.zeros(len(probabilities), np.int32)
    for rows in row_blocks(probabilities):
        assignments[rows] = probabilities[rows].argmax(axis=1)
    return assignments


def noun_evidence(
    predictions: Predictions,
    noun_neighbors: Int[np.ndarray, "n r"],
    assignments: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "k m"]:
    """Sum the attention on every noun over the images of every cluster.

    Args:
      predictions: From :func:`forward_pass`.
      noun_neighbors: Rows of each image's nearest nouns.
      assignments: Cluster of each image.

    Returns:
      Evidence at least 0, weighted by each image's trust in its nouns.
    """
    num_nouns, num_clusters = predictions.noun_assignments.shape
    evidence = np.zeros((num_clusters, num_nouns), np.float32)
    weights = predictions.noun_weights * predictions.trust[:, None]
    np.add.at(evidence, (assignments[:, None], noun_neighbors), weights)
    return evidence
