"""Reads a user's own vocabulary: one noun a line, with its parent if known."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.semantics.vocabulary.nouns import USER_CATEGORY, NounTable, assemble_table

__all__ = ["parse_vocabulary", "read_vocabulary"]


def read_vocabulary(path: str | Path) -> NounTable:
    r"""Read a text file of nouns.

    One noun a line. A parent may follow, behind a tab or, in a file without
    tabs, behind a comma. Blank lines and lines that start with ``#`` are
    skipped, as are spaces around a noun. UTF-8, with or without a byte order
    mark; any line ending. A noun that occurs twice is one noun (letter case and
    underscores don't count); if it names two parents it has both. A parent that
    has no line of its own becomes a noun too.

    Returns:
      A table without synset ids; rows in order of first appearance, parents
      without a line of their own last.

    Raises:
      InputError: The file can't be read, is not UTF-8, has no usable noun, or its
        parents form a cycle; the message names the file.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"Expected a vocabulary file at {path}, found: "
            f"{(error.strerror or str(error)).lower()}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected UTF-8 text in {path}, found byte {error.start} that is not; "
            "save the file as UTF-8"
        ) from error
    return parse_vocabulary(text, str(path))


def parse_vocabulary(text: str, origin: str = "vocabulary") -> NounTable:
    """Parse the text of a vocabulary; see ``read_vocabulary`` for the format.

    Messages call it ``origin``.

    Raises:
      InputError: No usable noun, or the parents form a cycle.
    """
    separator = "\t" if "\t" in text else ","
    pairs = [_split_line(line, separator) for line in text.splitlines()]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        raise InputError(
            f"Expected at least one noun in {origin}, found none; write one noun a line"
        )
    names: dict[str, str] = {}
    for noun, _ in pairs:
        names.setdefault(noun.casefold(), noun)
    for _, parent in pairs:
        if parent:
            names.setdefault(parent.casefold(), parent)
    rows = {key: row for row, key in enumerate(names)}
    edges = sorted(
        {
            (rows[noun.casefold()], rows[parent.casefold()])
            for noun, parent in pairs
            if parent
        }
    )
    return _table_from_edges(tuple(names.values()), edges, origin)


def _split_line(line: str, separator: str) -> tuple[str, str]:
    if line.lstrip().startswith("#"):
        return "", ""
    cells = [_clean(cell) for cell in line.split(separator)]
    return cells[0], cells[1] if len(cells) > 1 else ""


def _clean(cell: str) -> str:
    # What can't be printed would end up in a report as an empty box or worse.
    printable = "".join(c if c.isprintable() else " " for c in cell)
    return " ".join(printable.replace("_", " ").strip(" \"'").split())


def _table_from_edges(
    names: tuple[str, ...], edges: list[tuple[int, int]], origin: str
) -> NounTable:
    count = len(names)
    pairs = np.array(edges, np.int32).reshape(-1, 2)
    children, parents = pairs[:, 0], pairs[:, 1]
    cycle = _find_cycle(edges)
    if cycle:
        path = " > ".join(names[row] for row in cycle)
        raise InputError(
            f"Expected parents without a cycle in {origin}, found {path}; remove one "
            "of these parents"
        )
    return assemble_table(
        names=names,
        synsets=("",) * count,
        lemmas=[(name,) for name in names],
        glosses=("",) * count,
        children=children,
        parents=parents,
        category=np.full(count, USER_CATEGORY, np.uint8),
        instance=np.zeros(count, bool),
        offensive=np.zeros(count, bool),
    )


def _find_cycle(edges: list[tuple[int, int]]) -> list[int]:
    """Return the rows along a cycle, first and last the same, or an empty list."""
    graph = TopologicalSorter[int]()
    for child, parent in edges:
        graph.add(parent, child)
    try:
        graph.prepare()
    except CycleError as error:
        return error.args[1]
    return []
