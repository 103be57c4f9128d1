"""All keys of a run: made once from one key, each by the name of its stage."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import jax

from mca_jax.core.types import PRNGKey

__all__ = ["RunKeys", "make_keys", "named_key"]


class RunKeys(NamedTuple):
    """One key for each random stage of a run.

    Attributes:
      cluster_count: Estimate of the number of clusters.
      neighbor_search: Inverted lists of an approximate search.
      kmeans: Restarts of k-means.
      initialization: Finer clusters, and the sample that the choice is made on.
      training: Initial weights, order of the images, neighbours that are drawn.
      calibration: Images that the temperature is fitted on.
      baselines: k-means of the simpler methods.
    """

    cluster_count: PRNGKey
    neighbor_search: PRNGKey
    kmeans: PRNGKey
    initialization: PRNGKey
    training: PRNGKey
    calibration: PRNGKey
    baselines: PRNGKey


def make_keys(key: PRNGKey) -> RunKeys:
    """Make the keys of a run.

    Args:
      key: Root key, such as ``jax.random.key(seed)``.

    Returns:
      One child of it for each stage.

    Example:
      >>> keys = make_keys(jax.random.key(0))
      >>> bool(keys.kmeans == keys.training)
      False
    """
    return RunKeys(*(named_key(key, name) for name in RunKeys._fields))


def named_key(key: PRNGKey, name: str) -> PRNGKey:
    """Derive the key of a stream from its name.

    ``split(key, n)[i]`` is ``fold_in(key, i)``, so streams that are told apart by
    small numbers meet those of restarts and steps. Sixty-four bits of a hash don't.

    Args:
      key: Key of the whole.
      name: Name of the part.

    Returns:
      A key of its own for every name.
    """
    digest = hashlib.sha256(name.encode()).digest()
    for part in (digest[:4], digest[4:8]):
        key = jax.random.fold_in(key, int.from_bytes(part, "little"))
    return key
