"""The events of a review: a file that only grows, and the groups that they lead to.

Every change is one line of ``review/events.jsonl`` in the run's workdir, on the disk
before anybody is told that it was made. A process that is killed loses nothing; a
line that was cut short by a power cut is dropped, and said.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mca_jax.core.atomic_files import refused_by_system
from mca_jax.core.errors import InputError
from mca_jax.core.text import dump_json, fingerprint, load_json, printable
from mca_jax.model.files import model_digest
from mca_jax.model.result import ClusterResult
from mca_jax.report.review.groups import (
    Groups,
    apply_event,
    check_name,
    describe_event,
    first_groups,
)

__all__ = [
    "EVENTS_FILE",
    "REVIEW_FOLDER",
    "History",
    "Review",
    "open_review",
    "put_aside",
    "read_review",
]

REVIEW_FOLDER = "review"
"""Folder of a review in the workdir of its run."""

EVENTS_FILE = "events.jsonl"
"""Name of the file of events."""

_FORMAT, _VERSION = "mca_jax review", 1
_ANOTHER = "the review was begun on another state of the run"


class _Step(NamedTuple):
    """An edit that can be undone: what it changed, as it was before.

    Whole tables of many images for each step would fill the memory.
    """

    event: Mapping[str, Any]
    text: str
    rows: np.ndarray
    of: np.ndarray
    placed: np.ndarray
    duplicates: np.ndarray
    before: Groups


class _Redo(NamedTuple):
    event: Mapping[str, Any]
    text: str


class History:
    """All edits so far.

    Attributes:
      groups: The groups now.
      versions: Groups that were given a name, by it, oldest first.
      count: Number of events.
      next_id: An id that no group ever had.
    """

    def __init__(self, result: ClusterResult) -> None:
        """Begin with the groups as the run made them."""
        self._tree = result.tree
        self.first = first_groups(result)
        self.groups = self.first
        self.versions: dict[str, Groups] = {}
        self.count = 0
        columns = 0 if result.model is None else len(result.model.groups)
        # A column's number is the id of a part that training may make of it.
        self.next_id = max([columns, *(each.id + 1 for each in result.clusters)])
        self._done: list[_Step] = []
        self._undone: list[_Redo] = []

    @property
    def undo(self) -> str:
        """What would be undone, or nothing."""
        return self._done[-1].text if self._done else ""

    @property
    def redo(self) -> str:
        """What would be done again, or nothing."""
        return self._undone[-1].text if self._undone else ""

    @property
    def edits(self) -> list[str]:
        """The edits that hold, in words."""
        return [step.text for step in self._done]

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """The edits that hold."""
        return [step.event for step in self._done]

    def _next(self, event: Mapping[str, Any]) -> Groups | None:
        action = event.get("action")
        if action == "undo" and not self._done:
            raise InputError("There is nothing to undo")
        if action == "redo" and not self._undone:
            raise InputError("There is nothing to do again")
        if action == "version":
            name = check_name(event.get("name"), replace(self.groups, names={}))
            if name in self.versions:
                raise InputError(f"A version is called {name!r} already; take another")
        if action in ("undo", "redo", "version"):
            return None
        return apply_event(self.groups, event, tree=self._tree)

    def add(
        self, event: Mapping[str, Any], write: Callable[[], None] | None = None
    ) -> None:
        """Add an event.

        Args:
          event: The event.
          write: Writes it down once it is known to be right, and before it holds.

        Raises:
          InputError: It can't be applied or written; nothing has changed.
        """
        after = self._next(event)
        if write is not None:
            write()
        if after is not None:
            self._undone.clear()
            self._apply(event, after)
        elif event["action"] == "undo":
            self._undo()
        elif event["action"] == "redo":
            again = self._undone.pop().event
            self._apply(again, apply_event(self.groups, again, tree=self._tree))
        else:
            self.versions[event["name"].strip()] = self.groups
        self.count += 1

    def _apply(self, event: Mapping[str, Any], after: Groups) -> None:
        before = self.groups
        changed = (
            (before.of != after.of)
            | (before.placed != after.placed)
            | (before.duplicates != after.duplicates)
        )
        rows = np.flatnonzero(changed).astype(np.int32)
        empty = np.zeros(0, np.int32)
        step = _Step(
            event,
            describe_event(before, after, event),
            rows,
            before.of[rows],
            before.placed[rows],
            before.duplicates[rows],
            # Without its tables.
            replace(before, of=empty, placed=empty, duplicates=empty),
        )
        self._done.append(step)
        self.groups = after
        self.next_id = max(self.next_id, *(id + 1 for id in after.names))

    def _undo(self) -> None:
        step = self._done.pop()
        of, placed = self.groups.of.copy(), self.groups.placed.copy()
        duplicates = self.groups.duplicates.copy()
        of[step.rows], placed[step.rows] = step.of, step.placed
        duplicates[step.rows] = step.duplicates
        self.groups = replace(step.before, of=of, placed=placed, duplicates=duplicates)
        self._undone.append(_Redo(step.event, step.text))


@dataclass
class Review:
    """A review that is open for writing.

    Attributes:
      folder: Folder of the review, the only one that is written to.
      history: All edits so far.
      notes: What was noticed when it was opened.
    """

    folder: Path
    history: History
    notes: tuple[str, ...]
    _file: BinaryIO

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an event, on the disk first.

        Raises:
          InputError: It can't be applied, or can't be written; nothing has changed.
        """
        self.history.add(event, partial(self._write, event))

    def _write(self, event: Mapping[str, Any]) -> None:
        line = dump_json(event, indent=None).encode() + b"\n"
        end = self._file.tell()
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            # Else the next line would follow half of this one.
            with contextlib.suppress(OSError):
                self._file.seek(end)
                self._file.truncate()
            raise refused_by_system(
                "write", self.folder / EVENTS_FILE, error, advice="nothing was changed"
            ) from error

    def close(self) -> None:
        """Let others open it."""
        self._file.close()


