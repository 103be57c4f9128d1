"""The attention network: how much each neighbouring noun says of an image."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["Attended", "NounAttention"]


class Attended(NamedTuple):
    """Weights of an image's neighbouring nouns.

    Attributes:
      weights: Weights of the nouns, ``[b, r]``; they sum to 1 with the null
        noun left out.
      trust: ``1 - a_null``, ``[b]`` in (0, 1): how much the nouns say at all.
    """

    weights: Float[Array, "b r"]
    trust: Float[Array, " b"]


class NounAttention(nn.Module):
    r"""Attention of an image over its nouns and one null noun.

    .. math::
      a_{ij} \propto \exp(\langle u_i, t_j\rangle / \tau_a
        + \langle W_q u_i, W_k t_j\rangle / \sqrt{d_a})

    ``W_k`` starts at zero, so that step 0 is plain softmax retrieval. The null
    noun has a fixed cosine: a softmax over real nouns alone can't say "none of
    these". It counts in the trust alone, through which the objective lets no
    gradient, so that nothing of it could be learned.

    Attributes:
      width: ``d_a``, width of queries and keys.
      temperature: ``tau_a`` > 0.
      null_similarity: Cosine of the null noun, in [-1, 1].
    """

    width: int = 64
    temperature: float = 0.05
    null_similarity: float = 0.5

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b d"],
        nouns: Float[Array, "b r d"],
        similarities: Float[Array, "b r"],
    ) -> Attended:
        """Weigh the nouns of each image by their cosines; all are unit vectors."""
        width = images.shape[-1]
        query = self.param("query", nn.initializers.lecun_normal(), (width, self.width))
        key = self.param("key", nn.initializers.zeros, (width, self.width))
        # <W_q u, W_k t> = <W_k^T W_q u, t>: moving the keys' map to the queries
        # costs one row an image instead of one a noun, d_a times less.
        directions = (images @ query) @ key.T
        learned = jnp.einsum("bd,brd->br", directions, nouns) / jnp.sqrt(self.width)
        logits = similarities / self.temperature + learned
        null_noun = self.null_similarity / self.temperature
        # trust = 1 - softmax at the null noun, in a form that can't overflow.
        trust = jax.nn.sigmoid(jax.nn.logsumexp(logits, axis=-1) - null_noun)
        return Attended(jax.nn.softmax(logits, axis=-1), trust)
