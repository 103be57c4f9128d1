"""Processes of one run end together: one that fails tells the others why.

What a process computes with the others it waits for without end; one that failed
never comes. So it leaves its reason in the key-value store of jax's distributed
runtime, where each of the others looks from time to time.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from jax._src import distributed  # jax has no public way to its key-value store

from mca_jax.core.text import printable

__all__ = ["end_with_others", "watch_others"]

_FOLDER = "mca_jax/ended"
_SECONDS_BETWEEN_LOOKS = 1.0
# One that fails of the same cause says so in words of its own.
_SECONDS_FOR_OWN_ERROR = 3.0
_SECONDS_FOR_THE_OTHERS = 20.0
# jax aborts the others when the first process is gone: it goes last.
_SECONDS_OF_THE_FIRST = 3.0

_SEEN = "-"

_over = threading.Event()
_watchers: list[threading.Thread] = []


def watch_others(tell: Callable[[str], object]) -> None:
    """Watch from now on whether another process failed; this one then ends as well.

    It ends with the exit status of the other. A process that is alone does nothing.

    Args:
      tell: Called before that, with a line that names the process that failed,
        its host and its reason.
    """
    state = distributed.global_state
    if state.client is None or state.num_processes == 1 or _watchers:
        return
    watcher = threading.Thread(
        target=_watch, args=(state.client, state.process_id, tell), daemon=True
    )
    _watchers.append(watcher)
    watcher.start()

    def stop() -> None:
        _over.set()
        watcher.join()

    # Before jax takes its client down, which it does at the exit as well.
    atexit.register(stop)


def end_with_others(reason: str, status: int) -> None:
    """End this process, and tell the others to end; returns if it is alone.

    Args:
      reason: Why, in one line.
      status: Exit status of all.
    """
    state = distributed.global_state
    if state.client is None or state.num_processes == 1:
        return
    _over.set()
    if _watchers:
        note = f"{status} {socket.gethostname()} {printable(reason)}"
        _leave(state.client, state.process_id, state.num_processes, note)
    _exit(status)


def _leave(client: Any, own: int, count: int, note: str) -> None:
    """Leave a note, and give the others time to read it.

    The first process is where the notes are kept: it goes last.
    """
    until = time.monotonic() + _SECONDS_FOR_THE_OTHERS
    try:
        client.key_value_set(f"{_FOLDER}/{own}", note)
        while len(_read(client)) < count and time.monotonic() < until:
            time.sleep(0.2)
        if own == 0:
            time.sleep(_SECONDS_OF_THE_FIRST)
    except RuntimeError:
        # The runtime is gone already, and so are the others.
        return


def _read(client: Any) -> dict[int, str]:
    """Notes of the processes that have ended, by their index."""
    found = client.key_value_dir_get(_FOLDER)
    return {int(key.rpartition("/")[2]): note for key, note in found}


def _watch(client: Any, own: int, tell: Callable[[str], object]) -> None:
    while not _over.wait(_SECONDS_BETWEEN_LOOKS):
        try:
            notes = _read(client)
        except RuntimeError:
            return
        reasons = {index: note for index, note in notes.items() if note != _SEEN}
        if not reasons:
            continue
        if _over.wait(_SECONDS_FOR_OWN_ERROR):
            return
        first = min(reasons)
        status, host, reason = reasons[first].split(" ", 2)
        try:
            tell(f"process {first} on {host} failed: {reason}")
            client.key_value_set(f"{_FOLDER}/{own}", _SEEN)
            if own == 0:
                time.sleep(_SECONDS_OF_THE_FIRST)
        finally:
            _exit(int(status))


def _exit(status: int) -> NoReturn:
    # Not sys.exit: jax would wait at the exit for processes that don't come any
    # more, and the main thread may be waiting for them already.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
