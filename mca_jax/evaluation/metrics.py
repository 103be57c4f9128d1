"""Scores of a clustering against labels: ACC, NMI and ARI.

Labels exist in this package only. Nothing that trains, chooses a setting or
names a cluster takes them; they say afterwards how good the clusters are.
scikit-learn and SciPy do the arithmetic, on exact counts; scikit-learn, half a
second to import, is loaded with the first score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from mca_jax.core.errors import InputError

__all__ = [
    "Scores",
    "adjusted_rand_index",
    "clustering_accuracy",
    "contingency_table",
    "expected_calibration_error",
    "normalized_mutual_information",
    "score_clustering",
]


class Scores(NamedTuple):
    """The three scores that clustering papers report.

    Attributes:
      acc: Clustering accuracy under the best matching, a fraction in [0, 1].
      nmi: Normalised mutual information, in [0, 1].
      ari: Adjusted Rand index, in [-0.5, 1]; 0 is what chance gives.
    """

    acc: float
    nmi: float
    ari: float


def _as_indices(name: str, values: ArrayLike) -> np.ndarray:
    """Check that ``values`` is a non-empty vector of integers from 0 on."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"Expected {name} as a vector, found shape {array.shape}")
    if array.size == 0:
        raise InputError(f"Expected {name} of at least one image, found none")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"Expected {name} as integers, found {array.dtype}")
    if array.min() < 0:
        raise InputError(f"Expected {name} from 0 on, found {array.min()}")
    return array


def _checked_pair(
    labels: ArrayLike, clusters: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Check both vectors, and that they speak of the same images."""
    known, found = _as_indices("labels", labels), _as_indices("clusters", clusters)
    if known.size != found.size:
        raise InputError(
            f"Expected one label for each clustered image, found {known.size} labels "
            f"and {found.size} clusters"
        )
    return known, found


def contingency_table(
    labels: ArrayLike,
    clusters: ArrayLike,
    num_classes: int | None = None,
    num_clusters: int | None = None,
) -> np.ndarray:
    """Count the images of each class in each cluster.

    Args:
      labels: True class of each image, integers from 0 on, shape ``[n]``.
      clusters: Cluster of each image, integers from 0 on, shape ``[n]``.
      num_classes: Rows of the table; None stands for the largest label + 1.
      num_clusters: Columns, so that a dead cluster at the end keeps its
        column; None stands for the largest cluster + 1.

    Returns:
      Counts, int64 ``[num_classes, num_clusters]``; they sum to ``n``.

    Raises:
      InputError: No image, not a vector, not integers, a negative number,
        unequal lengths, or a number beyond the table.

    Example:
      >>> contingency_table([0, 0, 1, 1, 1], [2, 2, 0, 0, 2], num_clusters=4)
      array([[0, 0, 2, 0],
             [2, 0, 1, 0]])
    """
    known, found = _checked_pair(labels, clusters)
    rows = int(known.max()) + 1 if num_classes is None else num_classes
    columns = int(found.max()) + 1 if num_clusters is None else num_clusters
    for name, values, size in (
        ("labels", known, rows),
        ("clusters", found, columns),
    ):
        if values.max() >= size:
            raise InputError(f"Expected {name} below {size}, found {values.max()}")
    table = np.zeros((rows, columns), np.int64)
    np.add.at(table, (known, found), 1)
    return table


def clustering_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    r"""Clustering accuracy (ACC): the best matching of clusters with classes.

    .. math:: \max_\pi \frac{1}{n} \sum_i [y_i = \pi(c_i)]

    over the one-to-one matchings :math:`\pi`, found by the Hungarian
    algorithm. Where classes and clusters differ in number, the images of those
    left without a partner count as wrong. A fraction in [0, 1]. Takes and
    refuses what :func:`score_clustering` does.

    Example:
      >>> clustering_accuracy([0, 0, 1, 1, 1], [2, 2, 0, 0, 2])
      0.8
    """
    from sklearn.metrics.cluster import contingency_matrix

    # Without empty rows and columns: class numbers with large gaps would make
    # the full table too large to hold.
    table = contingency_matrix(*_checked_pair(labels, clusters))
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum()) / int(table.sum())


def expected_calibration_error(
    labels: ArrayLike,
    clusters: ArrayLike,
    confidences: ArrayLike,
    *,
    num_bins: int = 15,
) -> float:
    r"""Expected calibration error (ECE) of the confidences of clusters.

    .. math:: \sum_b \frac{n_b}{n}
        \left| \mathrm{acc}(b) - \mathrm{conf}(b) \right|

    over bins of equal width in confidence (Guo et al., On Calibration of Modern
    Neural Networks, 2017). An image is right where its cluster's partner of
    :func:`clustering_accuracy` is its class.

    Args:
      labels: Classes, integers from 0 on.
      clusters: Cluster of each image, integers from 0 on.
      confidences: Of each image in its cluster, in [0, 1].
      num_bins: Bins of [0, 1], at least 1.

    Returns:
      A fraction in [0, 1]; 0 where confidence is the share of right images.

    Raises:
      InputError: As for :func:`score_clustering`; or as many confidences are not there.

    Example:
      >>> expected_calibration_error([0, 0, 1, 1], [0, 0, 1, 0], [0.75] * 4)
      0.0
    """
    known, found = _checked_pair(labels, clusters)
    sure = np.asarray(confidences, np.float64)
    if sure.shape != known.shape:
        raise InputError(
            f"Expected {known.size} confidences, found an array of shape {sure.shape}"
        )
    table = contingency_table(known, found)
    partners = np.full(len(table), -1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    partners[rows] = columns
    right = partners[known] == found
    bins = np.clip(np.ceil(sure * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, right - sure, num_bins)
    return float(np.abs(gaps).sum() / known.size)


def normalized_mutual_information(labels: ArrayLike, clusters: ArrayLike) -> float:
    r"""Normalised mutual information (NMI), arithmetic mean.

    .. math:: \frac{I(y; c)}{(H(y) + H(c)) / 2}

    A number in [0, 1]: one class found as one cluster scores 1; one of the two
    alone scores 0. Takes and refuses what :func:`score_clustering` does.

    Example:
      >>> round(normalized_mutual_information([0, 0, 1, 1], [5, 5, 2, 5]), 4)
      0.3437
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(*_checked_pair(labels, clusters)))


def adjusted_rand_index(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Adjusted Rand index (ARI): pairs of images treated alike, above chance.

    A number in [-0.5, 1]; independent partitions average 0. Two identical
    partitions score 1, also when both are one group or both are all singletons.
    Takes and refuses what :func:`score_clustering` does.

    Example:
      >>> adjusted_rand_index([0, 0, 1, 1], [5, 5, 2, 5])
      0.0

    References:
      Hubert and Arabie, Comparing partitions, 1985.
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_checked_pair(labels, clusters)))


def score_clustering(labels: ArrayLike, clusters: ArrayLike) -> Scores:
    """All three scores.

    Args:
      labels: True class of each image, integers from 0 on, shape ``[n]``.
      clusters: Cluster of each image, integers from 0 on, shape ``[n]``.

    Returns:
      Scores; a renumbering of either argument leaves them as they are.

    Raises:
      InputError: No image, not a vector, not integers, a negative number or
        unequal lengths.

    Example:
      >>> score_clustering([0, 0, 1, 1], [1, 1, 0, 0])
      Scores(acc=1.0, nmi=1.0, ari=1.0)
    """
    return Scores(
        clustering_accuracy(labels, clusters),
        normalized_mutual_information(labels, clusters),
        adjusted_rand_index(labels, clusters),
    )
