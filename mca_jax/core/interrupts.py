"""Ctrl-C and SIGTERM: held back until a safe moment, told apart by their number."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "Interrupted",
    "Pending",
    "end_on_interrupt",
    "hold_interrupts",
    "raise_on_sigterm",
]

_NOTHING_BEGUN = b"\nInterrupted: nothing was begun\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, by Ctrl-C or by whoever lends the machine.

    Notes on it say what is kept.

    Attributes:
      signum: The signal; a launcher exits with 128 more.
      everywhere: Whether all processes of the run have agreed to stop here.
    """

    def __init__(
        self, signum: int = signal.SIGINT, *, everywhere: bool = False
    ) -> None:
        """Keep the number of the signal."""
        super().__init__(signal.Signals(signum).name)
        self.signum = int(signum)
        self.everywhere = everywhere


class Pending:
    """A signal that came and was not acted on yet.

    Attributes:
      signum: Number of the signal, or None.
    """

    def __init__(self) -> None:
        """Start without a signal."""
        self.signum: int | None = None


@contextmanager
def hold_interrupts(active: bool = True) -> Iterator[Pending]:
    """Hold the first SIGINT or SIGTERM back; the second one is raised at once.

    Outside the main thread, where Python delivers no signals, nothing is held.

    Yields:
      Has the number of the signal, for the body to act on.

    Raises:
      Interrupted: At the end of the body, of a signal that it did not act on;
        inside it, of a second signal.
    """
    pending = Pending()
    if not active or threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def hold(signum: int, frame: FrameType | None) -> None:
        if pending.signum is not None:
            raise Interrupted(signum)
        pending.signum = signum

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each in _SIGNALS:
        signal.signal(each, hold)
    try:
        yield pending
    finally:
        for each, handler in before.items():
            # None stands for a handler that Python did not install.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
    if pending.signum is not None:
        raise Interrupted(pending.signum)


@contextmanager
def end_on_interrupt() -> Iterator[None]:
    """End the process on Ctrl-C, in one line, while nothing has begun.

    An exception would come out of the middle of some import, as a traceback or as an
    error that says something else. Where Ctrl-C is ignored it stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield
        return

    def end(signum: int, frame: FrameType | None) -> None:
        # Not print: the signal may come in the middle of one.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _NOTHING_BEGUN)
        os._exit(128 + signum)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def raise_on_sigterm() -> None:
    """Make SIGTERM raise :class:`Interrupted` in the main thread, as Ctrl-C does.

    For launchers; a library leaves its host's handlers alone.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    signal.signal(signal.SIGTERM, stop)
