"""CSV that a spreadsheet shows as it is and runs nothing of."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from mca_jax.plain import printable

__all__ = ["csv_lines", "path_cell", "text_cell"]

# What a spreadsheet takes for the start of a formula.
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    r"""Write rows as CSV with a newline after each.

    Args:
      rows: Cells of each line.

    Returns:
      Text.

    Example:
      >>> csv_lines([("path", "cluster"), ("a, b.jpg", 3)])
      'path,cluster\n"a, b.jpg",3\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def path_cell(path: str) -> str:
    """Return a path that names the same file and is no formula.

    Args:
      path: Path relative to the folder of images.

    Returns:
      The printable path, behind ``./`` where it would be a formula.
    """
    shown = printable(path)
    return f"./{shown}" if shown.startswith(_FORMULA_START) else shown


def text_cell(text: str) -> str:
    """Return text that is no formula, by the customary apostrophe.

    Args:
      text: Any text.

    Returns:
      The printable text.
    """
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA_START) else shown
