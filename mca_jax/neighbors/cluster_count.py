r"""How many clusters a set of images has, estimated without labels.

The score of a number of clusters is the modularity of the best partition found
with so many: how much more often an image and its neighbours share a cluster than
they would by chance. It rises while splitting separates things that are not each
other's neighbours and falls when splitting cuts through neighbourhoods.

One k-means with many small pieces and a merge of the pieces, two at a time, gives
the partitions of every number at once. That is repeated from other initializations,
which says how far the score can be trusted.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.parallel import first_columns
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.exact import image_neighbors
from mca_jax.neighbors.kmeans import spherical_kmeans
from mca_jax.neighbors.projection import Projection, apply_projection, fit_projection
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
# Below the best score by so much, relative to it, a finer partition is as good: the
# maximum alone undercounts small groups, the known resolution limit of modularity.
# Set on draws of classes apart from those that docs/choosing.md reports.
_TOLERANCE = 0.0075
# Scores this near the best are inside the interval.
_INTERVAL_TOLERANCE = 0.02
# The score alone is too sure of itself: over sets with known classes and draws of their
# classes the estimate was up to three times too high where classes are few or alike,
# and up to twice too low. The interval takes in what four of five of them needed.
_TOO_HIGH, _TOO_LOW = 2.5, 2.0

_PIECES = 150
_ITERATIONS = 15
_IMAGES_PER_PIECE = 8
_IMAGES_PER_AXIS = 8
_IMAGES_PER_NEIGHBOR = 10


class ClusterCount(NamedTuple):
    """An estimate of the number of clusters.

    Attributes:
      num_clusters: The estimate.
      low: Smallest number that the score doesn't rule out.
      high: Largest one.
      counts: The numbers that were tried, ascending, int32 ``[c]``.
      scores: Score of each, mean over the repeats, float64 ``[c]`` in [-1, 1].
      num_images: Images that each repeat read.
    """

    num_clusters: int
    low: int
    high: int
    counts: Int[np.ndarray, " c"]
    scores: Float[np.ndarray, " c"]
    num_images: int


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
    scores: Float[np.ndarray, "s c"], counts: Int[np.ndarray, " c"]
) -> tuple[int, int, int]:
    """Choose the largest number of clusters that is nearly as good as the best.

    Args:
      scores: Scores of each repeat.
      counts: The numbers that were tried, ascending.

    Returns:
      The choice, and the ends of the interval around it: all numbers that score
      within 2 % of the best, and what each repeat alone would have chosen.

    Example:
      >>> choose_count(np.array([[0.5, 0.7, 0.697, 0.6]]), np.arange(2, 6))
      (4, 3, 4)
    """

    def near(score: np.ndarray, tolerance: float) -> np.ndarray:
        return counts[score >= score.max() - tolerance * abs(score.max())]

    mean = scores.mean(axis=0)
    chosen = int(near(mean, _TOLERANCE)[-1])
    wide = near(mean, _INTERVAL_TOLERANCE)
    alone = [int(near(score, _TOLERANCE)[-1]) for score in scores]
    return chosen, int(min(wide[0], *alone)), int(max(wide[-1], *alone))


def estimate_cluster_count(
    key: PRNGKey,
    embeddings: Float[np.ndarray, "n d"],
    *,
    least: int = 2,
    most: int | None = None,
    components: int = 128,
    whitening: float = 0.25,
    num_neighbors: int = 20,
    smoothing_steps: int = 4,
    num_repeats: int = 6,
    max_images: int = 5_000,
) -> ClusterCount:
    """Estimate the number of clusters of a set from its embeddings.

    Nothing here depends on a number of clusters that is given or expected, the
    range that is searched apart.

    Args:
      key: Key of the sample and of the initializations of k-means.
      embeddings: One row an image, on the host; may be memory-mapped or float16.
      least: Smallest number to try, at least 2.
      most: Largest one; None takes 80 and doubles it while the interval reaches so
        far, up to what leaves 8 images a cluster.
      components: Principal axes to keep.
      whitening: As for ``fit_projection``.
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
        least=least,
        count=count,
        components=components,
        whitening=whitening,
        num_neighbors=num_neighbors,
        smoothing_steps=smoothing_steps,
        num_repeats=num_repeats,
    )
    if most is not None:
        return search(most=most)
    most = min(max(least, _MOST_CLUSTERS), ceiling)
    found = search(most=most)
    # What the score doesn't rule out at the end of the range may go on behind it.
    while found.num_clusters * _TOO_LOW > most and most < ceiling:
        most = min(2 * most, ceiling)
        found = search(most=most)
    return found


def _search(
    key: PRNGKey,
    embeddings: Float[np.ndarray, "n d"],
    *,
    least: int,
    most: int,
    count: int,
    components: int,
    whitening: float,
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
    )
    find = partial(
        _neighborhood,
        projection=projection,
        num_neighbors=max(2, min(num_neighbors, count // _IMAGES_PER_NEIGHBOR)),
        smoothing_steps=smoothing_steps,
    )
    near, smoothed = find(rows)
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
        graph = piece_graph(np.asarray(found.assignments), near, pieces)
        scores.append(merge_pieces(graph)[least - 1 : most])
    counts = np.arange(least, most + 1, dtype=np.int32)
    table = np.stack(scores)
    chosen, low, high = choose_count(table, counts)
    low = max(least, min(low, int(chosen / _TOO_HIGH)))
    high = min(most, max(high, int(chosen * _TOO_LOW)))
    return ClusterCount(chosen, low, high, counts, table.mean(axis=0), count)


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
) -> tuple[np.ndarray, Float[Array, "n c"]]:
    """Find neighbours and smoothed images in the space that is clustered."""
    projected = apply_projection(projection, rows)
    near = image_neighbors(projected, num_neighbors=num_neighbors).indices
    smoothed, _ = smooth_embeddings(
        projected, first_columns(near, num_neighbors // 2), num_steps=smoothing_steps
    )
    return np.asarray(near), jnp.asarray(smoothed)
