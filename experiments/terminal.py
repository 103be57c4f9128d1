"""What all launchers do alike: progress, errors in one line, Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import jax
from absl import flags
from tqdm import tqdm

from experiments.compiled import keep_compiled
from mca_jax.core.errors import InputError
from mca_jax.core.interrupts import raise_on_sigterm
from mca_jax.core.parallel import end_with_others, join_hosts, watch_others
from mca_jax.core.progress import progress_bar

__all__ = ["Terminal", "parse_flags", "run_job"]

_UNITS = {
    "Embedding": "images",
    "Embedding nouns": "nouns",
    "Predicting": "images",
    "Encoding nouns": "nouns",
    "Training": "passes",
}


class _Log(Protocol):
    """Keeps events."""

    def write(self, event: str, /, **values: Any) -> None: ...


class Terminal:
    """Shows progress on a terminal and writes the logs."""

    def __init__(self, *logs: _Log) -> None:
        """Start without a stage.

        Args:
          *logs: Where events go.
        """
        self._logs = logs
        self._bar: tqdm | None = None

    def start(self, stage: str, total: int | None) -> None:
        """Show that a stage begins.

        Args:
          stage: Its name.
          total: Number of its parts, or None if nobody knows.
        """
        self.close()
        self._bar = progress_bar(stage, total, unit=_UNITS.get(stage, "parts"))

    def advance(self, count: int) -> None:
        """Show that parts are done.

        Args:
          count: How many since the last call.
        """
        if self._bar is not None:
            self._bar.update(count)

    def log(self, event: str, values: dict[str, Any]) -> None:
        """Write a line of each log.

        Args:
          event: What happened.
          values: What belongs to it.
        """
        for log in self._logs:
            log.write(event, **values)
        if event == "warning":
            self._print(f"Warning: {values['text']}")
        elif event == "resume":
            done = f"step {values['step']}, pass {values['epoch']}"
            self._print(f"Training ({values['run']}) goes on from {done}")

    def _print(self, line: str) -> None:
        # Above the bar, which stays the last line.
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """End the stage that is shown; closing twice is fine."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Terminal:
        """Return the terminal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is shown."""
        self.close()


def _join_others(values: flags.FlagValues) -> None:
    """Make this one of several processes, before anything touches a device."""
    if "coordinator" in values:
        join_hosts(
            values.coordinator,
            values.num_processes,
            values.process_id,
            timeout=values.join_timeout,
        )
        watch_others(lambda line: print(f"Error: {line}", file=sys.stderr))


def run_job(job: Callable[[flags.FlagValues], None], argv: list[str]) -> int:
    """Run a job; bad input is one line and exit status 2.

    Args:
      job: What to do with the flags.
      argv: What absl leaves of the command line.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    # jax tells at level INFO which accelerators it did not find.
    logging.getLogger("jax").setLevel(logging.WARNING)
    raise_on_sigterm()
    try:
        if len(argv) > 1:
            raise InputError(f"Unknown argument {argv[1]!r}; every flag starts with --")
        keep_compiled()
        _join_others(flags.FLAGS)
        job(flags.FLAGS)
    except (InputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        end_with_others(str(error), 2)
        return 2
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", None)
        kept = "; ".join(
            notes
            or ["embeddings so far are kept in the workdir; run it again to go on"]
        )
        print(f"\nInterrupted: {kept}", file=sys.stderr)
        status = 128 + getattr(error, "signum", signal.SIGINT)
        if not getattr(error, "everywhere", False):
            end_with_others("interrupted", status)
        return status
    except Exception as error:
        if jax.distributed.is_initialized():
            traceback.print_exc()
            end_with_others(f"{type(error).__name__}: {error}".partition("\n")[0], 1)
        raise
    return 0


def parse_flags(argv: list[str]) -> list[str]:
    """Parse the command line; an unknown flag is one line and exit status 2.

    Args:
      argv: The command line.

    Returns:
      What is no flag.
    """
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
