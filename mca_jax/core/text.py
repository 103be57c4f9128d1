"""Values as text, JSON and CSV, the same in every run and for every reader."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "CSV_START",
    "csv_lines",
    "csv_table",
    "dump_json",
    "file_uri",
    "fingerprint",
    "list_differences",
    "load_json",
    "needs_uris",
    "path_cell",
    "plain_json",
    "printable",
    "text_cell",
]

# Settings that a message names.
_MOST_NAMED_SETTINGS = 3

# Control characters, line and paragraph separators, direction overrides (they
# make "gpj.exe" read as "exe.jpg") and lone surrogates. Zero-width joiners stay:
# emoji are made of them.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_NUMBERS = re.compile(r"\[\n\s*([-+.\deEnul,\s]+?)\n\s*\]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _escape(match: re.Match[str]) -> str:
    """Write one character as Python would in a string."""
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        # Python reads the byte 0xE9 of a name that isn't UTF-8 as U+DCE9.
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(text: str) -> str:
    r"""Return ``text`` on one line, encodable as UTF-8 and safe to print.

    Control characters, direction overrides and bytes of a file name that are
    not UTF-8, as ``os.fsdecode`` gives them, become backslash escapes.

    Example:
      >>> printable("caf\udce9.jpg")
      'caf\\xe9.jpg'
    """
    return _UNPRINTABLE.sub(_escape, text)


def plain_json(value: Any, digits: int | None = None) -> Any:
    """Return ``value`` made of what JSON has, and nothing else.

    Args:
      value: Any nesting of mappings, sequences, arrays, scalars, text, paths
        and None.
      digits: Significant digits that floats keep; None keeps them all.

    Returns:
      Dicts with text keys, lists, text, bool, int, float and None. NaN and
      infinities, which JSON doesn't have, become None.

    Raises:
      TypeError: A value of another type.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str | os.PathLike):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {str(name): plain_json(item, digits) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, digits) for item in value]
    raise TypeError(f"Expected a value that JSON can hold, found {type(value)}")


def load_json(content: str | bytes) -> Any:
    """Read JSON that anybody may have written.

    Raises:
      ValueError: It is none, or nested so deeply that Python gives it up.

    Example:
      >>> load_json(b'{"a": [1]}')
      {'a': [1]}
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def dump_json(value: Any, *, digits: int | None = None, indent: int | None = 2) -> str:
    """Write ``value`` as JSON that encodes as UTF-8 and reads back the same.

    Text keeps its characters; only bytes of a file name that aren't UTF-8, which
    Python holds as lone surrogates, become JSON's own escapes.

    Args:
      value: What ``plain_json`` takes.
      digits: Significant digits that floats keep; None keeps them all.
      indent: Spaces a level; None writes one line.

    Returns:
      Text without a final newline, in the order of ``value``'s keys.

    Raises:
      TypeError: A value that JSON has no form for.
    """
    text = json.dumps(
        plain_json(value, digits), indent=indent, ensure_ascii=False, allow_nan=False
    )
    # A table of counts: a row a line, not a number a line.
    text = _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def fingerprint(values: Any) -> str:
    """Hash what :func:`json.dumps` takes to 16 hex digits; equal if equal."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as ``("training.epochs", 30)``."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def list_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say of each setting that differs what it was before and is now.

    Returns:
      The first few, such as ``"seed is 3 there and 4 now"``; empty if all agree.
    """
    old, new = dict(_flat(before)), dict(_flat(now))

    def show(settings: dict[str, Any], name: str) -> str:
        if name not in settings:
            return "not set"
        return dump_json(settings[name], indent=None)

    # What was changed comes before what another version added or left away.
    changed = [name for name in new if name in old and old[name] != new[name]]
    added = [name for name in new if name not in old]
    left_away = [name for name in old if name not in new]
    different = [
        f"{name} is {show(old, name)} there and {show(new, name)} now"
        for name in (*changed, *added, *left_away)
    ]
    named = ", ".join(different[:_MOST_NAMED_SETTINGS])
    if len(different) > _MOST_NAMED_SETTINGS:
        named += f", and {len(different) - _MOST_NAMED_SETTINGS} more"
    return named


CSV_START = "\ufeff"
"""The byte order mark that begins a CSV file."""

# What a spreadsheet takes for the start of a formula.
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    r"""Write rows as CSV with a newline after each.

    Example:
      >>> csv_lines([("path", "cluster"), ("a, b.jpg", 3)])
      'path,cluster\n"a, b.jpg",3\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def csv_table(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    paths: Sequence[str] = (),
    root: str = "",
) -> str:
    r"""Write a whole CSV file that a spreadsheet opens with all its characters.

    It begins with a byte order mark, without which Excel takes UTF-8 for something
    else; ``encoding="utf-8-sig"`` reads it, and files without one as well.

    Args:
      header: Names of the columns.
      rows: Their values.
      paths: Path of each row. Where one can't be printed, a last column ``uri`` has
        addresses that open all of them.
      root: Folder that the paths are relative to.

    Example:
      >>> csv_table(["path"], [["a.jpg"]])
      '\ufeffpath\na.jpg\n'
    """
    if not needs_uris(paths):
        return CSV_START + csv_lines(chain([header], rows))
    uris = (file_uri(root, path) for path in paths)
    longer = ((*row, uri) for row, uri in zip(rows, uris, strict=True))
    return CSV_START + csv_lines(chain([(*header, "uri")], longer))


def needs_uris(paths: Iterable[str]) -> bool:
    """Whether a path among these does not survive being printed."""
    return any(printable(path) != path for path in paths)


def file_uri(root: str, path: str) -> str:
    r"""The address of a file, which any program opens, whatever bytes are in its name.

    Example:
      >>> file_uri("/photos", "caf\udce9 1.jpg")
      'file:///photos/caf%E9%201.jpg'
    """
    return Path(os.path.abspath(os.path.join(root, path))).as_uri()


def path_cell(path: str) -> str:
    """Return a relative path, printable and behind ``./`` where it'd be a formula."""
    shown = printable(path)
    return f"./{shown}" if shown.startswith(_FORMULA_START) else shown


def text_cell(text: str) -> str:
    """Return printable text, behind the customary apostrophe if it'd be a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA_START) else shown
