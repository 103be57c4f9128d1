"""Confidences that mean something: a temperature found without labels.

Training drives assignments towards certainty, right or wrong. How often an image and
its neighbours share a cluster tells, without labels, how far the clusters can be
trusted: one temperature brings the mean confidence to that share.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.core.parallel import Rows, Table, fetch_rows
from mca_jax.core.types import Params, PRNGKey

__all__ = ["calibrate", "fit_temperature", "neighbor_agreement", "soften"]

# Images that the temperature is fitted on.
_SAMPLE = 20_000
_LOWEST, _HIGHEST = 0.1, 1_000.0
_HALVINGS = 40


def neighbor_agreement(
    assignments: Int[np.ndarray, " n"],
    neighbors: Int[np.ndarray, "s r"],
    rows: Int[np.ndarray, " s"],
) -> float:
    r"""How often near images share a cluster, beyond chance.

    .. math:: \frac{a - \sum_c s_c^2}{1 - \sum_c s_c^2}

    with :math:`a` the share of neighbours in the cluster of their image and
    :math:`s_c` the share of the images in cluster ``c``, as Cohen's kappa.

    Args:
      assignments: Cluster of each image of the set, at least 0.
      neighbors: Nearest images of some images, itself excluded.
      rows: Which images those are.

    Returns:
      A number of at most 1; 0 for clusters that have nothing to do with nearness,
      and where all images are in one cluster.

    Example:
      >>> near = np.array([[1], [0], [3], [2]])
      >>> neighbor_agreement(np.array([0, 0, 1, 1]), near, np.arange(4))
      1.0
    """
    shared = np.mean(assignments[neighbors] == assignments[rows][:, None])
    shares = np.bincount(assignments) / len(assignments)
    chance = float(np.sum(shares**2))
    return 0.0 if chance >= 1 else float((shared - chance) / (1 - chance))


def fit_temperature(logits: Float[Array, "n k"], confidence: float) -> float:
    """Find the temperature at which the mean confidence is what it should be.

    Args:
      logits: Assignment logits.
      confidence: Wanted mean of the largest probability.

    Returns:
      A temperature in [0.1, 1000]: an end of the range where no other fits.

    Example:
      >>> logits = jnp.array([[4.0, 0.0], [0.0, 4.0]])
      >>> round(fit_temperature(logits, 0.8), 2)  # 4 / log(0.8 / 0.2)
      2.89
    """
    return float(_temperature(logits, confidence))


@jax.jit
def _temperature(
    logits: Float[Array, "n k"], confidence: Float[Array, ""]
) -> Float[Array, ""]:
    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        sure = jnp.mean(jnp.max(jax.nn.softmax(logits / jnp.exp(middle)), axis=-1))
        # A higher temperature makes everything less sure.
        over = sure > confidence
        return jnp.where(over, middle, low), jnp.where(over, high, middle)

    ends = (jnp.log(jnp.float32(_LOWEST)), jnp.log(jnp.float32(_HIGHEST)))
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
    return jnp.exp((low + high) / 2)


def soften(params: Params, temperature: float) -> Params:
    """Divide the logits of the image network by a temperature.

    Args:
      params: Weights of the three networks.
      temperature: Above 0; the likeliest cluster of an image stays what it is.

    Returns:
      Weights of networks of the same kind.
    """
    image: dict[str, Any] = dict(params["image"])
    image["log_scale"] = image["log_scale"] - np.log(np.float32(temperature))
    image["bias"] = image["bias"] / np.float32(temperature)
    return {**params, "image": image}


def _logits(heads: Heads, params: Params, images: np.ndarray) -> Float[Array, "n k"]:
    params = jax.tree.map(np.asarray, params)
    return jax.jit(heads.image_logits)(params, jnp.asarray(images, jnp.float32))


def calibrate(
    key: PRNGKey,
    heads: Heads,
    params: Params,
    *,
    images: Float[Array, "n d"] | Rows,
    image_neighbors: Int[Array, "n r"] | Table,
    assignments: Int[np.ndarray, " n"],
) -> Params:
    """Bring the mean confidence to the agreement of near images.

    The temperature becomes part of the weights, so that new images get confidences
    of the same kind. No assignment changes.

    Args:
      key: Key of the images that the temperature is fitted on, where there are many.
      heads: The three networks.
      params: Their weights as they were trained.
      images: Unit vectors that they were trained on.
      image_neighbors: Rows of each image's nearest images.
      assignments: Cluster of each image by these weights.

    Returns:
      Weights of the same networks with other confidences.
    """
    rows = np.arange(len(assignments))
    if len(rows) > _SAMPLE:
        rows = jax.random.choice(key, len(rows), (_SAMPLE,), replace=False)
        rows = np.sort(np.asarray(rows))
    logits = _logits(heads, params, fetch_rows(images, rows))
    # In a small set the farther neighbours are other clusters', however good these are.
    most = max(1, len(assignments) // (2 * logits.shape[1]))
    near = fetch_rows(image_neighbors, rows)[:, :most]
    wanted = neighbor_agreement(assignments, near, rows)
    return soften(params, fit_temperature(logits, wanted))
