"""Several processes that make one run: how they find each other, who writes, the end.

What a process computes with the others it waits for without end; one that failed
never comes. So it leaves its reason in the key-value store of jax's distributed
runtime, where each of the others looks from time to time, and all end together.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.text import printable

__all__ = [
    "JOIN_TIMEOUT",
    "end_with_others",
    "is_first_host",
    "join_hosts",
    "on_first_host",
    "same_on_all_hosts",
    "watch_others",
]

JOIN_TIMEOUT = 300
"""Seconds that a process waits for the others to come."""

_MOST_BYTES = 1000
_PRESENT, _ENDED = "mca_jax/present", "mca_jax/ended"
_SECONDS_BETWEEN_LOOKS = 1.0
# One that fails of the same cause says so in words of its own.
_SECONDS_FOR_OWN_ERROR = 3.0
_SECONDS_FOR_THE_OTHERS = 20.0
# jax aborts the others when the first process is gone: it goes last.
_SECONDS_OF_THE_FIRST = 3.0
_SEEN = "-"

_over = threading.Event()
_watchers: list[threading.Thread] = []
# Of this process, where it is known before jax has its devices.
_process_ids: list[int] = []

Result = TypeVar("Result")


def _is_cluster() -> bool:
    """Tell whether SLURM or a TPU slice may have started several processes."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdigit() and int(tasks) > 1:
        return True
    # Kubernetes names the workers; on a TPU VM only jax can ask how many there are.
    names = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
    return any("," in os.environ.get(name, "") for name in names) or _is_tpu_vm()


def _is_tpu_vm() -> bool:
    """Tell whether jax will run on the chips of a TPU VM."""
    if "tpu" not in os.environ.get("JAX_PLATFORMS", "tpu"):
        return False
    # jax sets it where it finds no chips, and people to keep it from asking.
    if "TPU_SKIP_MDS_QUERY" in os.environ:
        return False
    return importlib.util.find_spec("libtpu") is not None


def _own_gpus() -> list[int] | None:
    """GPUs of the one process that SLURM has started on this node.

    jax by itself gives each process under SLURM a single GPU.
    """
    gpus = os.environ.get("SLURM_GPUS_ON_NODE", "")
    # "1(x4)" is one task on each of four nodes; unequal numbers have a comma.
    alone = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] == "1"
    if not (alone and gpus.isdigit()) or "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    return list(range(int(gpus))) or None


def _give_threads_to_virtual_devices() -> None:
    """Keep several virtual devices of a CPU from waiting for each other forever.

    XLA's pool has a thread for each core, and steps in flight take them all; the
    number is read when the first device is asked for.
    """
    virtual = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if virtual or "JAX_NUM_CPU_DEVICES" in os.environ:
        os.environ.setdefault("PJRT_NPROC", "16")


def join_hosts(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = JOIN_TIMEOUT,
) -> None:
    """Make this process one of several; call it before anything touches a device.

    On TPU slices and under SLURM nothing is needed: jax finds the others by
    itself. A process that is alone does nothing. The one process of a SLURM node
    takes all its GPUs.

    Args:
      coordinator: ``host:port`` of the first process, the same for all.
      num_processes: How many there are, at least 1.
      process_id: Which this is, from 0.
      timeout: Seconds to wait for the others, at least 1.

    Raises:
      InputError: Some of the three are missing, one is out of range, or the
        others could not be reached in time.
    """
    _give_threads_to_virtual_devices()
    flags = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) == len(flags) and not _is_cluster():
        return
    if missing and len(missing) < len(flags):
        raise InputError(
            f"Expected {', '.join(flags)} together, found no {' and no '.join(missing)}"
        )
    if coordinator is not None and num_processes is not None:
        host, separator, port = coordinator.rpartition(":")
        if not (host and separator and port.isdigit()):
            raise InputError(
                f"Expected --coordinator as host:port, found {coordinator!r}"
            )
        check_in_range("--num_processes", num_processes, 1)
        check_in_range("--process_id", process_id or 0, 0, num_processes - 1)
    check_in_range("--join_timeout", timeout, 1)
    initialize = partial(
        jax.distributed.initialize,
        coordinator,
        num_processes,
        process_id,
        local_device_ids=_own_gpus() if coordinator is None else None,
        # Later than here: jax ends the process, without an exception.
        initialization_timeout=timeout + 60,
    )
    rank = os.environ.get("SLURM_PROCID", os.environ.get("TPU_WORKER_ID", ""))
    if process_id is not None or rank.isdigit():
        _process_ids[:] = [int(rank) if process_id is None else process_id]
    try:
        _wait_for(initialize, timeout)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"Can't join the other processes at {coordinator or 'their address'}: "
            f"{reason}; start all of them with the same --num_processes and the "
            "same --coordinator, an address of process 0"
        ) from error


def _wait_for(action: Callable[[], object], timeout: float) -> None:
    """Do something that may not come to an end, for so long.

    Raises:
      TimeoutError: It did not end; it goes on in its thread.
    """
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"not all of them came within {timeout} s")
    if failures:
        raise failures[0]


