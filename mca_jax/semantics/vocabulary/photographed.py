"""Which nouns people have photographed, by the synsets of ImageNet-21K."""

from __future__ import annotations

import numpy as np

from mca_jax.core.assets import load_asset
from mca_jax.semantics.vocabulary.nouns import NounTable

__all__ = ["ASSET", "photographed_mask"]

ASSET = "photographed.npz"
"""Name of the list, which ``experiments/build_photographed_asset.py`` built."""


def photographed_mask(table: NounTable) -> np.ndarray:
    """Mark nouns of which there are pictures in number.

    ImageNet-21K's makers searched the web for pictures of every noun of WordNet; for
    11,821 they found some hundred that people agreed on. "Positron", "X chromosome"
    and "theca" are not among them.

    Returns:
      bool ``[M]``; True for a noun without a synset: a user's own.

    Example:
      >>> from mca_jax.semantics import load_nouns
      >>> table = load_nouns()
      >>> mask = photographed_mask(table)
      >>> [bool(mask[table.names.index(noun)]) for noun in ("beagle", "positron")]
      [True, False]
    """
    lists = load_asset(ASSET)
    often = {f"n{offset:08d}" for offset in lists["offsets"][lists["often"]].tolist()}
    return np.array([not synset or synset in often for synset in table.synsets], bool)
