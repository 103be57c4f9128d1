"""Checkpoints of training: written beside it, whole or not at all, checked when read.

A checkpoint is a folder named by its step. Orbax writes the arrays into ``state``;
a manifest, written last, says what they belong to and holds a checksum of every
file. Orbax's ``CheckpointManager`` would choose what to keep as well, but takes a
half-written folder for the newest checkpoint and reads a flipped bit, and one damaged
file of metrics keeps it from opening the others.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.host_tables import reserve
from mca_jax.core.parallel.hosts import on_first_host, same_on_all_hosts
from mca_jax.core.progress import NoCallback
from mca_jax.core.text import list_differences, plain_json, printable
from mca_jax.core.types import Params
from mca_jax.training.convergence import Monitor
from mca_jax.training.manifest import (
    numbered_folders,
    read_manifest,
    remove_folder,
    seal,
)
from mca_jax.training.step import TrainState

__all__ = ["Checkpointer", "EventHook", "Snapshot"]

EventHook = Callable[[str, dict[str, Any]], None]

_STATE = "state"
_FORMAT = 1

# The hosts agree on the number of a call at which to stop. It has to rise by one, and
# on from one training of a run to the next.
_CALLS = itertools.count(1)

# What Orbax and TensorStore raise when a disk is full or a folder is gone.
_REFUSED = (OSError, ValueError, RuntimeError)


class Snapshot(NamedTuple):
    """Training between two steps; from it a run resumes as if never stopped.

    Where in the data it stands follows from the step, since an epoch draws its
    order from the key and its first step. The assignments before the epoch follow
    from ``pass_params``. The names are those in checkpoints on disk.

    Attributes:
      state: What a step carries to the next.
      pass_params: Weights at the start of the running epoch, what a run that
        fails falls back to.
      monitor: What every step so far showed.
    """

    state: TrainState
    pass_params: Params
    monitor: Monitor


class Checkpointer:
    """Keeps snapshots of one training run in a folder.

    Saving runs beside training; what fails is reported as an event and costs the
    run nothing but that checkpoint.

    Attributes:
      ends_training: Whether training ends with what is restored, the best.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        identity: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
        every_steps: int = 500,
        every_epochs: int = 0,
        keep: int = 2,
        use_best: bool = False,
        on_event: EventHook | None = None,
    ) -> None:
        """Set up; the folder is made with the first checkpoint.

        Args:
          directory: Folder of this run's checkpoints, of no other's.
          identity: What the run depends on, as plain JSON: settings, and
            fingerprints of data, encoder and semantic space. A checkpoint with
            another identity is refused.
          provenance: What else to store with each checkpoint, as plain JSON.
          every_steps: Steps from one checkpoint to the next; 0 for none.
          every_epochs: Epochs from one to the next; 0 for none.
          keep: Newest checkpoints that are kept, at least 1, and the best.
          use_best: Whether the best is read in place of the newest, and training
            ends with it.
          on_event: Called with ``"checkpoint"``, ``"resume"`` or ``"warning"`` and
            its values; None issues warnings as Python's.

        Raises:
          InputError: A number is out of range.
        """
        check_in_range("checkpoint.every_steps", every_steps, 0)
        check_in_range("checkpoint.every_epochs", every_epochs, 0)
        check_in_range("checkpoint.keep", keep, 1)
        self._root = Path(directory).absolute()
        self._identity = plain_json(identity)
        self._provenance = plain_json(provenance or {})
        self._every_steps, self._every_epochs = every_steps, every_epochs
        self._keep = keep
        self._report = NoCallback().log if on_event is None else on_event
        self.ends_training = use_best
        self._kept: dict[int, float] = {}
        self._writer: Any = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._unfinished: tuple[int, Future[float]] | None = None

    @property
    def kept(self) -> dict[int, float]:
        """Score of each checkpoint that is known to be whole, by its step."""
        return dict(self._kept)

    def due(self, step: int, steps_per_epoch: int) -> bool:
        """Tell whether a snapshot is wanted after so many steps."""
        periods = (self._every_steps, self._every_epochs * steps_per_epoch)
        return any(period and step % period == 0 for period in periods)

    def steps_until_due(self, step: int, steps_per_epoch: int) -> int:
        """Count the steps to the next snapshot that is wanted, at least 1."""
        periods = (self._every_steps, self._every_epochs * steps_per_epoch)
        return min((p - step % p for p in periods if p), default=sys.maxsize)

    def preempted(self) -> bool:
        """Tell whether all hosts agree to stop, the machines being taken away.

        All hosts call it after the same steps. With one host a signal says so, and
        no agreement is needed.
        """
        if jax.process_count() == 1:
            return False
        return multihost_utils.reached_preemption_sync_point(next(_CALLS))

    def restore(self, template: Snapshot) -> Snapshot | None:
        """Read the newest checkpoint that is whole, or the best.

        Half-written and damaged ones are named in a warning and removed.

        Args:
          template: A snapshot of the same shapes; the arrays come back with its
            shardings, on however many devices they were when they were saved.

        Returns:
          The snapshot, or None if there is none.

        Raises:
          InputError: The checkpoint belongs to another configuration; what differs
            is named. Or the best is wanted and there is none.
        """
        start = time.monotonic()
        # The first host decides for all, and its refusal is everyone's.
        found = on_first_host(lambda: self._find_whole(_list_arrays(template)))
        step = int(same_on_all_hosts(np.array(-1 if found is None else found)))
        if step < 0:
            if self.ends_training:
                raise InputError(
                    f"No checkpoint in {_shown(self._root)} for checkpoint.use=best; "
                    "train first, without it"
                )
            return None
        folder = self._folder(step)
        wanted = jax.tree.map(_abstract, template)
        snapshot = self._orbax().restore(folder / _STATE, wanted)
        seconds = time.monotonic() - start
        self._report(
            "resume", {"step": step, "folder": str(folder), "seconds": seconds}
        )
        return snapshot

    def save(self, snapshot: Snapshot, score: float) -> None:
        """Start to write a snapshot; its arrays may be reused on return.

        Args:
          snapshot: What to keep.
          score: A label-free score, lower is better; the best is kept longer.
        """
        self._settle()
        start = time.monotonic()
        step = int(snapshot.state.step)
        folder = self._folder(step)
        try:
            # Orbax waits for all hosts: none may start where there is no room.
            on_first_host(partial(_make_folder, folder, snapshot))
            self._orbax().save(folder / _STATE, snapshot)
        except InputError:
            # The first host reports it.
            return
        except _REFUSED as error:
            self._report_failure(step, error)
            return
        blocked = time.monotonic() - start
        body = {
            "format": _FORMAT,
            "step": step,
            "score": score,
            "identity": self._identity,
            "arrays": _list_arrays(snapshot),
            "provenance": self._provenance,
        }
        self._unfinished = (step, self._worker.submit(self._complete, body))
        self._report("checkpoint", {"step": step, "score": score, "blocked": blocked})

    def wait(self) -> int | None:
        """Wait until what was started is written, or is known to have failed.

        Returns:
          Step of the newest checkpoint that is kept, or None.
        """
        self._settle()
        return max(self._kept, default=None)

    def _folder(self, step: int) -> Path:
        return self._root / f"{step:08d}"

    def _orbax(self) -> Any:
        if self._writer is None:
            # Half a second to import, and no use without checkpoints.
            import orbax.checkpoint as ocp

            # Tracebacks of what is reported here in one line.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).addFilter(_not_of_orbax)
            # Where one host's disk refuses, the others wait for it so long.
            options = ocp.AsyncOptions(timeout_secs=120)
            self._writer = ocp.StandardCheckpointer(async_options=options)
        return self._writer

    def _complete(self, body: dict[str, Any]) -> float:
        """Seal a checkpoint once its arrays are written, then drop old ones."""
        self._orbax().wait_until_finished()
        step, score = body["step"], body["score"]
        if jax.process_index() == 0:
            seal(self._folder(step), body)
            self._drop_old({**self._kept, step: score})
        return score

    def _drop_old(self, kept: dict[int, float]) -> None:
        newest = sorted(kept)[-self._keep :]
        for step in kept.keys() - {*newest, _best_step(kept)}:
            # What can't be removed now is tried again with the next checkpoint.
            with suppress(OSError):
                remove_folder(self._folder(step))

    def _settle(self) -> None:
        """Learn how the last save ended."""
        if self._unfinished is None:
            return
        (step, future), self._unfinished = self._unfinished, None
        try:
            self._kept[step] = future.result()
        except _REFUSED as error:
            self._report_failure(step, error)
            return
        self._kept = {s: x for s, x in self._kept.items() if self._folder(s).exists()}

    def _report_failure(self, step: int, error: Exception) -> None:
        folder = self._folder(step)
        # It may hold on to the error and raise it once more.
        self._writer = None
        if jax.process_index() == 0:
            with suppress(OSError):
                remove_folder(folder)
        last = max(self._kept, default=None)
        earlier = "there is none before it" if last is None else f"step {last} is kept"
        text = f"Can't write checkpoint {_shown(folder)}: {_reason(error)}; {earlier}"
        self._report("warning", {"text": f"{text}, and training continues"})

    def _find_whole(self, arrays: dict[str, str]) -> int | None:
        """Name and remove what is broken; check that the rest is of this run.

        Raises:
          InputError: It is of another.
        """
        whole: dict[int, dict[str, Any]] = {}
        broken: list[tuple[Path, str]] = []
        for folder in numbered_folders(self._root):
            manifest = read_manifest(folder)
            if isinstance(manifest, str):
                broken.append((folder, manifest))
            else:
                whole[int(folder.name)] = manifest
        scores = {step: manifest["score"] for step, manifest in whole.items()}
        pick = _best_step if self.ends_training else max
        chosen = pick(scores) if scores else None
        if chosen is not None:
            self._check_identity(chosen, whole[chosen], arrays)
        use = "training starts anew" if chosen is None else f"step {chosen} is used"
        for folder, problem in broken:
            text = f"Checkpoint {_shown(folder)} {problem}; {use}"
            self._report("warning", {"text": text})
            remove_folder(folder)
        self._kept = scores
        return chosen

    def _check_identity(
        self, step: int, manifest: dict[str, Any], arrays: dict[str, str]
    ) -> None:
        """Refuse a checkpoint of another run.

        Raises:
          InputError: It is of another.
        """
        different = list_differences(
            {
                "format": manifest["format"],
                **manifest["identity"],
                "arrays": manifest["arrays"],
            },
            {"format": _FORMAT, **self._identity, "arrays": arrays},
        )
        if different:
            raise InputError(
                f"Checkpoint {_shown(self._folder(step))} belongs to another "
                f"configuration: {different}; choose another folder or remove it"
            )


