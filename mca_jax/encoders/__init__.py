"""Frozen encoders: images and nouns into one space of unit vectors."""

from mca_jax.encoders.encoder import Encoder
from mca_jax.encoders.registry import ENCODERS, build_encoder

__all__ = ["ENCODERS", "Encoder", "build_encoder"]
