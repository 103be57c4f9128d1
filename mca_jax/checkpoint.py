"""Checkpoints of training: written beside it, whole or not at all, checked when read.

A checkpoint is a folder named by its step. Orbax writes the arrays into ``state``;
a manifest, written last, says what they belong to and holds a checksum of every
file.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mca_jax.checks import InputError, check_in_range
from mca_jax.manifest import numbered_folders, read_manifest, remove_folder, seal
from mca_jax.plain import plain_json, printable
from mca_jax.training.snapshot import Snapshot
from mca_jax.workdir import list_differences

__all__ = ["EventHook", "TrainingCheckpoints"]

EventHook = Callable[[str, dict[str, Any]], None]

_STATE = "state"
_FORMAT = 1

# What Orbax and TensorStore raise when a disk is full or a folder is gone.
_REFUSED = (OSError, ValueError, RuntimeError)


class TrainingCheckpoints:
    """Keeps snapshots of one training run in a folder.

    Saving goes on beside training; what fails is told as an event and costs the
    run nothing but that checkpoint.
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
        on_event: EventHook | None = None,
    ) -> None:
        """Set up; the folder is made with the first checkpoint.

        Args:
          directory: Folder of this run's checkpoints, of no other's.
          identity: What the run depends on, as plain JSON: settings, and
            fingerprints of data, encoder and semantic space. A checkpoint with
            another identity is refused.
          provenance: What else to note in each checkpoint, as plain JSON.
          every_steps: Steps from one checkpoint to the next; 0 for none.
          every_epochs: Passes from one to the next; 0 for none.
          keep: Newest checkpoints that are kept, at least 1, and the best.
          on_event: Told ``"checkpoint"``, ``"resume"`` and ``"warning"`` with
            their values; without it warnings are issued as Python's.

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
        self._on_event = on_event
        self._kept: dict[int, float] = {}
        self._writer: Any = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._unfinished: tuple[int, Future[float]] | None = None
        self._asked = 0

    @property
    def kept(self) -> dict[int, float]:
        """Score of each checkpoint that is known to be whole, by its step."""
        return dict(self._kept)

    def due(self, step: int, steps_per_pass: int) -> bool:
        """Tell whether a snapshot is wanted after a step.

        Args:
          step: Steps taken.
          steps_per_pass: Steps of a pass.

        Returns:
          True where one is.
        """
        periods = (self._every_steps, self._every_epochs * steps_per_pass)
        return any(period and step % period == 0 for period in periods)

    def steps_until_due(self, step: int, steps_per_pass: int) -> int:
        """Count the steps to the next snapshot that is wanted.

        Args:
          step: Steps taken.
          steps_per_pass: Steps of a pass.

        Returns:
          At least 1.
        """
        periods = (self._every_steps, self._every_epochs * steps_per_pass)
        return min((p - step % p for p in periods if p), default=sys.maxsize)

    def preempted(self, step: int) -> bool:
        """Tell whether all hosts agree to stop after this step.

        With one host a signal says so, and no agreement is needed.

        Args:
          step: Steps taken, the same on all hosts.

        Returns:
          True where the machines are about to be taken away.
        """
        del step
        if jax.process_count() == 1:
            return False
        # The hosts agree on the number of a call, which has to rise by one.
        self._asked += 1
        return multihost_utils.reached_preemption_sync_point(self._asked)

    def restore(self, template: Snapshot) -> Snapshot | None:
        """Read the newest checkpoint that is whole.

        Half-written and damaged ones are named in a warning and removed.

        Args:
          template: A snapshot of the same shapes; the arrays come back placed on
            the devices as its are, however many there were when they were saved.

        Returns:
          The snapshot, or None if there is none.

        Raises:
          InputError: The checkpoint belongs to another configuration; what differs
            is named.
        """
        start = time.monotonic()
        step = self._choose_step(_list_arrays(template))
        if step is None:
            return None
        folder = self._folder(step)
        abstract = jax.tree.map(_abstract, template)
        found = self._orbax().restore(folder / _STATE, abstract)
        seconds = time.monotonic() - start
        self._tell("resume", {"step": step, "folder": str(folder), "seconds": seconds})
        return found

    def save(self, snapshot: Snapshot, score: float) -> None:
        """Begin to write a snapshot; its arrays may be reused on return.

        Args:
          snapshot: What to keep.
          score: A label-free score, lower is better; the best is kept longer.
        """
        self._settle()
        start = time.monotonic()
        step = int(snapshot.state.step)
        folder = self._folder(step)
        try:
            if jax.process_index() == 0:
                remove_folder(folder)
                folder.mkdir(parents=True)
                _claim_room(folder, _num_bytes(snapshot))
            self._orbax().save(folder / _STATE, snapshot)
        except _REFUSED as error:
            self._note_failure(step, error)
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
        future = self._worker.submit(self._complete, body)
        self._unfinished = (step, future)
        self._tell("checkpoint", {"step": step, "score": score, "blocked": blocked})

    def wait(self) -> int | None:
        """Wait until what was begun is written, or is known to have failed.

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

            # Tracebacks of what is told here in one line.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).addFilter(_not_of_orbax)
            self._writer = ocp.StandardCheckpointer()
        return self._writer

    def _tell(self, event: str, values: dict[str, Any]) -> None:
        if self._on_event is not None:
            self._on_event(event, values)
        elif event == "warning":
            warnings.warn(values["text"], stacklevel=2)

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
        best = min(kept, key=lambda step: (kept[step], -step))
        for step in kept.keys() - {*newest, best}:
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
            self._note_failure(step, error)
            return
        self._kept = {s: x for s, x in self._kept.items() if self._folder(s).exists()}

    def _note_failure(self, step: int, error: Exception) -> None:
        folder = self._folder(step)
        # It may hold on to the error and raise it once more.
        self._writer = None
        if jax.process_index() == 0:
            with suppress(OSError):
                remove_folder(folder)
        last = max(self._kept, default=None)
        earlier = "there is none before it" if last is None else f"step {last} is kept"
        reason = _reason(error)
        text = f"Can't write checkpoint {_shown(folder)}: {reason}; {earlier}"
        self._tell("warning", {"text": f"{text}, and training goes on"})

    def _choose_step(self, arrays: dict[str, str]) -> int | None:
        """Find the newest whole checkpoint; the first host decides for all.

        Raises:
          InputError: It belongs to another configuration.
        """
        step, refusal = None, None
        if jax.process_index() == 0:
            try:
                step = self._newest_whole(arrays)
            except InputError as error:
                refusal = error
        if jax.process_count() > 1:
            code = -1 if step is None else step
            code = -2 if refusal is not None else code
            told = int(multihost_utils.broadcast_one_to_all(np.int32(code)))
            step = told if told >= 0 else None
            if told == -2 and refusal is None:
                raise InputError("Checkpoints were refused, see the first host")
        if refusal is not None:
            raise refusal
        return step

    def _newest_whole(self, arrays: dict[str, str]) -> int | None:
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
        newest = max(whole, default=None)
        if newest is not None:
            self._check_identity(newest, whole[newest], arrays)
        use = "training starts anew" if newest is None else f"step {newest} is used"
        for folder, problem in broken:
            text = f"Checkpoint {_shown(folder)} {problem}; {use}"
            self._tell("warning", {"text": text})
            remove_folder(folder)
        self._kept = {step: manifest["score"] for step, manifest in whole.items()}
        return newest

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


def _abstract(leaf: Any) -> Any:
    """Shape, type and place of an array, for Orbax to fill."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty_like(leaf)


def _list_arrays(snapshot: Snapshot) -> dict[str, str]:
    """Type and shape of each array, by its place in the snapshot."""
    leaves, _ = jax.tree.flatten_with_path(snapshot)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            f"{leaf.dtype}{list(leaf.shape)}"
        )
        for path, leaf in leaves
    }


def _num_bytes(snapshot: Snapshot) -> int:
    leaves = jax.tree.leaves((snapshot.state, snapshot.pass_params, snapshot.monitor))
    return sum(leaf.nbytes for leaf in leaves)


def _claim_room(folder: Path, num_bytes: int) -> None:
    """Fail before Orbax starts where there is no room for its files.

    Its threads each report a write that fails half-way, in many lines.

    Raises:
      OSError: There is no room.
    """
    claim = folder / "room"
    with claim.open("wb") as file:
        try:
            # Not all arrays compress, and there are some small files beside them.
            if claim_range := getattr(os, "posix_fallocate", None):  # not on macOS
                claim_range(file.fileno(), 0, num_bytes + num_bytes // 4 + 2**18)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    claim.unlink()


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
