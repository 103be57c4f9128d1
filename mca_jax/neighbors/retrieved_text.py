"""Retrieved text features: each image's nearest nouns as one vector."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import Rows, Table, map_rows

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
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    nouns: Float[Array, "m d"],
    *,
    temperature: float,
) -> Float[Array, "n e"]:
    texts = retrieve_text(nouns, neighbors, similarities, temperature=temperature)
    return l2_normalize(jnp.concatenate([images, texts], axis=1))


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
    return map_rows(join, images, neighbors, similarities, whole=(nouns,))
