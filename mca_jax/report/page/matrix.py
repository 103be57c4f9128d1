"""Labels against clusters, laid out so that a good clustering is a diagonal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.text import printable
from mca_jax.report.page.cards import Card

__all__ = [
    "Contingency",
    "Matrix",
    "MatrixRow",
    "make_matrix",
    "read_contingency",
]

# A table of more cells than this can't be read, and weighs on the page.
_MOST_CELLS = 12_000
_MOST_LABELS = 3


class Contingency(NamedTuple):
    """Images by label and cluster.

    Attributes:
      classes: Printable names of the labels.
      counts: int64 ``[num_classes, k]``.
    """

    classes: tuple[str, ...]
    counts: np.ndarray


class MatrixRow(NamedTuple):
    """One cluster in the table of labels against clusters.

    Attributes:
      name: Name of the cluster.
      target: Fragment of its card.
      cells: Count and share of the cluster for each label; empty where the
        table is too large to show.
      top: Its most frequent labels with their counts.
    """

    name: str
    target: str
    cells: tuple[tuple[int, float], ...]
    top: tuple[tuple[str, int], ...]


class Matrix(NamedTuple):
    """Labels against clusters as the report shows them.

    Attributes:
      full: Whether every cell is shown, or the most frequent labels only.
      classes: Names of the labels in the order of the cells.
      rows: One a cluster.
    """

    full: bool
    classes: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


def read_contingency(value: Any, num_clusters: int) -> Contingency | None:
    """Read the table of labels against clusters.

    Args:
      value: ``{"classes": names, "counts": table}`` with a row a class and a
        column a cluster, or the table alone, or None.
      num_clusters: Columns that the table must have.

    Returns:
      The table with names, or None where there is none of this shape.
    """
    named = isinstance(value, Mapping)
    table = value.get("counts") if named else value
    counts = np.asarray([] if table is None else table)
    if counts.ndim != 2 or counts.shape[1] != num_clusters or not counts.size:
        return None
    given = value.get("classes") if named else None
    names = given if given is not None else range(counts.shape[0])
    classes = tuple(printable(str(name)) for name in names)
    if len(classes) != counts.shape[0]:
        return None
    return Contingency(classes, counts.astype(np.int64))


def _diagonal_order(shown: np.ndarray) -> np.ndarray:
    """Order labels so that a good clustering fills the diagonal.

    Each goes to the cluster that holds the most of it, the larger first.
    """
    place = shown.argmax(axis=1)
    return np.lexsort((np.arange(len(shown)), -shown.max(axis=1), place))


def make_matrix(table: Contingency, cards: Sequence[Card]) -> Matrix:
    """Lay out labels against clusters, whole where that can be read.

    Args:
      table: Images by label and cluster.
      cards: Clusters in the order in which they are shown.

    Returns:
      Rows in the order of ``cards``.
    """
    shown = table.counts[:, [card.index for card in cards]]
    order = _diagonal_order(shown)
    full = shown.size <= _MOST_CELLS
    rows = []
    for place, card in enumerate(cards):
        column = shown[:, place]
        total = max(int(column.sum()), 1)
        best = np.argsort(-column, kind="stable")[:_MOST_LABELS]
        cells = [(int(n), round(float(n / total), 3)) for n in column[order]]
        rows.append(
            MatrixRow(
                name=card.name,
                target=card.target,
                cells=tuple(cells if full else ()),
                top=tuple(
                    (table.classes[i], int(column[i])) for i in best if column[i]
                ),
            )
        )
    return Matrix(full, tuple(table.classes[i] for i in order), tuple(rows))
