"""Deprecated: use ``mca_jax.pipeline.config``; gone in the next release."""

from mca_jax.pipeline.config import DataConfig

__all__ = ["DataConfig"]
