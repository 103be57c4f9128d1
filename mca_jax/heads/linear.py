"""The image and the text network: from an embedding to assignment logits."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["ClusterHead"]


class ClusterHead(nn.Module):
    r"""Linear assignment head that starts as a nearest-centre classifier.

    .. math:: f(u) = s\,(u W^\top) + b

    with ``W`` at the k-means centres and ``b`` at zero, so that step 0 assigns
    as k-means does. The scale ``s`` is learned through its logarithm.

    Attributes:
      num_clusters: ``k``.
      initial_scale: Starting value of ``s``, > 0: the inverse temperature of
        the assignments.
    """

    num_clusters: int
    initial_scale: float = 20.0

    @nn.compact
    def __call__(
        self, embeddings: Float[Array, "*b d"], centers: Float[Array, "k d"]
    ) -> Float[Array, "*b k"]:
        """Compute assignment logits.

        Args:
          embeddings: Unit vectors.
          centers: Starting centres; read at initialisation only.

        Returns:
          Logits of the clusters.
        """
        weight = self.param("weight", lambda _: jnp.asarray(centers, jnp.float32))
        log_scale = self.param(
            "log_scale", lambda _: jnp.log(jnp.float32(self.initial_scale))
        )
        bias = self.param("bias", nn.initializers.zeros, (self.num_clusters,))
        logits = jnp.exp(log_scale) * (embeddings @ weight.T)
        return logits + jnp.broadcast_to(bias, logits.shape)
