"""The folder of a run: who it belongs to, whole files or none, and the log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mca_jax.core.atomic_files import refused_by_system, write_file
from mca_jax.core.errors import InputError
from mca_jax.core.text import (
    dump_json,
    list_differences,
    load_json,
    plain_json,
    printable,
)

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


def _read_settings(path: Path, *, known: bool) -> dict[str, Any] | None:
    """Settings of an earlier run, or None where there was none.

    Where the folder is ``known`` to be a run's, damaged ones count as none.
    """
    try:
        stored = load_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused_by_system("read", path, error) from error
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or not isinstance(stored.get("settings"), dict):
        if known:
            return None
        # Never replaced, not even with overwrite: it is somebody else's.
        raise InputError(
            f"{printable(str(path))!r} is not the settings of a run; choose another "
            "--workdir"
        )
    return stored["settings"]


def _as_now(before: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of before as they would be written now."""
    images = before.get("images")
    # A folder was kept as it was typed, relative to where that was.
    if isinstance(images, str) and images and os.path.isabs(now.get("images") or ""):
        return {**before, "images": os.path.abspath(os.path.expanduser(images))}
    return before


def _check_settings(
    workdir: Path,
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    outputs: Collection[str],
) -> None:
    """Refuse a folder whose files come from other settings, or from no run.

    A log alone is no result: a run that was refused or broken off blocks nothing.
    """
    shown = printable(str(workdir))
    advice = "choose another --workdir or pass --overwrite"
    results = [name for name in outputs if name != LOG_FILE]
    present = [name for name in results if (workdir / name).exists()]
    if not present:
        return
    if before is None:
        raise InputError(
            f"Workdir {shown!r} holds {present[0]} without the settings that it "
            f"was made with; {advice}"
        )
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
    open_settings: Collection[str] = (),
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
      outputs: Names of the files that a run writes. Where none of them is, but
        perhaps a log, settings of before bind nobody.
      open_settings: Names of settings that may be others than before.

    Returns:
      ``"new"`` for a folder without a result, ``"same"`` where a run with these
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
    has_result = any((folder / name).exists() for name in outputs if name != LOG_FILE)
    stored = _read_settings(folder / CONFIG_FILE, known=overwrite and has_result)
    before = None
    if stored is not None:
        opened = {name: now[name] for name in open_settings if name in now}
        before = {**_as_now(stored, now), **opened}
    if not overwrite:
        _check_settings(folder, before, now, outputs)
    elif before != now:
        for name in outputs:
            try:
                (folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise refused_by_system("replace", folder / name, error) from error
    if stored == now:
        # Shows that the folder takes files, and leaves the provenance in place.
        write_file(folder / CONFIG_FILE, (folder / CONFIG_FILE).read_bytes())
        return "same"
    write_file(folder / CONFIG_FILE, dump_json({"settings": now}) + "\n")
    if before == now:
        return "same"
    return "replaced" if has_result and before is not None else "new"


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
