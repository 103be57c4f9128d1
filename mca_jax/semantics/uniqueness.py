"""Uniqueness filter: a noun that is close to everything says nothing."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["uniqueness", "uniqueness_mask"]

# Length of a mean of unit vectors that is rounding, in float32.
_ROUNDING = 1e-6


def uniqueness(noun_embeddings: Float[Array, "m d"]) -> Float[Array, " m"]:
    r"""Score how far each noun is from the mean noun.

    .. math:: \operatorname{uniq}(t) = 1 - \cos(t, \operatorname{mean}(T))

    The mean is over all the rows given, before any other filter, so that a
    noun's score doesn't change with the other settings. The cosine has no scale:
    however small the mean is, its direction counts. That is as it should be for
    CLIP, whose nouns all lie in one narrow cone, and harmless for embeddings
    that were centred, where hardly a noun points along what is left. Where
    nothing is left but rounding, no noun is close to it and all score 1.

    Args:
      noun_embeddings: Unit vectors ``T``, float ``[M, d]``.

    Returns:
      Score in [0, 2], float32 ``[M]``.
    """
    nouns = jnp.asarray(noun_embeddings, jnp.float32)
    mean = jnp.mean(nouns, axis=0)
    length = jnp.linalg.norm(mean)
    direction = jnp.where(length > _ROUNDING, mean / (length + _ROUNDING), 0.0)
    return 1.0 - nouns @ direction


def uniqueness_mask(
    noun_embeddings: Float[Array, "m d"], *, min_uniqueness: float | Array = 0.05
) -> Bool[Array, " m"]:
    """Mark nouns that score at least ``min_uniqueness``, in [0, 2]."""
    return uniqueness(noun_embeddings) >= min_uniqueness
