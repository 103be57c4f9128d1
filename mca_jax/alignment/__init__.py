"""The three networks that are trained: image, text and attention."""

from mca_jax.alignment.attention import Attended, NounAttention
from mca_jax.alignment.heads import ClusterHead, Heads, build_heads

__all__ = ["Attended", "ClusterHead", "Heads", "NounAttention", "build_heads"]
