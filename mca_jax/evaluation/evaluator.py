"""Reads the trained networks out over a whole set, in bounded memory."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.heads import Heads
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


@partial(jax.jit, static_argnames=("heads", "block_size"))
def _read_out(
    heads: Heads,
    params: Params,
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    *,
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


def read_out(
    heads: Heads,
    params: Params,
    *,
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    noun_neighbors: Int[Array, "n r"],
    noun_similarities: Float[Array, "n r"],
    block_size: int = 1024,
) -> Readout:
    """Compute assignments and attention of a whole set.

    Args:
      heads: The three networks.
      params: Their weights.
      images: Unit vectors.
      nouns: Unit vectors of the semantic space.
      noun_neighbors: Rows of each image's nearest nouns.
      noun_similarities: Cosines to them.
      block_size: Images attended at once; bounds memory.

    Returns:
      Arrays on the host.
    """
    outputs = _read_out(
        heads,
        params,
        images,
        nouns,
        noun_neighbors,
        noun_similarities,
        block_size=min(block_size, images.shape[0]),
    )
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
