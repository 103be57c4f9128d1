"""One door to the nouns, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mca_jax.core.assets import load_asset
from mca_jax.semantics.vocabulary.nltk_wordnet import read_nltk
from mca_jax.semantics.vocabulary.nouns import NounTable
from mca_jax.semantics.vocabulary.packing import unpack_table
from mca_jax.semantics.vocabulary.text_file import read_vocabulary
from mca_jax.semantics.vocabulary.wordnet import build_table

__all__ = ["load_nouns", "name_synsets"]

_ASSET = "nouns.npz"


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

    Args:
      synsets: WordNet 3.0 ids such as ``"n02084071"``.

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
