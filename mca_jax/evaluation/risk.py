r"""What the clustering risk depends on, measured without labels.

The theory behind the method bounds the expected clustering risk by how well
neighbours agree, how sure the assignments are, and how evenly images serve as
neighbours. Its constants are not known for a real set, so no bound is computed
here: the three quantities that enter it are. Their exact form is this
project's reading of the theory, and the docstrings below state it. Beside them
stand two facts on the sizes of the clusters, and what can be measured of hard
clusters by any method. Compilation is left to the caller.

Throughout, ``probabilities`` are assignment probabilities, whose rows sum to 1,
and ``neighbors`` the rows of each image's neighbours, itself excluded, each in
``[0, n)``; those outside are clamped, as everywhere in JAX.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import release, row_blocks, sum_picked
from mca_jax.core.parallel import HostRows

__all__ = [
    "Risk",
    "cluster_size_entropy",
    "measure_clusters",
    "measure_risk",
    "neighborhood_consistency",
    "neighborhood_imbalance",
    "prediction_confidence",
]

_IN_MEMORY_BYTES = 2**28
# Sums over neighbours that are there at once. Of a mapped table the system brings 64
# KiB for each row that is looked up.
_BLOCK_BYTES = 2**21
# Rows of the images that are read at once.
_BLOCK_ROWS = 2**16


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
    from its own assignment, land in one cluster: a scalar in [0, 1]. Handling
    ``block_size`` images at a time takes ``block_size * r * k`` floats.

    Raises:
      InputError: Different numbers of images, or no neighbour.

    Example:
      >>> import jax.numpy as jnp
      >>> probabilities = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
      >>> neighbors = jnp.array([[1], [0], [0]])
      >>> float(neighborhood_consistency(probabilities, neighbors))  # (1+1+0.5)/3
      0.8333333730697632
    """
    _check_neighbors(neighbors, len(probabilities))
    values = probabilities.astype(jnp.float32)

    def agreement(image: tuple[Array, Array]) -> Array:
        own, around = image
        # The mean over neighbours first: one product of k numbers in place of r.
        return jnp.sum(own * jnp.mean(values[around], axis=0))

    return jnp.mean(jax.lax.map(agreement, (values, neighbors), batch_size=block_size))


def prediction_confidence(probabilities: Float[Array, "n k"]) -> Float[Array, ""]:
    r"""How sure the assignments are, in [1/k, 1].

    .. math:: \frac{1}{n} \sum_i \max_c p_{ic}

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
    _check_neighbors(neighbors)
    images, per_image = neighbors.shape
    degree = jnp.bincount(jnp.ravel(neighbors), length=images)
    # Integers up to here: the mean is exactly r, and cancellation costs nothing.
    excess = (degree - per_image).astype(jnp.float32)
    return jnp.sqrt(jnp.mean(excess * excess)) / per_image


def cluster_size_entropy(sizes: Int[Array, " k"]) -> Float[Array, ""]:
    r"""How evenly the clusters are used.

    .. math:: -\frac{1}{\log k} \sum_c s_c \log s_c

    with :math:`s_c` the share of the images in cluster ``c``, in [0, 1]. A real set
    need not be balanced: a low value is a fact, not always a fault.

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


def measure_risk(
    probabilities: Float[Array | np.ndarray, "n k"],
    neighbors: Int[Array | np.ndarray, "n r"],
    *,
    block_size: int = 1024,
) -> Risk:
    """Measure all label-free quantities of a clustering.

    A NumPy table of probabilities beyond 256 MiB, which may be memory-mapped, is read
    block by block where it lies; the quantities are the same to rounding.
    ``block_size`` is that of :func:`neighborhood_consistency`.

    Raises:
      InputError: Different numbers of images, no neighbour, or fewer than two
        clusters.

    Example:
      >>> import jax.numpy as jnp
      >>> risk = measure_risk(jnp.eye(3), jnp.array([[1], [2], [0]]))
      >>> [float(value) for value in risk]
      [0.0, 1.0, 0.0, 1.0, 0.0]
    """
    near = jnp.asarray(neighbors)
    if isinstance(probabilities, np.ndarray) and (
        probabilities.nbytes > _IN_MEMORY_BYTES
    ):
        consistency, confidence, counts = _measure_blocks(
            probabilities, np.asarray(neighbors)
        )
        sizes = jnp.asarray(counts.astype(np.int32))
    else:
        table = jnp.asarray(probabilities)
        consistency, confidence, sizes = _measure_table(table, near, block_size)
    return _risk(consistency, confidence, sizes, near)


