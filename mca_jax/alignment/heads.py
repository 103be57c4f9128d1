"""The three networks as one component of pure functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.alignment.attention import Attended, NounAttention
from mca_jax.core.types import Params, PRNGKey

__all__ = ["ClusterHead", "Heads", "build_heads", "cluster_logits"]


class ClusterHead(nn.Module):
    r"""Linear assignment head that starts as a nearest-centre classifier.

    .. math:: f(u) = s\,(u W^\top) + b

    with ``W`` at the k-means centres and ``b`` at zero, so that step 0 assigns
    as k-means does. The scale ``s`` is learned through its logarithm.

    Attributes:
      num_clusters: ``k``.
      initial_scale: Initial ``s``, > 0: the inverse temperature of the
        assignments.
    """

    num_clusters: int
    initial_scale: float = 20.0

    @nn.compact
    def __call__(
        self, embeddings: Float[Array, "*b d"], centers: Float[Array, "k d"]
    ) -> Float[Array, "*b k"]:
        """Compute logits of the clusters; ``centers`` count at initialization only."""
        weight = self.param("weight", lambda _: jnp.asarray(centers, jnp.float32))
        log_scale = self.param(
            "log_scale", lambda _: jnp.log(jnp.float32(self.initial_scale))
        )
        bias = self.param("bias", nn.initializers.zeros, (self.num_clusters,))
        weights = {"weight": weight, "log_scale": log_scale, "bias": bias}
        return cluster_logits(weights, embeddings)


def cluster_logits(
    weights: Any, embeddings: Float[Array, "*b d"]
) -> Float[Array, "*b k"]:
    """Apply the weights of a :class:`ClusterHead`, without building one."""
    logits = jnp.exp(weights["log_scale"]) * (embeddings @ weights["weight"].T)
    return logits + jnp.broadcast_to(weights["bias"], logits.shape)


class Heads(NamedTuple):
    """Image, text and attention network over one pytree of weights.

    Attributes:
      init: ``(key, centers)`` to weights; centres are ``[k, d]`` unit vectors.
      image_logits: ``(params, embeddings [b, d])`` to ``[b, k]``.
      text_logits: ``(params, embeddings [..., d])`` to ``[..., k]``.
      attend: ``(params, images [b, d], nouns [b, r, d], similarities [b, r])``
        to :class:`Attended`.
    """

    init: Callable[[PRNGKey, Float[Array, "k d"]], Params]
    image_logits: Callable[[Params, Array], Array]
    text_logits: Callable[[Params, Array], Array]
    attend: Callable[[Params, Array, Array, Array], Attended]


def build_heads(
    *,
    num_clusters: int,
    initial_scale: float = 20.0,
    attention_width: int = 64,
    attention_temperature: float = 0.05,
    null_similarity: float = 0.5,
    attention: bool = True,
) -> Heads:
    """Build the three networks.

    Args:
      num_clusters: ``k``, at least 2.
      initial_scale: Initial inverse temperature of the assignments, > 0.
      attention_width: Width of the attention's queries and keys, at least 1.
      attention_temperature: ``tau_a`` > 0.
      null_similarity: Cosine of the null noun, in [-1, 1].
      attention: False weighs all neighbouring nouns alike and trusts them fully;
        the attention's weights are there then and stay as they start.

    Returns:
      Pure functions; nothing is computed yet.
    """
    head = ClusterHead(num_clusters=num_clusters, initial_scale=initial_scale)
    network = NounAttention(
        width=attention_width,
        temperature=attention_temperature,
        null_similarity=null_similarity,
    )

    def init(key: PRNGKey, centers: Float[Array, "k d"]) -> Params:
        image_key, text_key, attention_key = jax.random.split(key, 3)
        one = jnp.zeros((1, centers.shape[1]))
        return {
            "image": head.init(image_key, one, centers)["params"],
            "text": head.init(text_key, one, centers)["params"],
            "attention": network.init(
                attention_key, one, one[:, None, :], jnp.zeros((1, 1))
            )["params"],
        }

    def logits(network: str, params: Params, embeddings: Array) -> Array:
        weights = params[network]
        found = head.apply({"params": weights}, embeddings, weights["weight"])
        return cast(Array, found)

    def attend(
        params: Params, images: Array, nouns: Array, similarities: Array
    ) -> Attended:
        if not attention:
            even = jnp.full_like(similarities, 1.0 / similarities.shape[-1])
            return Attended(even, jnp.ones_like(similarities[..., 0]))
        weights = {"params": params["attention"]}
        return cast(Attended, network.apply(weights, images, nouns, similarities))

    return Heads(init, partial(logits, "image"), partial(logits, "text"), attend)
