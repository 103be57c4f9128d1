"""Settings of checkpoints, and which settings a checkpoint depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mca_jax.checks import check_in_range, check_one_of

__all__ = ["CheckpointConfig", "settings_of_result"]

# Speed, memory and safety: another value of these gives the same clusters.
_WITHOUT_EFFECT = (
    "checkpoint",
    "encoder.batch_size",
    "encoder.threads",
    "retrieval.block_size",
)


@dataclass(frozen=True)
class CheckpointConfig:
    """How often training is saved, and how much of it is kept.

    The state at the end and at an interruption is always saved.

    Attributes:
      every_steps: Steps from one checkpoint to the next; 0 for none within a
        run.
      every_epochs: Passes from one to the next, likewise; both may be set.
      keep: Newest checkpoints that are kept, at least 2: the last but one is
        what a run goes back to if the last is damaged. The one with the lowest
        mean loss over a pass is kept besides.
      use: Which checkpoint a run that finds some takes: ``"newest"``, to go on
        from it, or ``"best"``, that of the lowest mean loss, to read the clusters
        out without training any further.
    """

    every_steps: int = 500
    every_epochs: int = 0
    keep: int = 2
    use: str = "newest"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("checkpoint.every_steps", self.every_steps, 0)
        check_in_range("checkpoint.every_epochs", self.every_epochs, 0)
        check_in_range("checkpoint.keep", self.keep, 2)
        check_one_of("checkpoint.use", self.use, ("best", "newest"))


def settings_of_result(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the settings that don't change the result.

    Args:
      settings: All settings, as from ``config_to_dict``.

    Returns:
      Those that a run has to share to be the same run.
    """
    return _without(settings, "")


def _without(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name: _without(value, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
        if prefix + name not in _WITHOUT_EFFECT
    }
