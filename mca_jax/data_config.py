"""Settings of the images that a run reads, where they are a named data set."""

from __future__ import annotations

from dataclasses import dataclass

from mca_jax.checks import check_in_range

__all__ = ["DataConfig"]


@dataclass(frozen=True)
class DataConfig:
    """Which named data set, and which of its splits.

    Attributes:
      dataset: Name of a data set, or empty for images of one's own.
      train: Splits that are clustered, joined by ``+`` such as ``"train+test"``;
        empty takes the data set's own.
      score: Splits that the scores are of, likewise. Labels are read for these
        only, after training.
      limit: Most images of ``train`` and of ``score``, spread evenly; 0 takes
        all.
      any_size: Whether a set with another number of images or classes than the
        published one will do.
    """

    dataset: str = ""
    train: str = ""
    score: str = ""
    limit: int = 0
    any_size: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("data.limit", self.limit, 0)
