"""Trains the image network on groups that a user's corrections lead to."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from mca_jax.alignment.heads import cluster_logits
from mca_jax.alignment.losses import pair_loss
from mca_jax.core.numerics import safe_log
from mca_jax.core.types import Params

__all__ = ["Pairs", "make_pairs", "train_on_groups"]

_STEPS = 100
_LEARNING_RATE = 0.03
_PAIR_WEIGHT = 0.3
_ANCHOR_WEIGHT = 0.3
# Pairs are padded to so many, doubled as need be: few shapes are compiled.
_LEAST_PAIRS = 64


class Pairs(NamedTuple):
    """Two numbers each, padded at the end.

    Attributes:
      one: Rows of images.
      other: Rows of images, or their groups.
      together: Whether a pair of images belongs together.
      weights: 1, and 0 for padding.
    """

    one: Int[Array, " p"]
    other: Int[Array, " p"]
    together: Bool[Array, " p"]
    weights: Float[Array, " p"]


def make_pairs(
    together: Int[np.ndarray, "m 2"], apart: Int[np.ndarray, "c 2"] | None = None
) -> Pairs:
    """Put pairs together, padded to a power of two.

    Example:
      >>> int(make_pairs(np.array([[0, 1]])).weights.sum())
      1
    """
    both = np.asarray(together, np.int32).reshape(-1, 2)
    held = np.ones(len(both), bool)
    if apart is not None:
        both = np.concatenate([both, np.asarray(apart, np.int32).reshape(-1, 2)])
        held = np.arange(len(both)) < len(held)
    size = _LEAST_PAIRS
    while size < len(both):
        size *= 2
    rest = size - len(both)
    padded = np.pad(both, ((0, rest), (0, 0)))
    return Pairs(
        jnp.asarray(padded[:, 0]),
        jnp.asarray(padded[:, 1]),
        jnp.asarray(np.pad(held, (0, rest))),
        jnp.asarray(np.arange(size) < len(both), jnp.float32),
    )


def train_on_groups(
    params: Params,
    images: Float[Array, "n d"],
    beliefs: Float[Array, "n k"],
    *,
    pairs: Pairs,
    anchors: Pairs,
    num_steps: int = _STEPS,
) -> Params:
    r"""Train the image network; the others stay.

    .. math:: L = -\frac1n \sum_i \sum_c b_{ic} \log p_{ic} + 0.3\, L_{pair}
        - 0.3\, \frac1m \sum_a \log p_{a y_a}

    Args:
      params: Weights of the three networks.
      images: Unit vectors.
      beliefs: How likely each cluster is for each image; rows sum to 1.
      pairs: Images that are held together, or apart.
      anchors: Images whose cluster is known, and that cluster.
      num_steps: Steps over all images, at least 1.

    Returns:
      Weights of the same networks.
    """
    image = _descend(params["image"], images, beliefs, pairs, anchors, num_steps)
    return {**params, "image": image}


@partial(jax.jit, static_argnames="num_steps")
def _descend(
    weights: Any,
    images: Float[Array, "n d"],
    beliefs: Float[Array, "n k"],
    pairs: Pairs,
    anchors: Pairs,
    num_steps: int,
) -> Any:
    schedule = optax.cosine_decay_schedule(_LEARNING_RATE, num_steps)
    optimizer = optax.adam(schedule)

    def loss(weights: Any) -> Float[Array, ""]:
        # No network is built: it would be compiled anew for each result.
        own = jax.nn.softmax(cluster_logits(weights, images), axis=-1)
        whole = -jnp.mean(jnp.sum(beliefs * safe_log(own), axis=-1))
        linked = pair_loss(
            own[pairs.one], own[pairs.other], pairs.together, pairs.weights
        )
        # An image whose cluster is known is together with all of that cluster.
        known = jax.nn.one_hot(anchors.other, own.shape[1])
        anchored = pair_loss(own[anchors.one], known, anchors.together, anchors.weights)
        return whole + _PAIR_WEIGHT * linked + _ANCHOR_WEIGHT * anchored

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        weights, state = carry
        gradient = jax.grad(loss)(weights)
        updates, state = optimizer.update(gradient, state, weights)
        return (optax.apply_updates(weights, updates), state), None

    (weights, _), _ = jax.lax.scan(
        step, (weights, optimizer.init(weights)), None, length=num_steps
    )
    return weights
