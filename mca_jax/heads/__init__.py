"""The three networks that are trained: image, text and attention."""

from mca_jax.heads.attention import Attended, NounAttention
from mca_jax.heads.bundle import Heads, build_heads
from mca_jax.heads.linear import ClusterHead

__all__ = ["Attended", "ClusterHead", "Heads", "NounAttention", "build_heads"]
