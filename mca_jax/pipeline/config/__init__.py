"""All settings of a run, checked; as plain JSON and back."""

from mca_jax.pipeline.config.serialize import (
    Overrides,
    apply_overrides,
    config_from_dict,
    config_to_dict,
    list_overrides,
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
    "Overrides",
    "RetrievalConfig",
    "SemanticsConfig",
    "TrainConfig",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "list_overrides",
    "settings_of_result",
]
