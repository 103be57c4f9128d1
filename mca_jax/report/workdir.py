"""The folder of a run: who it belongs to, whole files or none, and the log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mca_jax.core.atomic_files import refused_by_system, write_file
from mca_jax.core.errors import InputError
from mca_jax.core.text import dump_json, list_differences, plain_json, printable

__all__ = [
    "CONFIG_FILE",
    "LOG_FILE",
    "RunLog",
    "prepare_workdir",
]

CONFIG_FILE = "config.json"
"""Settings of the run; it says which configuration a folder belongs to."""

LOG_FILE = "log.jsonl"
"""What happened when; the one file with times in it."""


def _read_settings(path: Path) -> dict[str, Any] | None:
    """Settings of an earlier run, or None where there was none."""
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused_by_system("read", path, error) from error
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or not isinstance(stored.get("settings"), dict):
        # Never replaced, not even with overwrite: it is somebody else's.
        raise InputError(
            f"{printable(str(path))!r} is not the settings of a run; choose another "
            "--workdir"
        )
    return stored["settings"]


def _check_settings(
    workdir: Path,
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    outputs: Collection[str],
) -> None:
    """Refuse a folder whose files come from other settings, or from no run."""
    shown = printable(str(workdir))
    advice = "choose another --workdir or pass --overwrite"
    if before is None:
        present = [name for name in outputs if (workdir / name).exists()]
        if present:
            raise InputError(
                f"Workdir {shown!r} holds {present[0]} without the settings that it "
                f"was made with; {advice}"
            )
        return
    different = list_differences(before, now)
    if different:
        raise InputError(
            f"Workdir {shown!r} belongs to another configuration: {different}; {advice}"
        )


def prepare_workdir(
    workdir: str | os.PathLike[str],
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    outputs: Collection[str] = (),
) -> Literal["new", "same", "replaced"]:
    """Create the folder of a run, or check that it belongs to this run.

    The settings are written at once, so that a run that was broken off is
    known by them. Leave out of ``settings`` what doesn't change the result,
    such as the folder itself.

    Args:
      workdir: Folder to use; parents are created.
      settings: All settings of the run, as plain JSON.
      overwrite: Whether a folder of another configuration is taken over; its
        ``outputs`` are deleted first.
      outputs: Names of the files that a run writes.

    Returns:
      ``"new"`` for a folder without a run, ``"same"`` where a run with these
      settings was, ``"replaced"`` where another configuration was
      overwritten: what else the caller keeps in there is then out of date.

    Raises:
      InputError: The folder can't be made or written to, it belongs to another
        configuration (the first settings that differ are named), or its
        ``config.json`` isn't a run's.
    """
    folder = Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused_by_system("create workdir", folder, error) from error
    now = plain_json(settings)
    before = _read_settings(folder / CONFIG_FILE)
    if not overwrite:
        _check_settings(folder, before, now, outputs)
    elif before != now:
        for name in outputs:
            try:
                (folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise refused_by_system("replace", folder / name, error) from error
    if before == now:
        # Shows that the folder takes files, and leaves the provenance in place.
        write_file(folder / CONFIG_FILE, (folder / CONFIG_FILE).read_bytes())
        return "same"
    write_file(folder / CONFIG_FILE, dump_json({"settings": now}) + "\n")
    return "new" if before is None else "replaced"


class RunLog:
    """Appends events to ``log.jsonl``, one JSON object a line.

    A line is on its way to the disk when ``write`` returns, so that a run that
    is killed leaves its history. The log alone holds times: the other files of
    two runs with one seed are identical.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the log of a folder that exists, to append to it.

        Raises:
          InputError: The file can't be opened.
        """
        self._path = Path(workdir) / LOG_FILE
        self._clock = clock
        try:
            self._file = self._path.open("a+b")
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    # A run that was killed while it wrote left half a line.
                    self._file.write(b"\n")
        except OSError as error:
            raise refused_by_system("write", self._path, error) from error

    def write(self, event: str, /, **values: Any) -> None:
        """Append one event, such as ``"epoch"``, with values that JSON can hold.

        Raises:
          InputError: The line can't be written.
        """
        now = self._clock()
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        stamp = f"{seconds}.{int(now % 1 * 1000):03d}Z"
        line = dump_json({"time": stamp, "event": event, **values}, indent=None)
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise refused_by_system("write", self._path, error) from error

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        # What was written is flushed; a full disk was reported by write.
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> RunLog:
        """Return the log."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()
