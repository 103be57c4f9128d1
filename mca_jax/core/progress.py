"""What a run is doing: callbacks, the wall time of its stages, progress bars."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Callback", "Clock", "EpochCallback", "NoCallback", "progress_bar"]

_NO_WIDTH = {"ncols": 80, "nrows": 24}

EpochCallback = Callable[[str, dict[str, float]], None]
"""Called after each epoch with the name of a training and the epoch's history."""


class Callback(Protocol):
    """Receives the progress and the events of a run; each method may do nothing."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage such as ``"Embedding"`` starts, of ``total`` parts if known."""

    def advance(self, count: int) -> None:
        """``count`` more parts of the stage are done."""

    def log(self, event: str, values: dict[str, Any]) -> None:
        """An event such as ``"epoch"``, with its values."""


class NoCallback(Callback):
    """A callback that only issues warnings, as Python's."""

    def log(self, event: str, values: dict[str, Any]) -> None:
        """Issue a warning if it is one."""
        if event == "warning":
            warnings.warn(values["text"], stacklevel=2)


class Clock:
    """Measures the wall time of each stage and reports it to a callback.

    Attributes:
      seconds: Wall time of each stage that has ended.
      callback: What it is reported to.
    """

    def __init__(self, callback: Callback | None) -> None:
        """Start with no stage; None reports to nothing."""
        self.seconds: dict[str, float] = {}
        self.callback: Callback = callback or NoCallback()
        self._stage, self._since = "", 0.0

    def report_stage(self, stage: str, total: int | None = None) -> None:
        """End the stage before and start another, of ``total`` parts if known."""
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


def progress_bar(
    label: str, total: int | None = None, *, unit: str = "parts", **options: Any
) -> tqdm:
    """A tqdm bar on standard error, which shows only on a terminal.

    Args:
      label: What is being done, such as ``"Embedding"``.
      total: Number of its parts, or None if nobody knows.
      unit: What is counted.
      **options: Of :class:`tqdm.tqdm`.

    Returns:
      The bar, to be updated and closed, or used in a ``with`` block.

    Example:
      >>> with progress_bar("Embedding", 3, unit="images") as bar:
      ...     for _ in range(3):
      ...         _ = bar.update()
    """
    from tqdm import tqdm

    return tqdm(
        desc=label,
        total=total,
        file=sys.stderr,
        # None: not where standard error is no terminal; there may be none at all.
        disable=True if sys.stderr is None else None,
        # A terminal without a width, as some containers have, would show blanks.
        **(
            {"dynamic_ncols": True} if _terminal_width() else {"ncols": 80, "nrows": 24}
        ),
        # The time decides when to refresh: what comes from a cache, thousands at
        # once, says nothing about how often to look at what is left.
        miniters=1,
        unit=unit if options.get("unit_scale") else f" {unit}",
        **options,
    )


def _terminal_width() -> int:
    """Columns of the terminal on standard error, 0 where it doesn't say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return 0
