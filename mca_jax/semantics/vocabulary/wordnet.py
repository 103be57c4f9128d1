"""Reads WordNet's own file of nouns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.semantics.vocabulary.blocklist import screen_synsets
from mca_jax.semantics.vocabulary.nouns import NounTable, assemble_table

__all__ = ["Synset", "build_table", "definition", "parse_data_noun", "spaced"]

_HYPERNYM = ("@", "@i")
_INSTANCE_HYPERNYM = "@i"
_USAGE = ";u"


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


def parse_data_noun(lines: Iterable[str]) -> list[Synset]:
    """Parse the lines of WordNet's ``data.noun`` (format: wndb(5WN)).

    Args:
      lines: The lines of the file, its licence at the top included.

    Returns:
      One entry a synset, in the file's order, which is that of the offsets.

    Raises:
      InputError: A line is not in WordNet's format, or there is no synset.
    """
    synsets = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("  ") or not line.strip():
            continue
        try:
            synsets.append(_parse_line(line))
        except (ValueError, IndexError) as error:
            raise InputError(
                f"Expected WordNet's data.noun, found at line {number}: {line[:40]!r}"
            ) from error
    if not synsets:
        raise InputError("Expected WordNet's data.noun, found no synset in it")
    return synsets


def _parse_line(line: str) -> Synset:
    data, _, gloss = line.partition("|")
    fields = data.split()
    word_count = int(fields[3], 16)
    pointers_at = 4 + 2 * word_count
    pointer_count = int(fields[pointers_at])
    hypernyms, usages, instance = [], [], False
    for index in range(pointer_count):
        at = pointers_at + 1 + 4 * index
        symbol, target, source = fields[at], int(fields[at + 1]), fields[at + 3]
        if symbol in _HYPERNYM:
            hypernyms.append(target)
            instance |= symbol == _INSTANCE_HYPERNYM
        elif symbol == _USAGE:
            usages.append((int(source[:2], 16) - 1, target))
    return Synset(
        offset=int(fields[0]),
        category=int(fields[1]),
        lemmas=tuple(spaced(word) for word in fields[4:pointers_at:2]),
        gloss=definition(gloss),
        hypernyms=tuple(sorted(hypernyms)),
        instance=instance,
        usages=tuple(sorted(usages)),
    )


def spaced(lemma: str) -> str:
    """Write a lemma with spaces, as people do.

    Args:
      lemma: As in WordNet's files, with underscores.

    Returns:
      The lemma with spaces.
    """
    return lemma.replace("_", " ")


def definition(gloss: str) -> str:
    """Take the definition out of a gloss.

    Args:
      gloss: Definition and example sentences, as in WordNet's files.

    Returns:
      The definition on one line.
    """
    # WordNet puts example sentences, in quotation marks, behind the definition.
    without_examples = re.sub(r'".*?"', "", gloss)
    return " ".join(without_examples.split()).strip("; ")


def build_table(synsets: Sequence[Synset]) -> NounTable:
    """Put synsets into one table, with depths and the offensive ones marked.

    Args:
      synsets: WordNet's nouns in ascending order of the offsets.

    Returns:
      The table, row ``i`` for ``synsets[i]``.

    Raises:
      InputError: A hypernym is not among the synsets.
    """
    offsets = np.array([synset.offset for synset in synsets], np.int64)
    counts = [len(synset.hypernyms) for synset in synsets]
    wanted = np.array([h for synset in synsets for h in synset.hypernyms], np.int64)
    parents = np.searchsorted(offsets, wanted)
    known = parents < len(offsets)
    known &= offsets[np.minimum(parents, len(offsets) - 1)] == wanted
    if not known.all():
        raise InputError(
            f"Expected every hypernym among the nouns, found none with offset "
            f"{wanted[~known][0]:08d}; the WordNet files don't belong together"
        )
    children = np.repeat(np.arange(len(synsets)), counts)
    shown, offensive = screen_synsets(synsets, children, parents)
    return assemble_table(
        names=[s.lemmas[i] for s, i in zip(synsets, shown, strict=True)],
        synsets=[f"n{offset:08d}" for offset in offsets],
        lemmas=[synset.lemmas for synset in synsets],
        glosses=[synset.gloss for synset in synsets],
        children=children,
        parents=parents,
        category=np.array([synset.category for synset in synsets], np.uint8),
        instance=np.array([synset.instance for synset in synsets], bool),
        offensive=offensive,
    )
