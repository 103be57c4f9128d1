"""Dead clusters: found after an epoch and given a part of the largest one."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.core.parallel import Rows, fetch_rows, replicate
from mca_jax.core.types import Params

__all__ = ["empty_clusters", "revive_clusters"]

# Images of the largest cluster among which the new middle is looked for.
_MOST_CANDIDATES = 2_048


def empty_clusters(
    assignments: Int[np.ndarray, " n"], num_clusters: int
) -> Int[np.ndarray, " e"]:
    """List the clusters without an image, ascending.

    Example:
      >>> empty_clusters(np.array([0, 2, 2]), 4)
      array([1, 3])
    """
    return np.flatnonzero(np.bincount(assignments, minlength=num_clusters) == 0)


@partial(jax.jit, static_argnames="heads")
def _probability_of(
    params: Params, rows: Float[Array, "b d"], cluster: Int[Array, ""], *, heads: Heads
) -> Float[Array, " b"]:
    return jax.nn.softmax(heads.image_logits(params, rows), axis=-1)[:, cluster]


def _sure_of(
    params: Params, rows: Float[np.ndarray, "b d"], cluster: int, heads: Heads
) -> Float[np.ndarray, " b"]:
    """Probability of a cluster for some rows; few shapes are compiled for it."""
    padded = np.zeros((1 << (len(rows) - 1).bit_length(), rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    found = _probability_of(params, padded, np.int32(cluster), heads=heads)
    return np.asarray(found)[: len(rows)]


def revive_clusters(
    params: Params,
    assignments: Int[np.ndarray, " n"],
    images: Rows,
    *,
    heads: Heads,
    mesh: Mesh | None = None,
) -> Params:
    """Initialize every empty cluster anew at a misfit of the largest cluster.

    Its row of the image and of the text network becomes the direction of the image
    that the largest cluster is least sure of, as long as the row of that cluster and
    with the same bias. The choice depends on the arguments alone, so that a run that
    resumes from a checkpoint chooses the same.

    Args:
      params: Weights after an epoch.
      assignments: Cluster of each image under them.
      images: Unit vectors, wherever they are.
      heads: The three networks.
      mesh: Devices that hold the weights; None for one.

    Returns:
      The same weights where no cluster is empty, else new ones.
    """
    bias = np.asarray(params["image"]["bias"])
    dead = empty_clusters(assignments, len(bias))
    if not len(dead):
        return params
    host: Any = jax.tree.map(lambda x: np.array(x), params)
    sizes = np.bincount(assignments, minlength=len(bias))
    taken: dict[int, int] = {}
    for cluster in dead:
        donor = int(sizes.argmax())
        members = np.flatnonzero(assignments == donor)
        members = members[:: max(1, len(members) // _MOST_CANDIDATES)]
        rows = fetch_rows(images, members)
        sure = _sure_of(host, rows, donor, heads)
        # Where one donor gives twice, the second gets the next misfit.
        rank = taken.setdefault(donor, 0)
        taken[donor] += 1
        misfit = rows[np.argsort(sure, kind="stable")[min(rank, len(rows) - 1)]]
        for network in (host["image"], host["text"]):
            length = np.linalg.norm(network["weight"][donor])
            network["weight"][cluster] = length * misfit
            network["bias"][cluster] = network["bias"][donor]
        # The next one comes from the cluster that is largest then.
        sizes[donor] -= sizes[donor] // 2
    return jax.tree.map(jnp.asarray, host) if mesh is None else replicate(host, mesh)
