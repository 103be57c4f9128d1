r"""What the clustering risk depends on, measured without labels.

The theory behind the method bounds the expected clustering risk by how well
neighbours agree, how sure the assignments are, and how evenly images serve as
neighbours. Its constants are not known for a real set, so no bound is computed
here: the three quantities that enter it are. Their exact form is this
project's reading of the theory, and the docstrings below state it. Beside them
stand two plain facts on the sizes of the clusters.

All functions are pure and leave compilation to the caller.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import release, row_blocks, sum_picked

__all__ = [
    "Risk",
    "cluster_size_entropy",
    "cluster_sizes",
    "count_empty_clusters",
    "measure_risk",
    "measure_stored_risk",
    "neighborhood_consistency",
    "neighborhood_imbalance",
    "prediction_confidence",
]

_IN_MEMORY_BYTES = 2**28
# Sums over neighbours that are there at once.
_BLOCK_BYTES = 2**24


class Risk(NamedTuple):
    """Label-free quantities of one clustering, each a scalar array.

    Attributes:
      consistency: Mean agreement of an image with its neighbours, float32 in
        [0, 1]; higher is better.
      confidence: Mean of the largest assignment probability, float32 in
        [1/k, 1]; higher is better.
      imbalance: Coefficient of variation of how often an image is a
        neighbour, float32 at least 0; lower is better. It depends on the
        embeddings alone, not on the clustering.
      size_entropy: Entropy of the cluster sizes over ``log k``, float32 in
        [0, 1]; 1 is even use of all clusters.
      empty_clusters: Number of clusters without an image, int32.
    """

    consistency: Float[Array, ""]
    confidence: Float[Array, ""]
    imbalance: Float[Array, ""]
    size_entropy: Float[Array, ""]
    empty_clusters: Int[Array, ""]


def neighborhood_consistency(
    probabilities: Float[Array, "n k"],
    neighbors: Int[Array, "n r"],
    *,
    block_size: int = 1024,
) -> Float[Array, ""]:
    r"""How far images and their neighbours share a cluster.

    .. math::
      \frac{1}{n} \sum_i \frac{1}{r} \sum_{j \in N_I(i)} \langle p_i, p_j \rangle

    which is the chance that an image and a random neighbour of it, each drawn
    from its own assignment, land in one cluster.

    Args:
      probabilities: Assignment probabilities; rows sum to 1.
      neighbors: Rows of the neighbours of each image, itself excluded, each in
        ``[0, n)``. Rows outside are clamped, as everywhere in JAX.
      block_size: Images handled at a time, at least 1. Memory beyond the
        arguments is ``block_size * r * k`` floats.

    Returns:
      A scalar in [0, 1].

    Raises:
      InputError: Different numbers of images, or no neighbour.

    Example:
      >>> import jax.numpy as jnp
      >>> probabilities = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
      >>> neighbors = jnp.array([[1], [0], [0]])
      >>> float(neighborhood_consistency(probabilities, neighbors))  # (1+1+0.5)/3
      0.8333333730697632
    """
    _check_same_images(probabilities, neighbors)
    values = probabilities.astype(jnp.float32)

    def agreement(image: tuple[Array, Array]) -> Array:
        own, around = image
        # The mean over neighbours first: one product of k numbers in place of r.
        return jnp.sum(own * jnp.mean(values[around], axis=0))

    return jnp.mean(jax.lax.map(agreement, (values, neighbors), batch_size=block_size))


def prediction_confidence(probabilities: Float[Array, "n k"]) -> Float[Array, ""]:
    r"""How sure the assignments are.

    .. math:: \frac{1}{n} \sum_i \max_c p_{ic}

    Args:
      probabilities: Assignment probabilities; rows sum to 1.

    Returns:
      A scalar in [1/k, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> float(prediction_confidence(jnp.array([[1.0, 0.0], [0.5, 0.5]])))
      0.75
    """
    return jnp.mean(jnp.max(probabilities.astype(jnp.float32), axis=-1))


def neighborhood_imbalance(neighbors: Int[Array, "n r"]) -> Float[Array, ""]:
    r"""How unevenly images serve as neighbours.

    With :math:`\deg(j)` the number of images that have ``j`` among their
    neighbours, this is its coefficient of variation:

    .. math:: \frac{1}{r} \sqrt{\frac{1}{n} \sum_j (\deg(j) - r)^2}

    since the mean of the in-degrees is ``r``. A few hubs that are near
    everything, a known trouble of high dimensions, make it large.

    Args:
      neighbors: Rows of the neighbours of each image, each in ``[0, n)``.

    Returns:
      A scalar at least 0; 0 where each image is a neighbour equally often.

    Raises:
      InputError: No image, or no neighbour.

    Example:
      >>> import jax.numpy as jnp
      >>> float(neighborhood_imbalance(jnp.array([[1], [2], [0]])))
      0.0
      >>> float(neighborhood_imbalance(jnp.array([[1], [0], [0], [0]])))
      1.2247449159622192
    """
    _check_some_neighbors(neighbors)
    images, per_image = neighbors.shape
    degree = jnp.bincount(jnp.ravel(neighbors), length=images)
    # Integers up to here: the mean is exactly r, and cancellation costs nothing.
    excess = (degree - per_image).astype(jnp.float32)
    return jnp.sqrt(jnp.mean(excess * excess)) / per_image


def cluster_sizes(probabilities: Float[Array, "n k"]) -> Int[Array, " k"]:
    """Count the images whose likeliest cluster is each cluster.

    Args:
      probabilities: Assignment probabilities; a tie goes to the first cluster.

    Returns:
      Counts, int32 ``[k]``; they sum to ``n``.

    Example:
      >>> import jax.numpy as jnp
      >>> cluster_sizes(jnp.array([[0.9, 0.1, 0.0], [0.6, 0.1, 0.3]])).tolist()
      [2, 0, 0]
    """
    assigned = jnp.argmax(probabilities, axis=-1)
    return jnp.bincount(assigned, length=probabilities.shape[-1]).astype(jnp.int32)


def cluster_size_entropy(sizes: Int[Array, " k"]) -> Float[Array, ""]:
    r"""How evenly the clusters are used.

    .. math:: -\frac{1}{\log k} \sum_c s_c \log s_c

    with :math:`s_c` the share of the images in cluster ``c``. A real set need
    not be balanced: a low value is a fact, not always a fault.

    Args:
      sizes: Images of each cluster, at least 0 and with a sum above 0.

    Returns:
      A scalar in [0, 1].

    Raises:
      InputError: Fewer than two clusters.

    Example:
      >>> import jax.numpy as jnp
      >>> float(cluster_size_entropy(jnp.array([5, 5, 0, 0])))
      0.5
    """
    clusters = sizes.shape[0]
    if clusters < 2:
        raise InputError(f"Expected at least 2 clusters, found {clusters}")
    shares = sizes.astype(jnp.float32) / jnp.sum(sizes)
    return jnp.sum(entr(shares)) / jnp.log(jnp.float32(clusters))


def count_empty_clusters(sizes: Int[Array, " k"]) -> Int[Array, ""]:
    """Count the clusters without an image.

    Args:
      sizes: Images of each cluster.

    Returns:
      An int32 scalar in ``[0, k)``.

    Example:
      >>> import jax.numpy as jnp
      >>> int(count_empty_clusters(jnp.array([5, 0, 3])))
      1
    """
    return jnp.sum(sizes == 0, dtype=jnp.int32)


def measure_risk(
    probabilities: Float[Array, "n k"],
    neighbors: Int[Array, "n r"],
    *,
    block_size: int = 1024,
) -> Risk:
    """All label-free quantities of a clustering.

    Args:
      probabilities: Assignment probabilities; rows sum to 1.
      neighbors: Rows of the neighbours of each image, itself excluded, each in
        ``[0, n)``.
      block_size: Images handled at a time by the consistency, at least 1.

    Returns:
      The quantities as scalar arrays.

    Raises:
      InputError: Different numbers of images, no neighbour, or fewer than two
        clusters.

    Example:
      >>> import jax.numpy as jnp
      >>> risk = measure_risk(jnp.eye(3), jnp.array([[1], [2], [0]]))
      >>> [float(value) for value in risk]
      [0.0, 1.0, 0.0, 1.0, 0.0]
    """
    sizes = cluster_sizes(probabilities)
    return Risk(
        consistency=neighborhood_consistency(
            probabilities, neighbors, block_size=block_size
        ),
        confidence=prediction_confidence(probabilities),
        imbalance=neighborhood_imbalance(neighbors),
        size_entropy=cluster_size_entropy(sizes),
        empty_clusters=count_empty_clusters(sizes),
    )


def measure_stored_risk(
    probabilities: Float[np.ndarray, "n k"], neighbors: Int[np.ndarray, "n r"]
) -> Risk:
    """All label-free quantities of a clustering whose table may not fit into memory.

    A table beyond 256 MiB is read block by block, where it lies. The images are
    visited cluster by cluster: their neighbours are mostly of the same one, and so
    are near at hand, in the processor's cache or in the system's.

    Args:
      probabilities: Assignment probabilities, also memory-mapped.
      neighbors: Rows of the neighbours of each image, itself excluded.

    Returns:
      What :func:`measure_risk` gives, beyond 256 MiB to rounding.

    Raises:
      InputError: As :func:`measure_risk`.
    """
    if probabilities.nbytes <= _IN_MEMORY_BYTES:
        return measure_risk(jnp.asarray(probabilities), jnp.asarray(neighbors))
    _check_same_images(probabilities, neighbors)
    count, clusters = probabilities.shape
    assigned, largest = np.zeros(count, np.int32), 0.0
    for rows in row_blocks(probabilities):
        block = probabilities[rows]
        assigned[rows] = block.argmax(axis=1)
        largest += float(block.max(axis=1).sum(dtype=np.float64))
    order, agreement = np.argsort(assigned, kind="stable"), 0.0
    size = max(1, _BLOCK_BYTES // (4 * clusters))
    for start in range(0, count, size):
        rows = order[start : start + size]
        around = sum_picked(probabilities, neighbors[rows])
        shared = np.einsum("nk,nk->n", probabilities[rows], around)
        agreement += float(shared.sum(dtype=np.float64))
        release(probabilities)
    sizes = jnp.asarray(np.bincount(assigned, minlength=clusters).astype(np.int32))
    return Risk(
        consistency=jnp.float32(agreement / neighbors.size),
        confidence=jnp.float32(largest / count),
        imbalance=neighborhood_imbalance(jnp.asarray(neighbors)),
        size_entropy=cluster_size_entropy(sizes),
        empty_clusters=count_empty_clusters(sizes),
    )


def _check_some_neighbors(neighbors: Int[Array | np.ndarray, "n r"]) -> None:
    """Refuse an empty neighbour table, whose means would be NaN."""
    images, per_image = neighbors.shape
    if images < 1 or per_image < 1:
        raise InputError(
            "Expected neighbors of at least one image with at least one neighbour, "
            f"found shape {neighbors.shape}"
        )


def _check_same_images(
    probabilities: Float[Array | np.ndarray, "n k"],
    neighbors: Int[Array | np.ndarray, "n r"],
) -> None:
    """Refuse tables of different sets of images."""
    _check_some_neighbors(neighbors)
    if probabilities.shape[0] != neighbors.shape[0]:
        raise InputError(
            "Expected probabilities and neighbors of the same images, found "
            f"{probabilities.shape[0]} and {neighbors.shape[0]}"
        )
