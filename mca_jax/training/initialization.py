"""Initialization: clusters of images and texts, even or of estimated sizes."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.cluster.hierarchy import DisjointSet, linkage
from scipy.sparse.csgraph import connected_components
from scipy.special import entr

from mca_jax.alignment.losses import uniform_prior
from mca_jax.core.errors import InputError
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import Rows, fetch_rows, map_rows
from mca_jax.core.random import named_key
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors import KMeansResult, spherical_kmeans
from mca_jax.neighbors.consensus import consensus_partition
from mca_jax.neighbors.diffusion import diffusion_map, neighbor_graph
from mca_jax.neighbors.kmeans import assign_nearest, best_restarts
from mca_jax.neighbors.retrieved_text import retrieve_text
from mca_jax.training import TrainingData

__all__ = [
    "Initialization",
    "choose_initialization",
    "consensus_initialization",
    "uniform_initialization",
    "estimate_prior",
    "merge_centers",
    "size_entropy",
]

# Finer clusters for each one that is wanted: two let a large class be found whole
# again, and more of them merge classes that are merely alike.
_FINENESS = 2
_DRAWS = 5
_RESTARTS = 3
# The tree over fine centres takes the square of their number, and k-means over them
# more time than the rest of a run.
_MOST_CLUSTERS = 5_000
_MOST_CLUSTERS_COMPARED = 500
_LEAST_IMAGES_A_CLUSTER = 4
_EVEN_SHARE = 0.1
# Of the diffusion map: 2 to 4 are as good, fewer join classes.
_AXES_A_CLUSTER = 3
# Beside those, while it is searched for: 16 more let six rounds do.
_MORE_AXES = 16
# Images times axes squared up to which it is taken: half a minute of two cores.
_MOST_DIFFUSION = 2**28
# Restarts of k-means for each that has a vote: most end in a worse optimum.
_TRIED_FOR_ONE_KEPT = 5
# Images times clusters up to which votes are compared: thirty of each, 480 MiB.
_MOST_VOTES = 2**22
# Evenness of merged clusters below which classes count as uneven, and images below
# which it is chance: of 42 balanced draws of seven sets and two encoders the first
# that would lose has 0.888, see benchmarks/RESULTS.md.
_UNEVEN = 0.88
_ENOUGH_IMAGES = 160


class Initialization(NamedTuple):
    """Centres that the networks begin with, and how much each should be used.

    Attributes:
      centers: Unit vectors, ``[k, c]``.
      prior: Wanted share of each cluster, ``[k]``; sums to 1.
      estimated: Whether the shares are estimated; false for even ones.
      evenness: Of the sizes of merged clusters, a :func:`size_entropy`; NaN where none
        were made.
    """

    centers: Float[Array, "k c"]
    prior: Float[Array, " k"]
    estimated: bool
    evenness: float


def merge_centers(
    centers: Float[np.ndarray, "m c"], num_clusters: int
) -> Int[np.ndarray, " m"]:
    """Merge the closest centres until few are left, by average linkage.

    k-means cuts a large class into parts of the size of the others; the parts are
    closer to each other than to another class, whatever the sizes.

    Returns:
      Group of each centre in ``[0, num_clusters)``, in order of appearance.

    Example:
      >>> merge_centers(np.array([[1.0, 0.0], [0.0, 1.0], [0.98, 0.2]]), 2)
      array([0, 1, 0], dtype=int32)
    """
    count = len(centers)
    groups = DisjointSet(range(count))
    if count > num_clusters:
        tree = linkage(np.asarray(centers, np.float64), method="average")
        # Row i of the tree makes node m + i; any leaf stands for a node.
        leaf = list(range(count))
        for left, right in tree[: count - num_clusters, :2].astype(int):
            groups.merge(leaf[left], leaf[right])
            leaf.append(leaf[left])
    names: dict[int, int] = {}
    roots = (groups[row] for row in range(count))
    return np.array([names.setdefault(root, len(names)) for root in roots], np.int32)


def estimate_prior(
    sizes: Int[np.ndarray, " k"], *, even_share: float = _EVEN_SHARE
) -> Float[np.ndarray, " k"]:
    r"""Turn sizes of clusters into wanted shares.

    .. math:: \pi_c = (1 - \epsilon)\, n_c / n + \epsilon / k

    Args:
      sizes: Images of each cluster, at least one in all.
      even_share: ``epsilon`` in [0, 1]: no cluster is wanted empty.

    Returns:
      Shares that sum to 1.

    Example:
      >>> estimate_prior(np.array([3, 1]), even_share=0.0).tolist()
      [0.75, 0.25]
    """
    shares = np.asarray(sizes, np.float64) / np.sum(sizes)
    mixed = (1.0 - even_share) * shares + even_share / len(shares)
    return mixed.astype(np.float32)


def size_entropy(sizes: Int[np.ndarray, " k"]) -> float:
    """Entropy of the sizes of clusters over that of equal ones, in [0, 1].

    Example:
      >>> round(size_entropy(np.array([2, 2, 2])), 6), size_entropy(np.array([3, 0]))
      (1.0, 0.0)
    """
    shares = np.asarray(sizes) / np.sum(sizes)
    return float(np.sum(entr(shares)) / np.log(len(sizes)))


def uniform_initialization(kmeans: KMeansResult) -> Initialization:
    """Begin with the clusters of spherical k-means, all wanted of one size."""
    prior = uniform_prior(kmeans.centers.shape[0])
    return Initialization(kmeans.centers, prior, False, float("nan"))


class _Merged(NamedTuple):
    """Merged clusters.

    Attributes:
      centers: Unit vectors, ``[k, c]``.
      assignments: Cluster of each image, ``[n]``.
      sizes: Images of each cluster, ``[k]``.
    """

    centers: np.ndarray
    assignments: np.ndarray
    sizes: np.ndarray


def _merge(
    key: PRNGKey, images: Rows, num_clusters: int, kmeans_sample: int
) -> _Merged:
    fine = spherical_kmeans(
        key,
        images,
        num_clusters=_FINENESS * num_clusters,
        num_restarts=_RESTARTS,
        sample_size=max(kmeans_sample, _FINENESS * num_clusters),
    )
    centers, finer = np.asarray(fine.centers), np.asarray(fine.assignments)
    group = merge_centers(centers, num_clusters)
    counts = np.bincount(finer, minlength=len(centers))
    sums = np.zeros((num_clusters, centers.shape[1]), np.float32)
    np.add.at(sums, group, counts[:, None] * centers)
    assignments = group[finer]
    sizes = np.bincount(assignments, minlength=num_clusters)
    return _Merged(np.asarray(l2_normalize(jnp.asarray(sums))), assignments, sizes)


def consensus_initialization(
    key: PRNGKey,
    data: TrainingData,
    kmeans: KMeansResult,
    *,
    text_weight: float = 0.5,
    trust: float = 1.0,
    attention_temperature: float = 1.0,
    num_restarts: int = 10,
    sample_size: int = 100_000,
) -> KMeansResult:
    """Find the clusters that images, their neighbours and retrieved texts agree on.

    Training hardly leaves the clusters that it begins with: what nouns know has to
    be in them. The best fifth of the restarts of k-means is taken of the images alone,
    of the images with their texts beside them and of the :func:`diffusion_map` of
    their neighbours, and their :func:`consensus_partition` is where training begins:
    the single best restart is another with another key, and follows the texts where
    they lead astray. The neighbours have twice the votes of the images.

    Args:
      key: Key of the sample and of k-means.
      data: Embeddings and neighbour tables.
      kmeans: Spherical k-means of the images alone.
      text_weight: Length of a text where an image has 1; 0 leaves the texts out.
      trust: Votes with texts for each without, in [0, 1].
      attention_temperature: Of the retrieved text, in standard deviations of the
        cosines of images and their nouns, > 0.
      num_restarts: Of k-means, with and without texts.
      sample_size: Most images that are clustered; the others follow.

    Returns:
      Centres of the images' part, and clusters of all images. Where there are too
      many images and clusters for a consensus, those of one k-means of images
      and texts, or ``kmeans`` without texts.
    """
    num_images, num_clusters = data.images.shape[0], kmeans.centers.shape[0]
    sample_key, kmeans_key = jax.random.split(key)
    affordable = min(num_images, sample_size) * num_clusters <= _MOST_VOTES
    if not text_weight and not affordable:
        return kmeans
    rows = np.arange(num_images)
    if num_images > sample_size:
        drawn = jax.random.choice(sample_key, num_images, (sample_size,), replace=False)
        rows = np.sort(np.asarray(drawn))
    images, texts = _texts_of(data, rows, attention_temperature)
    most = max(1, num_restarts // _TRIED_FOR_ONE_KEPT) if affordable else 1
    # Each space, how many of its partitions vote, and the votes of each.
    spaces: dict[str, tuple[Array, int, int]] = {}
    if text_weight:
        joint = _side_by_side(images, texts, text_weight)
        spaces["with texts"] = joint, max(1, round(trust * most)), 1
    if affordable:
        spaces["alone"] = images, most, 1
        whole = len(rows) == num_images
        walked = _walk(kmeans_key, data, num_clusters) if whole else None
        if walked is not None:
            # What is near and what is joined by steps: as many votes for either.
            spaces["by neighbours"] = walked, most, 2
    # All are kept of each and cut here: one compiled function for as many axes.
    partitions = [
        best_restarts(
            named_key(kmeans_key, name),
            space,
            num_clusters=num_clusters,
            num_restarts=num_restarts,
            num_kept=most,
        ).assignments[:count]
        for name, (space, count, _) in spaces.items()
    ]
    votes = [np.full(count, each) for _, count, each in spaces.values()]
    found = consensus_partition(
        jnp.concatenate(partitions),
        jnp.asarray(np.concatenate(votes), jnp.float32),
        num_clusters=num_clusters,
    )
    # The networks see images and nouns apart: each cluster is where its images are.
    centers = _mean_directions(images, found, num_clusters=num_clusters)
    if len(rows) < num_images:
        found = map_rows(_nearest, data.images, whole=(centers,))
    return KMeansResult(centers, found, kmeans.objective)


def _walk(
    key: PRNGKey, data: TrainingData, num_clusters: int
) -> Float[Array, "n m"] | None:
    """Place the images by steps over their neighbours; see :func:`diffusion_map`.

    None where there are too few images, or too many of them and of clusters for
    the time it takes, or where bursts of like ones that have no neighbour but each
    other outnumber the clusters: their places would be chance.
    """
    count = data.images.shape[0]
    num_axes = _AXES_A_CLUSTER * num_clusters
    if num_axes > count - 1 or count * num_axes**2 > _MOST_DIFFUSION:
        return None
    graph = neighbor_graph(fetch_rows(data.image_neighbors, np.arange(count)))
    if connected_components(graph, directed=False)[0] > num_clusters:
        return None
    width = min(num_axes + 1 + _MORE_AXES, count)
    start = jax.random.normal(named_key(key, "diffusion"), (count, width))
    return jnp.asarray(diffusion_map(np.asarray(start), graph, num_axes=num_axes))


@jax.jit
def _side_by_side(
    images: Float[Array, "n c"], texts: Float[Array, "n c"], text_weight: float
) -> Float[Array, "n e"]:
    return l2_normalize(jnp.concatenate([images, text_weight * texts], axis=1))


@partial(jax.jit, static_argnames="num_clusters")
def _mean_directions(
    images: Float[Array, "n c"], assignments: Int[Array, " n"], *, num_clusters: int
) -> Float[Array, "k c"]:
    return l2_normalize(jax.nn.one_hot(assignments, num_clusters).T @ images)


def _nearest(rows: Array, centers: Array) -> Array:
    return assign_nearest(rows, centers)[0]


def _texts_of(
    data: TrainingData, rows: np.ndarray, attention_temperature: float
) -> tuple[Float[Array, "s c"], Float[Array, "s c"]]:
    """Fetch some images and retrieve their texts."""
    images, near, cosines = (
        jnp.asarray(fetch_rows(table, rows))
        for table in (data.images, data.noun_neighbors, data.noun_similarities)
    )
    temperature = attention_temperature * max(float(jnp.std(cosines)), 1e-6)
    return images, retrieve_text(data.nouns, near, cosines, temperature=temperature)


def choose_initialization(
    key: PRNGKey,
    images: Float[Array, "n c"] | Rows,
    even: KMeansResult,
    *,
    num_clusters: int,
    prior: Literal["auto", "uniform", "estimated"] = "auto",
    kmeans_sample: int = 100_000,
) -> Initialization:
    """Choose between even clusters and merged ones of estimated sizes, label-free.

    k-means prefers clusters of one size, and so does an even prior; where classes
    differ much in size, both cut the large ones and join small ones. Merged clusters
    follow the sizes in the data, but they join classes that are alike. Their sizes
    tell which of the two it is: of balanced classes few are joined. Five draws of
    finer clusters are merged, and their :func:`consensus_partition` is judged.

    Args:
      key: Key of the finer k-means.
      images: Unit vectors.
      even: Clusters that are taken where classes are of one size.
      num_clusters: ``k``.
      prior: ``"uniform"`` or ``"estimated"`` fix the choice.
      kmeans_sample: Most images that initialize the finer k-means.

    Returns:
      Even clusters without a comparison where there are too few images or too many
      clusters for it.

    Raises:
      InputError: An estimate is asked for where there can be none.
    """
    uniform = uniform_initialization(even)
    num_images = images.shape[0]
    least = _LEAST_IMAGES_A_CLUSTER * num_clusters
    is_auto = prior == "auto"
    most = _MOST_CLUSTERS_COMPARED if is_auto else _MOST_CLUSTERS
    least = max(least, _ENOUGH_IMAGES) if is_auto else least
    impossible = num_images < least or num_clusters > most
    if prior == "uniform" or (is_auto and impossible):
        return uniform
    if impossible:
        raise InputError(
            f"Expected at most {most} clusters and at least {least} images for "
            f"losses.prior=estimated, found {num_clusters} clusters and {num_images} "
            "images; take losses.prior=uniform"
        )
    merged = _merged_clusters(key, images, num_clusters, kmeans_sample)
    evenness = size_entropy(merged.sizes)
    if is_auto and evenness >= _UNEVEN:
        return uniform._replace(evenness=evenness)
    shares = jnp.asarray(estimate_prior(merged.sizes))
    return Initialization(jnp.asarray(merged.centers), shares, True, evenness)


def _merged_clusters(
    key: PRNGKey, images: Float[Array, "n c"] | Rows, num_clusters: int, sample: int
) -> _Merged:
    """Merge several draws of finer clusters, and take what most of them agree on."""
    drawn = [
        _merge(each, images, num_clusters, sample)
        for each in jax.random.split(key, _DRAWS)
    ]
    if images.shape[0] * num_clusters > _MOST_VOTES:
        # Too many for votes: the draw in the middle.
        return sorted(drawn, key=lambda each: size_entropy(each.sizes))[_DRAWS // 2]
    votes = jnp.asarray(np.stack([each.assignments for each in drawn]))
    found = consensus_partition(votes, num_clusters=num_clusters)
    rows = jnp.asarray(fetch_rows(images, np.arange(images.shape[0])))
    centers = _mean_directions(rows, found, num_clusters=num_clusters)
    assignments = np.asarray(found)
    sizes = np.bincount(assignments, minlength=num_clusters)
    return _Merged(np.asarray(centers), assignments, sizes)
