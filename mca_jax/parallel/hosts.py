"""Several processes that make one run: how they find each other, who writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from mca_jax.checks import InputError, check_in_range

__all__ = ["is_first_host", "join_hosts", "on_first_host"]

Result = TypeVar("Result")


def _is_cluster() -> bool:
    """Tell whether SLURM or a TPU pod slice has started several processes."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    workers = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return (tasks.isdigit() and int(tasks) > 1) or "," in workers


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
) -> None:
    """Make this process one of several; call it before anything touches a device.

    On TPU pod slices and under SLURM nothing is needed: jax finds the others by
    itself. A process that is alone does nothing.

    Args:
      coordinator: ``host:port`` of the first process, the same for all.
      num_processes: How many there are, at least 1.
      process_id: Which this is, from 0.

    Raises:
      InputError: Some of the three are missing, one is out of range, or the
        others could not be reached.
    """
    _give_threads_to_virtual_devices()
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given) and not _is_cluster():
        return
    if missing and len(missing) < len(given):
        raise InputError(
            f"Expected {', '.join(given)} together, found no {' and no '.join(missing)}"
        )
    if coordinator is not None and num_processes is not None:
        host, separator, port = coordinator.rpartition(":")
        if not (host and separator and port.isdigit()):
            raise InputError(
                f"Expected --coordinator as host:port, found {coordinator!r}"
            )
        check_in_range("--num_processes", num_processes, 1)
        check_in_range("--process_id", process_id or 0, 0, num_processes - 1)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"Can't join the other processes at {coordinator or 'their address'}: "
            f"{reason}; start all of them with the same --coordinator"
        ) from error


def is_first_host() -> bool:
    """Tell whether this process writes the results and talks to the terminal.

    Returns:
      True for the first process, and for one that is alone.
    """
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
    failed = multihost_utils.broadcast_one_to_all(np.int32(failure is not None))
    if failure is not None:
        raise failure
    if int(failed):
        raise InputError("The first process ended with an error; see what it printed")
    return result