def _identity(result: ClusterResult, workdir: Path) -> str:
    """Tell whether rows and groups of a run are those that events speak of."""
    tree = None if result.tree is None else result.tree.splits.tolist()
    return fingerprint([model_digest(workdir), [*result.paths], tree])


def _check_header(line: bytes, path: Path, identity: str) -> None:
    """Check the first line of a file of events.

    Raises:
      InputError: It is none, or of another run.
    """
    shown = printable(str(path))
    try:
        header = load_json(line)
        kind, version, run = (header[each] for each in ("format", "version", "run"))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{shown!r} is no file of events; move it away to begin anew"
        ) from error
    if (kind, version) != (_FORMAT, _VERSION):
        raise InputError(
            f"Expected {shown!r} in format {_FORMAT!r} version {_VERSION}, found "
            f"{printable(str(kind))!r} version {version!r}; use the version of mca_jax "
            "that wrote it"
        )
    if run != identity:
        raise InputError(
            f"Can't apply the edits of {shown!r}: {_ANOTHER}, which was trained or "
            "updated since; move that folder away to begin anew, or leave the edits "
            "out (reviewed=False, --noreviewed)"
        )


def _replay(
    result: ClusterResult, content: bytes, path: Path, identity: str
) -> tuple[History, int, tuple[str, ...]]:
    """Read events; return the history, the bytes that are whole, and notes."""
    history, notes = History(result), []
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        notes.append(
            f"The last line of {path.name} was cut short, as by a power cut, and is "
            "left out; all edits before it are there"
        )
    lines = content[:whole].splitlines()
    if not lines:
        return history, 0, tuple(notes)
    _check_header(lines[0], path, identity)
    for number, line in enumerate(lines[1:], 2):
        try:
            event = load_json(line)
            if not isinstance(event, dict):
                raise InputError("it is no event")
            history.add(event)
        except ValueError as error:
            raise InputError(
                f"Damaged line {number} of {printable(str(path))!r}: {error}; delete "
                "it and those behind it, or move the file away"
            ) from error
    return history, whole, tuple(notes)


def _lock(file: BinaryIO, path: Path) -> None:
    """Make this the one process that writes a file.

    Raises:
      InputError: Another one does.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(
            f"{printable(str(path.parent))!r} is open in another mca-jax review; take "
            "the address that it printed, or end it"
        ) from error


def open_review(result: ClusterResult, workdir: str | os.PathLike[str]) -> Review:
    """Open the review of a run for writing, where it was left.

    Args:
      result: Result of the run, without edits.
      workdir: Its workdir.

    Returns:
      The review; close it.

    Raises:
      InputError: The file is damaged, of another run, open elsewhere or not
        writable, or the folder leads out of the workdir.
    """
    folder = Path(workdir) / REVIEW_FOLDER
    path = folder / EVENTS_FILE
    identity = _identity(result, Path(workdir))
    try:
        folder.mkdir(exist_ok=True)
        if folder.is_symlink() or path.is_symlink():
            raise InputError(
                f"{printable(str(path))!r} is a link or lies behind one; nothing is "
                "written outside the workdir, so put a real folder there"
            )
        # Not "a": a line cut short is to be overwritten.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    except OSError as error:
        raise refused_by_system(
            "open", path, error, advice="make the workdir writable"
        ) from error
    try:
        _lock(file, path)
        history, whole, notes = _replay(result, file.read(), path, identity)
        file.seek(whole)
        file.truncate()
        review = Review(folder, history, notes, file)
        if not whole:
            header = {"format": _FORMAT, "version": _VERSION, "run": identity}
            file.write(dump_json(header, indent=None).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        file.close()
        raise
    return review


def put_aside(folder: Path) -> Path:
    """Rename the folder of a review that is done with; return its name now.

    Raises:
      InputError: The system refuses it.
    """
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    try:
        return folder.rename(aside)
    except OSError as error:
        raise refused_by_system(
            "rename", folder, error, advice="rename it to begin a new review"
        ) from error


def read_review(
    result: ClusterResult, workdir: str | os.PathLike[str]
) -> History | None:
    """Read the edits of a run; None where nobody has made any.

    Raises:
      InputError: The file is damaged, or of another state of the run.
    """
    path = Path(workdir) / REVIEW_FOLDER / EVENTS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused_by_system("read", path, error, advice="make it readable") from (
            error
        )
    if content.count(b"\n") < 2:
        return None
    history, _, _ = _replay(result, content, path, _identity(result, Path(workdir)))
    return history
