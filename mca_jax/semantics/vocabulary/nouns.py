"""The table of nouns that every stage after it reads: names, hierarchy, flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mca_jax.semantics.vocabulary.familiarity import count_mentions
from mca_jax.semantics.vocabulary.graph import count_kinds, shortest_depths

__all__ = [
    "USER_CATEGORY",
    "NounTable",
    "assemble_table",
    "hypernym_edges",
    "row_of_synset",
]

USER_CATEGORY = 255
"""Category of a noun that a user's vocabulary brought: it is never filtered by
lexicographer file, and has no place in WordNet's depth."""


class NounTable(NamedTuple):
    """Nouns with their hierarchy, as arrays; rows in ascending WordNet offset.

    Attributes:
      names: What is displayed: the first lemma that is not offensive, with
        spaces. ``M`` entries.
      synsets: WordNet 3.0 ids such as ``"n02084071"``, or ``""`` for a noun of
        a user's own.
      lemmas: All the synonyms of each row, with spaces, in WordNet's order.
        Not screened: display ``names`` instead.
      glosses: Definition without WordNet's example sentences, or ``""``.
      parent_starts: CSR offsets into ``parents``, int32 ``[M + 1]``.
      parents: Rows of the hypernyms (of instance hypernyms as well), ascending
        within a noun, int32 ``[E]``.
      depth: Edges on the shortest path up to a root, int16 ``[M]``; 0 for a
        root, so "entity" is 0 and "dog" is 8.
      kinds: Nouns below each noun, itself included, int32 ``[M]``: 1 for the
        most specific, 82,115 for "entity".
      familiarity: Other nouns that mention this one's name, uint16 ``[M]``: a
        stand-in for how well known the name is.
      category: Number of the lexicographer file, uint8 ``[M]``: 5 is
        noun.animal, ``USER_CATEGORY`` a noun of a user's own.
      instance: True for a named individual ("Eiffel Tower"), bool ``[M]``.
      offensive: True where no name should be shown for a harmless picture,
        bool ``[M]``. See ``mca_jax.semantics.vocabulary.blocklist``.
    """

    names: tuple[str, ...]
    synsets: tuple[str, ...]
    lemmas: tuple[tuple[str, ...], ...]
    glosses: tuple[str, ...]
    parent_starts: np.ndarray
    parents: np.ndarray
    depth: np.ndarray
    kinds: np.ndarray
    familiarity: np.ndarray
    category: np.ndarray
    instance: np.ndarray
    offensive: np.ndarray


def assemble_table(
    *,
    names: Sequence[str],
    synsets: Sequence[str],
    lemmas: Sequence[tuple[str, ...]],
    glosses: Sequence[str],
    children: np.ndarray,
    parents: np.ndarray,
    category: np.ndarray,
    instance: np.ndarray,
    offensive: np.ndarray,
) -> NounTable:
    """Put a table together, with all that follows from names and edges.

    Args:
      names: What is displayed.
      synsets: WordNet ids, or ``""``.
      lemmas: All synonyms.
      glosses: Definitions, or ``""``.
      children: Child of each hypernym edge, in ascending order, int ``[E]``.
      parents: Parent of each hypernym edge, int ``[E]``. No cycles.
      category: Number of the lexicographer file, ``[M]``.
      instance: True for a named individual, ``[M]``.
      offensive: True where no name should be shown, ``[M]``.

    Returns:
      The table.
    """
    count = len(names)
    per_noun = np.bincount(children, minlength=count)
    return NounTable(
        names=tuple(names),
        synsets=tuple(synsets),
        lemmas=tuple(lemmas),
        glosses=tuple(glosses),
        parent_starts=np.concatenate([[0], np.cumsum(per_noun)]).astype(np.int32),
        parents=np.asarray(parents, np.int32),
        depth=shortest_depths(children, parents, count),
        kinds=count_kinds(children, parents, count),
        familiarity=count_mentions(names, lemmas, glosses),
        category=np.asarray(category, np.uint8),
        instance=np.asarray(instance, bool),
        offensive=np.asarray(offensive, bool),
    )


def hypernym_edges(table: NounTable) -> tuple[np.ndarray, np.ndarray]:
    """Expand the CSR hierarchy into one (child, parent) pair an edge.

    Args:
      table: Nouns.

    Returns:
      Rows of the children and rows of the parents, both int32 ``[E]``.
    """
    counts = np.diff(table.parent_starts)
    children = np.repeat(np.arange(len(table.names), dtype=np.int32), counts)
    return children, table.parents


def row_of_synset(table: NounTable, synset: str) -> int:
    """Find the row of a WordNet id.

    Args:
      table: Nouns.
      synset: An id such as ``"n02084071"``.

    Returns:
      The row, or -1 when the table has no such noun.
    """
    try:
        return table.synsets.index(synset)
    except ValueError:
        return -1
