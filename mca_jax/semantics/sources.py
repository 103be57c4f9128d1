"""One door to the nouns, wherever they come from."""

from __future__ import annotations

from pathlib import Path

from mca_jax.encoders.assets import load_asset
from mca_jax.semantics.nltk_wordnet import read_nltk
from mca_jax.semantics.nouns import NounTable
from mca_jax.semantics.packing import unpack_table
from mca_jax.semantics.vocabulary import read_vocabulary
from mca_jax.semantics.wordnet import build_table

__all__ = ["load_nouns"]

_ASSET = "nouns.npz"


def load_nouns(source: str | Path = "wordnet") -> NounTable:
    """Load the nouns that clusters may be named with.

    Args:
      source: ``"wordnet"`` for the embedded nouns of WordNet 3.0 (82,115 rows),
        ``"nltk"`` for the same from nltk's corpus, else a path to a vocabulary
        file (see ``mca_jax.semantics.vocabulary``).

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