@partial(jax.jit, static_argnames="block_size")
def _measure_table(
    probabilities: Float[Array, "n k"], neighbors: Int[Array, "n r"], block_size: int
) -> tuple[Array, Array, Int[Array, " k"]]:
    likeliest = jnp.argmax(probabilities, axis=-1)
    return (
        neighborhood_consistency(probabilities, neighbors, block_size=block_size),
        prediction_confidence(probabilities),
        jnp.bincount(likeliest, length=probabilities.shape[1]),
    )


@jax.jit
def _risk(
    consistency: Array, confidence: Array, sizes: Array, neighbors: Int[Array, "n r"]
) -> Risk:
    return Risk(
        consistency=consistency,
        confidence=confidence,
        imbalance=neighborhood_imbalance(neighbors),
        size_entropy=cluster_size_entropy(sizes),
        empty_clusters=jnp.sum(sizes == 0, dtype=jnp.int32),
    )


def _measure_blocks(
    probabilities: Float[np.ndarray, "n k"], neighbors: Int[np.ndarray, "n r"]
) -> tuple[Array, Array, Int[np.ndarray, " k"]]:
    """Consistency, confidence and cluster sizes from a table read block by block.

    The images are read cluster by cluster: their neighbours are mostly of the same
    one, and so are near at hand, in the processor's cache or in the system's.
    """
    _check_neighbors(neighbors, len(probabilities))
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
    return (
        jnp.float32(agreement / neighbors.size),
        jnp.float32(largest / count),
        np.bincount(assigned, minlength=clusters),
    )


def _check_neighbors(
    neighbors: Int[Array | np.ndarray, "n r"], num_images: int | None = None
) -> None:
    """Refuse an empty table, whose means would be NaN, and one of other images."""
    images, per_image = neighbors.shape
    if images < 1 or per_image < 1:
        raise InputError(
            "Expected neighbors of at least one image with at least one neighbour, "
            f"found shape {neighbors.shape}"
        )
    if num_images not in (None, images):
        raise InputError(
            "Expected probabilities and neighbors of the same images, found "
            f"{num_images} and {images}"
        )


def measure_clusters(
    assignments: Int[np.ndarray, " n"],
    images: Any,
    neighbors: Int[np.ndarray, "n r"],
    *,
    num_clusters: int,
) -> dict[str, float]:
    """Measure hard clusters without labels, those of any method alike.

    The images are unit vectors ``[n, d]`` in the space that was clustered, on devices
    or on the host; ``num_clusters`` is at least 2.

    Returns:
      ``neighbor_agreement``, the share of neighbours in the same cluster;
      ``compactness``, the mean cosine of an image to its cluster's mean
      direction, which is what spherical k-means maximises; ``size_entropy``, 1
      for clusters of equal size; and ``empty_clusters``.

    Example:
      >>> import numpy as np
      >>> images = np.eye(2)[[0, 0, 1, 1]]
      >>> near = np.array([[1], [0], [3], [2]])
      >>> found = measure_clusters(np.array([0, 0, 1, 1]), images, near, num_clusters=2)
      >>> list(found.values())
      [1.0, 1.0, 1.0, 0.0]
    """
    assignments, neighbors = np.asarray(assignments), np.asarray(neighbors)
    table = images.array if isinstance(images, HostRows) else np.asarray(images)
    shared, sums = 0, np.zeros((num_clusters, table.shape[1]))
    for start in range(0, len(assignments), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        own, block = assignments[rows], np.asarray(table[rows], np.float64)
        shared += int((assignments[neighbors[rows]] == own[:, None]).sum())
        for cluster in np.unique(own):
            sums[cluster] += block[own == cluster].sum(axis=0)
    sizes = np.bincount(assignments, minlength=num_clusters)
    shares = sizes[sizes > 0] / len(assignments)
    spread = float(-(shares * np.log(shares)).sum() / np.log(num_clusters))
    return {
        "neighbor_agreement": shared / neighbors.size,
        # The length of a cluster's sum is its images' cosines to their mean.
        "compactness": float(np.linalg.norm(sums, axis=1).sum() / len(assignments)),
        # Not minus zero where one cluster has all.
        "size_entropy": spread + 0.0,
        "empty_clusters": float((sizes == 0).sum()),
    }
