r"""What is seen on the images, as shares of all nouns that pictures may show.

Each image spreads one vote over the nouns,

.. math::
    P_{ij} = \mathrm{softmax}_j \Big( \frac{s}{\sigma} \,
    \cos(u_i - \bar u,\; t_j - \bar t) \Big),

with :math:`\sigma` the standard deviation of all those cosines: less its mean, a set
of aerial views or of blurred pictures is told apart by what differs in it, and an
encoder whose cosines are all alike counts as much as another. The mean vote of a
group's images is its evidence: no noun gets much of it where images and nouns don't
fit, and that is how a name is known to be a guess.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.numerics import EPSILON

__all__ = ["group_evidence", "noun_votes", "spread_sample"]

# Chosen among 1.2 to 2.6 by the names of seven sets (benchmarks/RESULTS.md).
_SHARPNESS = 1.4


def noun_votes(
    images: Float[np.ndarray, "s d"],
    nouns: Float[np.ndarray, "m d"],
    *,
    image_mean: Float[np.ndarray, " d"],
    noun_mean: Float[np.ndarray, " d"],
    sharpness: float = _SHARPNESS,
) -> Float[np.ndarray, "s m"]:
    """Spread the vote of every image over the nouns.

    Args:
      images: Embeddings of some images.
      nouns: Embeddings of the nouns.
      image_mean: Mean embedding of the set.
      noun_mean: Mean embedding of the vocabulary.
      sharpness: ``s`` above, more than 0.

    Returns:
      float32; rows sum to 1.

    Example:
      >>> votes = noun_votes(np.eye(3)[:2], np.eye(3), image_mean=np.zeros(3),
      ...                    noun_mean=np.zeros(3), sharpness=1.0)
      >>> votes.argmax(axis=1).tolist()
      [0, 1]
    """
    cosines = _centered(images, image_mean) @ _centered(nouns, noun_mean).T
    cosines *= sharpness / max(float(cosines.std()), EPSILON)
    cosines -= cosines.max(axis=1, keepdims=True)
    np.exp(cosines, out=cosines)
    cosines /= cosines.sum(axis=1, keepdims=True)
    return cosines


def _centered(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    moved = np.asarray(rows, np.float32) - np.asarray(mean, np.float32)[None]
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), EPSILON)


def spread_sample(
    groups: Int[np.ndarray, " n"], num_groups: int, *, size: int = 3000, least: int = 8
) -> Int[np.ndarray, " s"]:
    """Choose images so that every group has some, evenly through its rows.

    Args:
      groups: Group of each image.
      num_groups: How many there are.
      size: Images that are wanted in all; as many of each group as this leaves, all
        if it has less.
      least: Fewest of a group, all if it has less, whatever ``size`` says.

    Returns:
      Rows, ascending.

    Example:
      >>> spread_sample(np.array([0, 0, 0, 0, 1, 1]), 2, size=4, least=1).tolist()
      [0, 3, 4, 5]
    """
    sizes = np.sort(np.bincount(groups, minlength=num_groups))
    # With so many of each group, smaller ones whole, there are so many in all.
    taken = np.cumsum(sizes) + sizes * np.arange(len(sizes) - 1, -1, -1)
    full = int(np.searchsorted(taken, size, side="right"))
    left = size - sizes[:full].sum()
    each = max(least, int(left) // max(len(sizes) - full, 1))
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(num_groups + 1))
    chosen = []
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        count = min(each, stop - start)
        if count:
            places = np.linspace(start, stop - 1, count).round().astype(np.int64)
            chosen.append(order[places])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def group_evidence(
    votes: Float[np.ndarray, "s m"], groups: Int[np.ndarray, " s"], num_groups: int
) -> Float[np.ndarray, "k m"]:
    """Take the mean vote of each group's images; zeros for a group without any.

    Example:
      >>> group_evidence(np.eye(2), np.array([1, 1]), 2).tolist()
      [[0.0, 0.0], [0.5, 0.5]]
    """
    evidence = np.zeros((num_groups, votes.shape[1]), np.float32)
    for group in np.unique(groups).tolist():
        evidence[group] = votes[groups == group].mean(axis=0)
    return evidence
