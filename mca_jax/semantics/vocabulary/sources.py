"""Loads nouns from anywhere, and packs WordNet's as the embedded asset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mca_jax.core.assets import load_asset
from mca_jax.semantics.vocabulary.nouns import NounTable
from mca_jax.semantics.vocabulary.text_file import read_vocabulary
from mca_jax.semantics.vocabulary.wordnet import build_table, read_nltk

__all__ = ["load_nouns", "name_synsets", "pack_table", "unpack_table"]

_ASSET = "nouns.npz"
_ARRAYS = (
    *("parent_starts", "parents", "depth", "kinds", "familiarity", "category"),
    *("instance", "offensive"),
)


def load_nouns(source: str | Path = "wordnet") -> NounTable:
    """Load the nouns that clusters may be named with.

    Args:
      source: ``"wordnet"`` for the embedded nouns of WordNet 3.0 (82,115 rows),
        ``"nltk"`` for the same from nltk's corpus, else a path to a vocabulary
        file (see ``mca_jax.semantics.vocabulary.text_file``).

    Returns:
      The table of nouns.

    Raises:
      InputError: The file can't be read or has no noun, nltk has no WordNet, or
        the embedded asset is damaged.

    Example:
      >>> table = load_nouns()
      >>> table.names[table.synsets.index("n02084071")]
      'dog'
    """
    if source == "wordnet":
        return unpack_table(load_asset(_ASSET))
    if source == "nltk":
        return build_table(read_nltk())
    return read_vocabulary(source)


def name_synsets(synsets: Sequence[str]) -> tuple[str, ...]:
    """Look up what WordNet calls things.

    Returns:
      WordNet's first name for each, or the id where WordNet has none.

    Example:
      >>> name_synsets(["n02084071", "n99999999"])
      ('dog', 'n99999999')
    """
    table = load_nouns()
    row_of = {synset: row for row, synset in enumerate(table.synsets)}
    return tuple(
        table.lemmas[row_of[synset]][0] if synset in row_of else synset
        for synset in synsets
    )


def pack_table(table: NounTable) -> dict[str, np.ndarray]:
    """Turn WordNet's table into plain arrays, to be saved without pickles.

    Returns:
      Arrays by name; strings are UTF-8 bytes joined by newlines (rows) and tabs
      (lemmas of a row), neither of which occurs in WordNet.
    """
    shown = [
        row.index(name) for row, name in zip(table.lemmas, table.names, strict=True)
    ]
    return {
        "offsets": np.array([int(synset[1:]) for synset in table.synsets], np.int32),
        "lemmas": _pack_text("\n".join("\t".join(row) for row in table.lemmas)),
        "shown": np.array(shown, np.uint8),
        "glosses": _pack_text("\n".join(table.glosses)),
        **{name: getattr(table, name) for name in _ARRAYS},
    }


def unpack_table(arrays: Mapping[str, np.ndarray]) -> NounTable:
    """Undo ``pack_table``."""
    rows = _unpack_text(arrays["lemmas"])
    lemmas = tuple(tuple(row.split("\t")) for row in rows)
    return NounTable(
        names=tuple(
            row[i] for row, i in zip(lemmas, arrays["shown"].tolist(), strict=True)
        ),
        synsets=tuple(f"n{offset:08d}" for offset in arrays["offsets"].tolist()),
        lemmas=lemmas,
        glosses=tuple(_unpack_text(arrays["glosses"])),
        **{name: arrays[name] for name in _ARRAYS},
    )


def _pack_text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def _unpack_text(data: np.ndarray) -> list[str]:
    return data.tobytes().decode("utf-8").split("\n")
