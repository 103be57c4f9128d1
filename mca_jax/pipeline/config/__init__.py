"""All settings of a run, checked; as plain JSON and back."""

from mca_jax.pipeline.config.serialize import (
    apply_overrides,
    config_from_dict,
    config_to_dict,
    settings_of_result,
)
from mca_jax.pipeline.config.settings import (
    CheckpointConfig,
    Config,
    DataConfig,
    EncoderConfig,
    HeadsConfig,
    LossConfig,
    RetrievalConfig,
    SemanticsConfig,
    TrainConfig,
)

__all__ = [
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EncoderConfig",
    "HeadsConfig",
    "LossConfig",
    "RetrievalConfig",
    "SemanticsConfig",
    "TrainConfig",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "settings_of_result",
]
