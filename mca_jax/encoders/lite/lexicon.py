"""Finds the row of a noun in a table of WordNet's, by synset id or by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError

__all__ = ["Lexicon", "build_lexicon", "find_rows"]

_NAMED = 5
# Endings of regular plurals and of their singulars, as WordNet's own morphy has
# them; irregular plurals are lemmas of the index.
_PLURALS = (
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("s", ""),
)


class Lexicon(NamedTuple):
    """Where nouns are in a table with one row a WordNet synset.

    Attributes:
      offsets: WordNet 3.0 offset of each row, ascending, int32 ``[M]``.
      rows: Row of each lemma's most probable sense; lemmas are in lower case,
        with spaces.
    """

    offsets: np.ndarray
    rows: Mapping[str, int]


def build_lexicon(
    offsets: np.ndarray, lemmas: np.ndarray, lemma_rows: np.ndarray
) -> Lexicon:
    """Unpack a lexicon from the arrays of an asset.

    Args:
      offsets: WordNet offset of each row, ascending, int32 ``[M]``.
      lemmas: UTF-8 bytes of the lemmas, one a line, uint8.
      lemma_rows: Row of each lemma, int32.

    Returns:
      The lexicon.
    """
    names = lemmas.tobytes().decode("utf-8").split("\n")
    return Lexicon(offsets, dict(zip(names, lemma_rows.tolist(), strict=True)))


def find_rows(
    lexicon: Lexicon, names: Sequence[str], synset_ids: Sequence[str]
) -> np.ndarray:
    """Find each noun by its synset id, or by its name where it has none.

    Args:
      lexicon: Where nouns are.
      names: Nouns, in any case, with spaces or underscores, plural allowed.
      synset_ids: WordNet 3.0 ids such as ``"n02084071"``, or empty; one a name.

    Returns:
      Rows, int32 ``[len(names)]``.

    Raises:
      InputError: Names and ids differ in number, or a noun is in neither list;
        up to five are named.
    """
    if len(names) != len(synset_ids):
        raise InputError(
            f"Expected one synset id for each of {len(names)} names, "
            f"found {len(synset_ids)}"
        )
    known = {offset: row for row, offset in enumerate(lexicon.offsets.tolist())}
    rows = np.full(len(names), -1, np.int32)
    for index, (name, synset) in enumerate(zip(names, synset_ids, strict=True)):
        row = known.get(_offset(synset))
        rows[index] = _row_of_name(lexicon, name) if row is None else row
    unknown = [name for name, row in zip(names, rows, strict=True) if row < 0]
    if unknown:
        listed = ", ".join(repr(name) for name in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(
            f"Not among WordNet's nouns: {listed}{more}; leave them out, or choose "
            "a CLIP encoder, which takes any text"
        )
    return rows


def _offset(synset: str) -> int:
    """Return the number in a noun's synset id, or -1."""
    digits = synset[1:]
    return int(digits) if synset[:1] == "n" and digits.isdecimal() else -1


def _row_of_name(lexicon: Lexicon, name: str) -> int:
    """Return the row of the first reading of a name that is known, or -1."""
    lemma = " ".join(name.replace("_", " ").lower().split())
    return next(
        (lexicon.rows[form] for form in _readings(lemma) if form in lexicon.rows), -1
    )


def _readings(lemma: str) -> Iterator[str]:
    """Yield a name as it is, then as the plural of something."""
    yield lemma
    for plural, singular in _PLURALS:
        if lemma.endswith(plural):
            yield lemma[: -len(plural)] + singular
