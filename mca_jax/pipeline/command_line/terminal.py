"""What all sub-commands share: progress, errors in one line, Ctrl-C, XLA's cache."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TextIO

import jax
from absl import flags
from tqdm import tqdm

from mca_jax.core.errors import InputError, InputWarning
from mca_jax.core.interrupts import raise_on_sigterm
from mca_jax.core.parallel import (
    end_with_others,
    is_first_host,
    join_hosts,
    watch_others,
)
from mca_jax.core.progress import progress_bar
from mca_jax.data import TooFewImagesError, describe_unread
from mca_jax.encoders.embed_nouns import noun_cache_dir
from mca_jax.report.write import PREDICTION_FILES, write_skipped

__all__ = ["Terminal", "keep_compiled", "run_job"]

_MOST_BYTES = 2**30

# What is said where no memory is left, beside MemoryError.
_NO_MEMORY = (
    *("RESOURCE_EXHAUSTED", "std::bad_alloc", "Cannot allocate memory"),
    *("failed to map segment", "can't start new thread"),
)

_UNITS = {
    "Embedding": "images",
    "Embedding nouns": "nouns",
    "Predicting": "images",
    "Encoding nouns": "nouns",
    "Training": "epochs",
    "Comparing pictures": "images",
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
            done = f"step {values['step']}, epoch {values['epoch']}"
            self._print(f"Training ({values['run']}) resumes from {done}")

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
    join_hosts(
        values.coordinator,
        values.num_processes,
        values.process_id,
        timeout=values.join_timeout,
    )
    watch_others(lambda line: print(f"Error: {line}", file=sys.stderr))


def _processor() -> str:
    """Identify processors for which code differs; a home folder may be shared."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [line for line in lines if line.startswith(("model name", "flags"))][:2]
    text = "\n".join([platform.machine(), platform.processor(), *found])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def keep_compiled() -> None:
    """Let this process use and fill the user's folder of compiled functions.

    Most of the time of a small run is compiling. The folder is ``compiled-*`` in that
    of the noun embeddings and is held below a GiB. One that is chosen through jax's
    own settings stays, and so does their switch that turns it off.
    """
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen or "JAX_ENABLE_COMPILATION_CACHE" in os.environ:
        return
    folder = os.path.join(noun_cache_dir(), f"compiled-{_processor()}")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning; what is the user's to know without the place in the code."""
    text = f"Warning: {message}\n"
    if not issubclass(category, InputWarning):
        text = warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)


def _list_skipped(values: flags.FlagValues, error: TooFewImagesError) -> None:
    """Say which files were not read, and list them where no result's list is."""
    text = describe_unread(error.skipped)
    if text not in str(error):
        print(text, file=sys.stderr)
    workdir = values.workdir if "workdir" in values else None
    if (
        not workdir
        or not is_first_host()
        or Path(workdir, PREDICTION_FILES[0]).exists()
    ):
        return
    with suppress(InputError):
        print(f"All are in {write_skipped(error.skipped, workdir)}", file=sys.stderr)


def _shortage(error: BaseException | None) -> str:
    """Say which resource was short, if that is why something failed; else nothing.

    Libraries raise what they like then: an import fails for want of a file handle.
    """
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or any(each in text for each in _NO_MEMORY):
            return (
                "Not enough memory; close other programs, or choose a smaller "
                "--set=encoder.batch_size or train.batch_size"
            )
        if "Too many open files" in text:
            return "Too many open files; raise the limit (ulimit -n)"
        error = error.__cause__ or error.__context__
    return ""


@cache
def _quiet_event_loops() -> None:
    """Keep quiet what is left of a checkpoint that can't be written.

    That is told in one line; its event loop and coroutines are then ended by the
    interpreter, which tells of each.
    """
    report, crash = sys.unraisablehook, sys.excepthook

    def report_others(unraisable: sys.UnraisableHookArgs, /) -> None:
        if getattr(unraisable.object, "__module__", None) != "asyncio.base_events":
            report(unraisable)

    def crash_others(
        kind: type[BaseException], error: BaseException, place: Any
    ) -> None:
        if str(error) != "Event loop is closed":
            crash(kind, error, place)

    sys.unraisablehook, sys.excepthook = report_others, crash_others
    warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)


def run_job(job: Callable[[flags.FlagValues], None], values: flags.FlagValues) -> int:
    """Run a job; bad input is one line and exit status 2.

    Args:
      job: What to do with the flags.
      values: Parsed flags.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    # At level INFO jax lists the accelerators that it did not find.
    logging.getLogger("jax").setLevel(logging.WARNING)
    warnings.showwarning = _show_warning
    _quiet_event_loops()
    raise_on_sigterm()
    try:
        keep_compiled()
        _join_others(values)
        job(values)
    except (InputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        if isinstance(error, TooFewImagesError):
            _list_skipped(values, error)
        end_with_others(str(error), 2)
        return 2
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", None)
        kept = "; ".join(
            notes
            or ["embeddings so far are kept in the workdir; run it again to resume"]
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
        shortage = _shortage(error)
        if not shortage:
            raise
        notes = getattr(error, "__notes__", ())
        # jax notes there how tracebacks are shown.
        kept = [note for note in notes if "\n" not in note]
        kept = kept or ["what is done is kept in the workdir"]
        print(f"Error: {'; '.join([shortage, *kept])}", file=sys.stderr)
        return 2
    return 0
