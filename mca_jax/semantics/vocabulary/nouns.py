"""The table of nouns that every later stage takes: names, hierarchy, flags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mca_jax.semantics.vocabulary.graph import count_kinds, shortest_depths

__all__ = [
    "USER_CATEGORY",
    "NounTable",
    "Synset",
    "assemble_table",
    "count_mentions",
    "hypernym_edges",
    "row_of_synset",
]

USER_CATEGORY = 255
"""Category of a noun that a user's vocabulary brought: it is never filtered by
lexicographer file, and has no depth in WordNet."""

_WORD = re.compile(r"[\w'-]+")
_MOST_MENTIONS = np.iinfo(np.uint16).max


class Synset(NamedTuple):
    """One noun synset as WordNet's files give it.

    Attributes:
      offset: Its WordNet 3.0 offset, which is its id.
      category: Number of its lexicographer file, 3 to 28.
      lemmas: Its synonyms, with spaces.
      gloss: Its definition, without example sentences.
      hypernyms: Offsets of the hypernyms, instance hypernyms included, ascending.
      instance: True when it is an instance rather than a kind.
      usages: ``(lemma number or -1 for all, offset of the domain)`` of each
        usage domain such as "ethnic slur", sorted.
    """

    offset: int
    category: int
    lemmas: tuple[str, ...]
    gloss: str
    hypernyms: tuple[int, ...]
    instance: bool
    usages: tuple[tuple[int, int], ...]


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

    Edges go from ``children``, which ascend, to ``parents``, both int ``[E]``, and
    have no cycles; all else is as in :class:`NounTable`.
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
    """Expand the CSR hierarchy into rows of children and of parents, int32 ``[E]``."""
    counts = np.diff(table.parent_starts)
    children = np.repeat(np.arange(len(table.names), dtype=np.int32), counts)
    return children, table.parents


def row_of_synset(table: NounTable, synset: str) -> int:
    """Find the row of a WordNet id such as ``"n02084071"``, or -1 without it."""
    try:
        return table.synsets.index(synset)
    except ValueError:
        return -1


def count_mentions(
    names: Sequence[str], lemmas: Sequence[Sequence[str]], glosses: Sequence[str]
) -> np.ndarray:
    """Count the other nouns whose names or definition mention a noun's name.

    A name that everybody knows serves to explain others: "elephant" is mentioned
    39 times ("Indian elephant", "elephant's-foot", "... of elephants"), and
    "proboscidean", the order that elephants belong to, never. Singular and
    plural are one word; senses of one word are not told apart.

    Returns:
      Number of other nouns, uint16 ``[M]``, at most 65535.
    """
    words = [_words(name) for name in names]
    wanted = set(words)
    longest = max((len(phrase) for phrase in wanted), default=0)
    # Few names start with any given word, which spares most of the slices.
    starts = {phrase[0]: 0 for phrase in wanted if phrase}
    for phrase in wanted:
        if phrase:
            starts[phrase[0]] = max(starts[phrase[0]], len(phrase))
    mentions: Counter[tuple[str, ...]] = Counter()
    for row_lemmas, gloss in zip(lemmas, glosses, strict=True):
        found: set[tuple[str, ...]] = set()
        for text in (gloss, *row_lemmas):
            tokens = _words(text)
            for at, token in enumerate(tokens):
                reach = min(starts.get(token, 0), longest)
                found.update(tokens[at : at + size] for size in range(1, reach + 1))
        mentions.update(found & wanted)
    counts = [
        mentions[phrase] - _mentions_itself(phrase, row_lemmas, gloss)
        for phrase, row_lemmas, gloss in zip(words, lemmas, glosses, strict=True)
    ]
    return np.clip(counts, 0, _MOST_MENTIONS).astype(np.uint16)


def _mentions_itself(
    phrase: tuple[str, ...], lemmas: Sequence[str], gloss: str
) -> bool:
    size = len(phrase)
    texts = [_words(text) for text in (gloss, *lemmas)]
    return size > 0 and any(
        text[at : at + size] == phrase for text in texts for at in range(len(text))
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(_singular(word) for word in _WORD.findall(text.casefold()))


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1]
