r"""How many clusters a set of images has, estimated without labels.

Two things are counted. The first is how many groups the best partition has: the
score of a number of clusters is the modularity of the best partition found with so
many, how much more often an image and its neighbours share a cluster than they would
by chance. It rises while splitting separates things that are not each other's
neighbours and falls when splitting cuts through neighbourhoods. One k-means with many
small pieces and a merge of the pieces, two at a time, gives the partitions of every
number at once, and that is repeated from other initializations.

The second is how many modes of the density stand out (``modes.py``), which knows
nothing of partitions: modularity counts small groups beside large ones as one, modes
are many where a group is uneven. The estimate is the geometric mean of both; smoothed
images, of which more modes stand out, say how much higher the truth may be.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.parallel import first_columns
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.exact import NeighborTable, image_neighbors
from mca_jax.neighbors.kmeans import spherical_kmeans
from mca_jax.neighbors.modes import mode_prominences
from mca_jax.neighbors.projection import (
    Projection,
    apply_projection,
    fit_projection,
    view_covariance,
)
from mca_jax.neighbors.smoothing import smooth_embeddings

__all__ = [
    "ClusterCount",
    "choose_count",
    "estimate_cluster_count",
    "merge_pieces",
    "piece_graph",
]

# Most clusters that are tried first unless a range is given, and twice as many again
# where so many are not enough.
_MOST_CLUSTERS = 80
# Ratios of distances, as logarithms, from which a mode stands out; smoothing draws
# groups together and so deepens what is between them.
_PROMINENT, _PROMINENT_SMOOTHED = 0.1, 0.8
# How far the truth was from what was counted: 94 % of 185 sets, parts of sets and
# unions of sets with known classes lie between the least count over the first and the
# largest times the second (docs/choosing.md).
_TOO_HIGH, _TOO_LOW = 1.65, 1.6

_PIECES = 150
_ITERATIONS = 15
_IMAGES_PER_PIECE = 8
_IMAGES_PER_AXIS = 8
_IMAGES_PER_NEIGHBOR = 10


class ClusterCount(NamedTuple):
    """An estimate of the number of clusters.

    Attributes:
      num_clusters: The estimate.
      low: Smallest number that isn't ruled out.
      high: Largest one.
      counts: The numbers that were tried, ascending, int32 ``[c]``.
      scores: Score of each, mean over the repeats, float64 ``[c]`` in [-1, 1].
      num_images: Images that each repeat read.
      partition: Clusters of the best partition.
      modes: Modes of the density that stand out.
    """

    num_clusters: int
    low: int
    high: int
    counts: Int[np.ndarray, " c"]
    scores: Float[np.ndarray, " c"]
    num_images: int
    partition: int = 0
    modes: int = 0


def piece_graph(
    pieces: Int[np.ndarray, " n"], neighbors: Int[np.ndarray, "n r"], num_pieces: int
) -> Float[np.ndarray, "p p"]:
    """Count which pieces neighbours lie in.

    Args:
      pieces: Piece of each image, in ``[0, num_pieces)``.
      neighbors: Rows of the neighbours of each image.
      num_pieces: ``p``.

    Returns:
      Share of all pairs of an image and its neighbour that join two pieces,
      symmetric, with a sum of 1.

    Example:
      >>> piece_graph(np.array([0, 0, 1]), np.array([[1], [0], [0]]), 2).tolist()
      [[0.6666666666666666, 0.16666666666666666], [0.16666666666666666, 0.0]]
    """
    cells = pieces[:, None].astype(np.int64) * num_pieces + pieces[neighbors]
    counts = np.bincount(cells.ravel(), minlength=num_pieces**2)
    graph = counts.reshape(num_pieces, num_pieces) / neighbors.size
    return (graph + graph.T) / 2


def merge_pieces(graph: Float[np.ndarray, "p p"]) -> Float[np.ndarray, " p"]:
    r"""Merge pieces two at a time and score every number of clusters on the way.

    The two clusters with the densest links, :math:`E_{ab} / (d_a d_b)` with
    :math:`d_a = \sum_b E_{ab}`, are merged next. The score is the modularity

    .. math:: Q = \sum_a E_{aa} - \sum_a d_a^2

    Args:
      graph: Symmetric, with a sum of 1.

    Returns:
      ``Q`` of ``k`` clusters at index ``k - 1``.

    Example:
      >>> merge_pieces(np.eye(2) / 2).tolist()
      [0.0, 0.5]

    References:
      Newman, Fast algorithm for detecting community structure in networks,
      Physical Review E 69, 2004, Eq. (1).
    """
    links = np.array(graph, np.float64)
    degrees = links.sum(axis=1)
    links, degrees = links[degrees > 0][:, degrees > 0], degrees[degrees > 0]
    # A piece without an image joins nothing: with it there is no finer partition.
    scores = np.full(len(graph), np.trace(links) - degrees @ degrees)
    alive = np.ones(len(degrees), bool)
    density = links / np.outer(degrees, degrees)
    np.fill_diagonal(density, -np.inf)
    for count in range(len(degrees), 1, -1):
        scores[count - 1] = (
            links.diagonal()[alive].sum() - degrees[alive] @ (degrees[alive])
        )
        first, second = divmod(int(density.argmax()), len(degrees))
        links[first] += links[second]
        links[:, first] += links[:, second]
        degrees[first] += degrees[second]
        alive[second] = False
        merged = np.where(alive, links[first] / (degrees[first] * degrees), -np.inf)
        merged[first] = -np.inf
        density[first], density[:, first] = merged, merged
        density[second], density[:, second] = -np.inf, -np.inf
    scores[0] = 0.0
    return scores


def choose_count(
    partition: int, modes: int, smoothed_modes: int, *, least: int, most: int
) -> tuple[int, int, int]:
    r"""Make one estimate of what was counted, with an interval.

    .. math:: k = \sqrt{k_Q\, k_\rho}, \qquad
        \Bigl[ \tfrac{1}{1.65} \min(k_Q, k_\rho, k_s),\;
        1.6 \max(k_Q, k_\rho, k_s) \Bigr]

    Args:
      partition: :math:`k_Q`, clusters of the best partition.
      modes: :math:`k_\rho`, modes of the density.
      smoothed_modes: :math:`k_s`, modes of the density of smoothed images.
      least: Smallest number that is allowed.
      most: Largest one.

    Returns:
      The estimate and the ends of the interval.

    Example:
      >>> choose_count(8, 18, 20, least=2, most=80)
      (12, 5, 32)
    """
    counted = (partition, modes, smoothed_modes)
    chosen = round(math.sqrt(partition * modes))
    low, high = round(min(counted) / _TOO_HIGH), round(max(counted) * _TOO_LOW)
    chosen = min(max(chosen, least), most)
    return chosen, min(max(low, least), chosen), max(min(high, most), chosen)


def estimate_cluster_count(
    key: PRNGKey,
    embeddings: Float[np.ndarray, "n d"],
    *,
    views: Float[np.ndarray, "s v d"] | None = None,
    least: int = 2,
    most: int | None = None,
    components: int = 128,
    whitening: float = 0.25,
    shrinkage: float = 1.0,
    num_neighbors: int = 20,
    smoothing_steps: int = 4,
    num_repeats: int = 3,
    max_images: int = 4_000,
) -> ClusterCount:
    """Estimate the number of clusters of a set from its embeddings.

    Nothing here depends on a number of clusters that is given or expected, the
    range that is searched apart.

    Args:
      key: Key of the sample and of the initializations of k-means.
      embeddings: One row an image, on the host; may be memory-mapped or float16.
      views: Embeddings of some images' views, which show what to ignore, as for the
        run; None takes principal axes.
      least: Smallest number to try, at least 2.
      most: Largest one; None takes 80 and doubles it while the interval reaches so
        far, up to what leaves 8 images a cluster.
      components: Axes to keep.
      whitening: As for ``fit_projection``.
      shrinkage: As for ``fit_projection``.
      num_neighbors: Nearest images that count as neighbours, at least 2; cut to a
        tenth of a small set. Smoothing reads half of them.
      smoothing_steps: Steps of smoothing before k-means.
      num_repeats: Initializations of k-means, at least 1.
      max_images: Images to read; of a larger set each repeat draws a sample.
        Bounds time and memory, and keeps the scale: the more images, the finer
        what lies among a fixed number of neighbours.

    Returns:
      The estimate, its interval and the score of every number.

    Raises:
      InputError: The range is empty or goes beyond the images.
    """
    count = min(len(embeddings), max_images)
    ceiling = max(least, count // _IMAGES_PER_PIECE)
    search = partial(
        _search,
        key,
        embeddings,
        views=views,
        least=least,
        count=count,
        components=components,
        whitening=whitening,
        shrinkage=shrinkage,
        num_neighbors=num_neighbors,
        smoothing_steps=smoothing_steps,
        num_repeats=num_repeats,
    )
    if most is not None:
        return search(most=most)
    most = min(max(least, _MOST_CLUSTERS), ceiling)
    found = search(most=most)
    # What isn't ruled out at the end of the range may go on behind it.
    while found.high >= most and most < ceiling:
        most = min(2 * most, ceiling)
        found = search(most=most)
    return found


def _search(
    key: PRNGKey,
    embeddings: Float[np.ndarray, "n d"],
    *,
    views: Float[np.ndarray, "s v d"] | None,
    least: int,
    most: int,
    count: int,
    components: int,
    whitening: float,
    shrinkage: float,
    num_neighbors: int,
    smoothing_steps: int,
    num_repeats: int,
) -> ClusterCount:
    """Estimate the number within a range, from ``count`` images at a time."""
    _check_range(least, most, count)
    rows = _sample(key, embeddings, count)
    # One for all repeats: to find the axes costs more than all the rest.
    projection = fit_projection(
        rows,
        components=max(2, min(components, count // _IMAGES_PER_AXIS)),
        whitening=whitening,
        within=None if views is None else view_covariance(jnp.asarray(views)),
        shrinkage=shrinkage,
    )
    find = partial(
        _neighborhood,
        projection=projection,
        num_neighbors=max(2, min(num_neighbors, count // _IMAGES_PER_NEIGHBOR)),
        smoothing_steps=smoothing_steps,
    )
    near, smoothed = find(rows)
    modes = _count_modes(near, _PROMINENT)
    smoothed_near = image_neighbors(smoothed, num_neighbors=near.indices.shape[1])
    smoothed_modes = _count_modes(smoothed_near, _PROMINENT_SMOOTHED)
    pieces = min(max(_PIECES, 2 * most), max(most, count // _IMAGES_PER_PIECE))
    scores = []
    for repeat in range(num_repeats):
        sample_key, start_key = jax.random.split(jax.random.fold_in(key, repeat))
        if repeat and count < len(embeddings):
            near, smoothed = find(_sample(sample_key, embeddings, count))
        found = spherical_kmeans(
            start_key,
            smoothed,
            num_clusters=pieces,
            num_restarts=1,
            max_iterations=_ITERATIONS,
        )
        graph = piece_graph(
            np.asarray(found.assignments), np.asarray(near.indices), pieces
        )
        scores.append(merge_pieces(graph)[least - 1 : most])
    counts = np.arange(least, most + 1, dtype=np.int32)
    mean = np.mean(scores, axis=0)
    partition = int(counts[mean.argmax()])
    chosen, low, high = choose_count(
        partition, modes, smoothed_modes, least=least, most=most
    )
    return ClusterCount(chosen, low, high, counts, mean, count, partition, modes)


def _check_range(least: int, most: int, count: int) -> None:
    """Check the range of numbers of clusters.

    Raises:
      InputError: It is empty, starts below 2 or goes beyond the images.
    """
    check_in_range("the smallest number of clusters to try", least, 2)
    if most < least:
        raise InputError(
            f"Expected a range of numbers of clusters from low to high, found {least} "
            f"to {most}"
        )
    if most > count:
        raise InputError(
            f"Expected at most as many clusters as the {count} images that are looked "
            f"at, found a range up to {most}; end it lower"
        )


def _sample(key: PRNGKey, embeddings: np.ndarray, count: int) -> jax.Array:
    """Draw rows without replacement, in their order."""
    if count == len(embeddings):
        return jnp.asarray(np.asarray(embeddings, np.float32))
    drawn = np.asarray(jax.random.permutation(key, len(embeddings)))[:count]
    return jnp.asarray(np.asarray(embeddings[np.sort(drawn)], np.float32))


def _neighborhood(
    rows: Float[Array, "n d"],
    *,
    projection: Projection,
    num_neighbors: int,
    smoothing_steps: int,
) -> tuple[NeighborTable, Float[Array, "n c"]]:
    """Find neighbours and smoothed images in the space that is clustered."""
    projected = apply_projection(projection, rows)
    near = image_neighbors(projected, num_neighbors=num_neighbors)
    smoothed, _ = smooth_embeddings(
        projected,
        first_columns(near.indices, num_neighbors // 2),
        num_steps=smoothing_steps,
    )
    return near, jnp.asarray(smoothed)


def _count_modes(near: NeighborTable, least: float) -> int:
    """Count the modes that stand out by more than ``least``."""
    found = mode_prominences(np.asarray(near.indices), np.asarray(near.similarities))
    return int((found > least).sum())
