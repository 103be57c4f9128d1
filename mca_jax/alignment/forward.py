"""Forward pass of the networks: over a batch, and over a whole set block by block."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.alignment.heads import Heads
from mca_jax.core.host_tables import row_blocks
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import HostRows, Rows, Table, map_rows
from mca_jax.core.types import Params

__all__ = [
    "Batch",
    "BatchOutputs",
    "Predictions",
    "assign_clusters",
    "assign_images",
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


@partial(jax.jit, static_argnames=("heads", "block_size"))
def _predict(
    images: Float[Array, "n d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    params: Params,
    nouns: Float[Array, "m d"],
    *,
    heads: Heads,
    block_size: int,
) -> tuple[Array, Array, Array]:
    def attend(
        row: tuple[Float[Array, " d"], Int[Array, " r"], Float[Array, " r"]],
    ) -> tuple[Array, Array]:
        image, own, cosines = row
        attended = heads.attend(
            params, image[None, :], nouns[own][None, :, :], cosines[None, :]
        )
        return attended.weights[0], attended.trust[0]

    weights, trust = jax.lax.map(
        attend, (images, neighbors, similarities), batch_size=block_size
    )
    return jax.nn.softmax(heads.image_logits(params, images), axis=-1), weights, trust


@partial(jax.jit, static_argnames="heads")
def _assign_nouns(
    nouns: Float[Array, "m d"], params: Params, *, heads: Heads
) -> Float[Array, "m k"]:
    return jax.nn.softmax(heads.text_logits(params, nouns), axis=-1)


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
    """Compute assignments and attention of a whole set, wherever it is.

    Args:
      heads: The three networks.
      params: Their weights.
      images: Unit vectors.
      nouns: Unit vectors of the semantic space.
      noun_neighbors: Rows of each image's nearest nouns.
      noun_similarities: Cosines to them.
      block_size: Images attended at once; bounds memory.

    Returns:
      Arrays on the host. Beyond 256 MiB the probabilities are memory-mapped from
      a file that goes with the array, and a single device computes them in blocks.
    """
    most = max(1, _MOST_PROBABILITIES // params["image"]["bias"].shape[0])
    if isinstance(images, HostRows):
        images = HostRows(images.array, min(images.block_size, most), images.mesh)
    elif isinstance(images, jax.Array) and images.shape[0] > most:
        images = HostRows(np.asarray(images), most)
    size = min(block_size, images.shape[0])
    predict = partial(_predict, heads=heads, block_size=size)
    near = noun_neighbors, noun_similarities
    found = map_rows(predict, images, *near, whole=(params, nouns))
    # A host's table is taken as it is: it may be mapped from a file.
    probabilities, weights, trust = (
        x.array if isinstance(x, HostRows) else np.asarray(x) for x in found
    )
    own_params, own_nouns = jax.tree.map(np.asarray, (params, nouns))
    assigned = _assign_nouns(own_nouns, own_params, heads=heads)
    return Predictions(probabilities, weights, trust, np.asarray(assigned))


@partial(jax.jit, static_argnames="heads")
def _likeliest(
    images: Float[Array, "n d"], params: Params, *, heads: Heads
) -> Int[Array, " n"]:
    """Likeliest cluster of each image; ties go to the lower index."""

    def assign(rows: Float[Array, "b d"]) -> Int[Array, " b"]:
        return jnp.argmax(heads.image_logits(params, rows), axis=-1).astype(jnp.int32)

    block = max(1, _MOST_PROBABILITIES // params["image"]["bias"].shape[0])
    if images.shape[0] <= block:
        return assign(images)
    return jax.lax.map(lambda row: assign(row[None])[0], images, batch_size=block)


def assign_images(
    heads: Heads, params: Params, images: Float[Array, "n d"] | Rows
) -> Int[np.ndarray, " n"]:
    """Assign each image to its likeliest cluster under some weights, on the host.

    Compiles once for each shape and place of the images.
    """
    likeliest = partial(_likeliest, heads=heads)
    return np.asarray(map_rows(likeliest, images, whole=(params,), over_hosts=True))


def assign_clusters(
    probabilities: Float[np.ndarray, "n k"],
) -> Int[np.ndarray, " n"]:
    """Likeliest cluster by a table of probabilities, also memory-mapped.

    A tie goes to the first.
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

    Each image is weighted by the trust in its nouns; evidence is at least 0.
    """
    num_nouns, num_clusters = predictions.noun_assignments.shape
    evidence = np.zeros((num_clusters, num_nouns), np.float32)
    weights = predictions.noun_weights * predictions.trust[:, None]
    np.add.at(evidence, (assignments[:, None], noun_neighbors), weights)
    return evidence