def is_first_host() -> bool:
    """Whether this process writes the results and talks to the terminal."""
    return jax.process_index() == 0


def on_first_host(action: Callable[[], Result]) -> Result | None:
    """Do something on the first host while the others wait for it.

    Args:
      action: What to do.

    Returns:
      What it returns there, None on the others.

    Raises:
      InputError: On the other hosts, that it failed on the first; there its own
        exception passes.
    """
    if jax.process_count() == 1:
        return action()
    result: Result | None = None
    failure: BaseException | None = None
    if is_first_host():
        try:
            result = action()
        except BaseException as error:
            # Not yet raised: the others would wait for this host forever.
            failure = error
    sent = np.zeros(_MOST_BYTES, np.uint8)
    if failure is not None:
        text = (str(failure) or type(failure).__name__).encode()[:_MOST_BYTES]
        sent[: len(text)] = np.frombuffer(text, np.uint8)
    reason = multihost_utils.broadcast_one_to_all(sent).astype(np.uint8).tobytes()
    if failure is not None:
        raise failure
    if text := reason.rstrip(b"\0").decode(errors="ignore"):
        raise InputError(f"The first process failed: {text}")
    return result


def same_on_all_hosts(values: np.ndarray) -> np.ndarray:
    """Take the first host's numbers on every host; each calls this."""
    if jax.process_count() == 1:
        return values
    return np.asarray(multihost_utils.broadcast_one_to_all(values))


def watch_others(on_failure: Callable[[str], object]) -> None:
    """Watch from now on whether another process failed; this one then ends as well.

    It ends with the exit status of the other. All processes call this after
    :func:`join_hosts`; one that is alone does nothing.

    Args:
      on_failure: Called before that, with a line that names the process that
        failed, its host and its reason.
    """
    if not jax.distributed.is_initialized() or _watchers:
        return
    client = _client()
    client.key_value_set(f"{_PRESENT}/{_own_name()}", "")
    # Who fails at once waits for the others, and has to know them for it.
    client.wait_at_barrier(_PRESENT, JOIN_TIMEOUT * 1000)
    if len(_read(client, _PRESENT)) == 1:
        return
    watcher = threading.Thread(target=_watch, args=(client, on_failure), daemon=True)
    _watchers.append(watcher)
    watcher.start()

    def stop() -> None:
        _over.set()
        watcher.join()

    # Before jax takes its client down, which it does at the exit as well.
    atexit.register(stop)


def end_with_others(reason: str, status: int) -> None:
    """End this process, and tell the others to end; returns if none is watched.

    Args:
      reason: Why, in one line.
      status: Exit status of all.
    """
    if not _watchers:
        return
    _over.set()
    client, host = _client(), socket.gethostname()
    process = _process_ids[0] if _process_ids else f"(pid {os.getpid()})"
    line = f"process {process} on {host} failed: {printable(reason)}"
    until = time.monotonic() + _SECONDS_FOR_THE_OTHERS
    try:
        client.key_value_set(f"{_ENDED}/{_own_name()}", f"{status} {line}")
        # Time for them to read it.
        count = len(_read(client, _PRESENT))
        while len(_read(client, _ENDED)) < count and time.monotonic() < until:
            time.sleep(0.2)
        _let_others_go_first()
    except RuntimeError:
        # The runtime is gone already, and so are the others.
        pass
    _exit(status)


def _client() -> Any:
    """Jax's key-value store; jax itself has no public way to it."""
    from orbax.checkpoint import multihost

    return multihost.get_jax_distributed_client()


def _let_others_go_first() -> None:
    """Wait, if the store may be in this process."""
    if not _process_ids:

        def ask() -> None:
            _process_ids.append(jax.process_index())

        # Not in this thread: it waits for the others if there are no devices yet.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(1.0)
    if not _process_ids or _process_ids[0] == 0:
        time.sleep(_SECONDS_OF_THE_FIRST)


def _own_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _read(client: Any, folder: str) -> list[str]:
    """What processes left in the store, in the order of their names."""
    return [note for _, note in sorted(client.key_value_dir_get(folder))]


def _watch(client: Any, on_failure: Callable[[str], object]) -> None:
    while not _over.wait(_SECONDS_BETWEEN_LOOKS):
        try:
            notes = _read(client, _ENDED)
        except RuntimeError:
            return
        reasons = [note for note in notes if note != _SEEN]
        if not reasons:
            continue
        if _over.wait(_SECONDS_FOR_OWN_ERROR):
            return
        status, line = reasons[0].split(" ", 1)
        try:
            on_failure(line)
            client.key_value_set(f"{_ENDED}/{_own_name()}", _SEEN)
            _let_others_go_first()
        finally:
            _exit(int(status))


def _exit(status: int) -> NoReturn:
    # Not sys.exit: jax would wait at the exit for processes that don't come any
    # more, and the main thread may be waiting for them already.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
