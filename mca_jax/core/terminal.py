"""Reports progress on one line of a terminal, with rate and time left."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]

_SECONDS_BETWEEN_LINES = 0.1
# The rate is that of the last seconds: what comes from a cache, and compiling,
# say nothing about what is left.
_RATE_SECONDS = 20.0


def _duration(seconds: float) -> str:
    """Seconds as ``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def _rate(count: float, seconds: float, unit: str) -> str:
    """Things per second with three digits that matter."""
    rate = count / seconds
    return f"{rate:.0f} {unit}/s" if rate >= 100 else f"{rate:.3g} {unit}/s"


class Progress:
    """One line on a terminal, refreshed at most ten times a second.

    Quiet where the stream is no terminal: a log file gets nothing.

    Example:
      >>> with Progress("Embedding", 3) as bar:
      ...     for _ in range(3):
      ...         bar.update()
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: str = "images",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show the first line.

        Args:
          label: What is being done, such as ``"Embedding"``.
          total: How many things there are; None where nobody knows.
          unit: What is counted.
          stream: Where to write; None is standard error.
          clock: Returns seconds that never run backwards.
        """
        self._label = label
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._count = 0
        self._started = clock()
        self._shown_at = self._started
        self._shown_length = 0
        self._recent: deque[tuple[float, int]] = deque([(self._started, 0)])
        self._closed = False
        self._enabled = self._is_terminal()
        self._show(self._line(self._started))

    def _is_terminal(self) -> bool:
        """Whether somebody may be watching."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (AttributeError, OSError, ValueError):
            return False

    def update(self, count: int = 1) -> None:
        """Count things that are done.

        Args:
          count: How many since the last call, at least 0.
        """
        self._count += count
        if not self._enabled or self._closed:
            return
        now = self._clock()
        if now - self._shown_at < _SECONDS_BETWEEN_LINES:
            return
        self._shown_at = now
        self._recent.append((now, self._count))
        while len(self._recent) > 2 and now - self._recent[1][0] > _RATE_SECONDS:
            self._recent.popleft()
        self._show(self._line(now))

    def close(self, *, finished: bool = True) -> None:
        """End the line with a summary; closing twice is fine.

        Args:
          finished: Whether all was done.
        """
        if self._closed:
            return
        self._closed = True
        seconds = self._clock() - self._started
        done = f"{self._count}"
        if not finished:
            done = "stopped at " + done
            if self._total is not None:
                done += f" of {self._total}"
        summary = f"{self._label}: {done} {self._unit} in {_duration(seconds)}"
        if self._count and seconds > 0:
            summary += f", {_rate(self._count, seconds, self._unit)}"
        self._show(summary, end="\n")

    def _line(self, now: float) -> str:
        """What there is to say in the middle of the work."""
        if self._total is None:
            parts = [f"{self._label}: {self._count}"]
        else:
            share = self._count / self._total if self._total else 1.0
            parts = [f"{self._label}: {self._count}/{self._total} {share:.0%}"]
        then, before = self._recent[0]
        if now > then and self._count > before:
            parts.append(_rate(self._count - before, now - then, self._unit))
            if self._total is not None:
                left = max(0, self._total - self._count)
                seconds = left * (now - then) / (self._count - before)
                parts.append(f"{_duration(seconds)} left")
        return ", ".join(parts)

    def _show(self, line: str, end: str = "") -> None:
        """Write a line over the one before."""
        if not self._enabled:
            return
        # One column stays free: some terminals wrap when the last is filled.
        line = line[: shutil.get_terminal_size().columns - 1]
        # Blanks instead of an escape sequence: every terminal knows them.
        blanks = " " * max(0, self._shown_length - len(line))
        self._shown_length = len(line)
        try:
            self._stream.write(f"\r{line}{blanks}{end}")
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody is watching any more; that must not end the work.
            self._enabled = False

    def __enter__(self) -> Progress:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the line; an exception is said to have stopped the work."""
        self.close(finished=kind is None)
