"""Deprecated: settings are in ``mca_jax.pipeline.config``; gone in the next release."""

from mca_jax.pipeline.config import (
    Config,
    EncoderConfig,
    HeadsConfig,
    LossConfig,
    RetrievalConfig,
    SemanticsConfig,
    TrainConfig,
    apply_overrides,
    config_from_dict,
    config_to_dict,
)

__all__ = [
    "Config",
    "EncoderConfig",
    "HeadsConfig",
    "LossConfig",
    "RetrievalConfig",
    "SemanticsConfig",
    "TrainConfig",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
]
