"""Who is told what a run is doing, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Clock", "EpochCallback", "Callback", "NoCallback"]

EpochCallback = Callable[[str, dict[str, float]], None]
"""Told the name of a training and the row of its history after each pass."""


class Callback(Protocol):
    """Told what a run is doing, for progress and logs."""

    def start(self, stage: str, total: int | None) -> None:
        """Note that a stage begins.

        Args:
          stage: Its name, such as ``"Embedding"``.
          total: Number of its parts, or None if nobody knows.
        """

    def advance(self, count: int) -> None:
        """Count parts that are done.

        Args:
          count: How many since the last call.
        """

    def log(self, event: str, values: dict[str, Any]) -> None:
        """Take a line for the log.

        Args:
          event: What happened.
          values: What belongs to it.
        """


class NoCallback:
    """A callback that tells nobody."""

    def start(self, stage: str, total: int | None) -> None:
        """Do nothing.

        Args:
          stage: Not used.
          total: Not used.
        """

    def advance(self, count: int) -> None:
        """Do nothing.

        Args:
          count: Not used.
        """

    def log(self, event: str, values: dict[str, Any]) -> None:
        """Do nothing.

        Args:
          event: Not used.
          values: Not used.
        """


class Clock:
    """Measures the wall time of each stage, and tells the callback of it.

    Attributes:
      seconds: Wall time of each stage that has ended.
      callback: Who is told.
    """

    def __init__(self, callback: Callback | None) -> None:
        """Start with no stage.

        Args:
          callback: Who is told; None tells nobody.
        """
        self.seconds: dict[str, float] = {}
        self.callback: Callback = callback or NoCallback()
        self._stage, self._since = "", 0.0

    def start(self, stage: str, total: int | None = None) -> None:
        """End the stage before and begin another.

        Args:
          stage: Its name.
          total: Number of its parts, or None if nobody knows.
        """
        self.stop()
        self._stage, self._since = stage, time.monotonic()
        self.callback.start(stage, total)

    def stop(self) -> None:
        """End the stage, if one is running."""
        if self._stage:
            spent = time.monotonic() - self._since
            self.seconds[self._stage] = spent
            self.callback.log("stage", {"stage": self._stage, "seconds": spent})
            self._stage = ""
