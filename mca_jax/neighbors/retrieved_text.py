"""Retrieved text features: each image's nearest nouns as one vector; their worth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import Rows, Table, map_rows
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.exact import noun_neighbors
from mca_jax.neighbors.kmeans import spherical_kmeans

__all__ = ["image_text_rows", "retrieve_text", "text_trust"]

# Agreement of texts with images on photographs of single objects, which the nouns
# fit as well as they fit anything: 0.70 to 0.74 on two sets of them.
_FULL_AGREEMENT = 0.6
_RESTARTS = 5


@jax.jit
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
    temperature: Float[Array, ""],
    text_weight: Float[Array, ""],
) -> Float[Array, "n e"]:
    texts = retrieve_text(nouns, neighbors, similarities, temperature=temperature)
    return l2_normalize(jnp.concatenate([images, text_weight * texts], axis=1))


def image_text_rows(
    images: Float[Array, "n d"] | Rows,
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"] | Table,
    similarities: Float[Array, "n r"] | Table,
    *,
    temperature: float,
    text_weight: float = 1.0,
) -> Float[Array, "n e"] | Rows:
    """Put each image's retrieved text beside it.

    Args:
      images: Unit vectors, on one device, over several or on the host.
      nouns: Unit vectors.
      neighbors: Rows of each image's nearest nouns.
      similarities: Cosines to them.
      temperature: That of :func:`retrieve_text`.
      text_weight: Length of a text where an image has 1, at least 0.

    Returns:
      Unit vectors ``[n, 2 d]`` where the images are; k-means of them is TAC
      without training.

    References:
      Li et al., Image Clustering with External Guidance, ICML 2024: its variant
      without training.
    """
    whole = nouns, jnp.float32(temperature), jnp.float32(text_weight)
    return map_rows(_beside_texts, images, neighbors, similarities, whole=whole)


def text_trust(
    key: PRNGKey,
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    assignments: Int[np.ndarray, " n"],
    *,
    num_clusters: int,
    num_neighbors: int = 10,
    temperature: float = 1.0,
) -> float:
    r"""Measure how far the nouns fit a set of images, without labels.

    .. math:: \min\bigl(1,\; \mathrm{AMI}(y^I, y^T) / 0.6\bigr)

    with :math:`y^I` the clusters of the images and :math:`y^T` those of k-means of
    their retrieved texts: nouns that know what these pictures show put the same
    pictures together. The adjusted mutual information is 0 for what chance gives,
    and 0.6 is passed where nouns fit as well as they do anywhere.

    Args:
      key: Key of the k-means of the texts.
      images: Unit vectors, not smoothed.
      nouns: Unit vectors.
      assignments: Cluster of each image by its picture.
      num_clusters: ``k``.
      num_neighbors: Nouns retrieved for each image.
      temperature: Of their weights, in standard deviations of their cosines.

    Returns:
      A number in [0, 1].
    """
    # Here: a second to import, and few who import this module call it.
    from sklearn.metrics import adjusted_mutual_info_score

    near = noun_neighbors(images, nouns, num_neighbors=num_neighbors)
    spread = max(float(jnp.std(jnp.asarray(near.similarities))), 1e-6)
    texts = retrieve_text(
        *(nouns, jnp.asarray(near.indices), jnp.asarray(near.similarities)),
        temperature=temperature * spread,
    )
    found = spherical_kmeans(
        key, texts, num_clusters=num_clusters, num_restarts=_RESTARTS
    )
    agreement = adjusted_mutual_info_score(assignments, np.asarray(found.assignments))
    return float(np.clip(agreement / _FULL_AGREEMENT, 0.0, 1.0))