def _best_step(scores: Mapping[int, float]) -> int:
    """The latest of those with the lowest score."""
    return min(scores, key=lambda step: (scores[step], -step))


def _reason(error: Exception) -> str:
    """What the system said, without TensorStore's account of all its settings."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).partition(" [")[0].partition("\n")[0]
    return printable(text.rpartition(": ")[2])


def _shown(folder: Path) -> str:
    return repr(printable(str(folder)))


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname + record.getMessage()


def _abstract(leaf: Any) -> Any:
    """What Orbax fills: shape, type and sharding, an empty array on the host."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty_like(leaf)


def _list_arrays(snapshot: Snapshot) -> dict[str, str]:
    """Type and shape of each array, such as ``"float32[8, 4]"``, by its name."""
    leaves, _ = jax.tree.flatten_with_path(snapshot)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            f"{leaf.dtype}{list(leaf.shape)}"
        )
        for path, leaf in leaves
    }


def _make_folder(folder: Path, snapshot: Snapshot) -> None:
    """Fail before Orbax starts where there is no room for its files.

    Its threads each report a write that fails half-way, in many lines.

    Raises:
      OSError: There is no room.
    """
    remove_folder(folder)
    folder.mkdir(parents=True)
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(snapshot))
    claim = folder / "room"
    with claim.open("wb") as file:
        # Not all arrays compress, and there are some small files beside them.
        reserve(file.fileno(), num_bytes + num_bytes // 4 + 2**18)
    claim.unlink()
