"""Words that people use for what they see, and words that nobody likes to see."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mca_jax.semantics.vocabulary.graph import descendants
from mca_jax.semantics.vocabulary.nouns import NounTable, hypernym_edges

__all__ = ["UNPLEASANT", "VAGUE", "compound_heads", "unpleasant_mask", "vague_mask"]

UNPLEASANT = (
    1384687,  # parasite
    2183857,  # louse
    3064758,  # coffin
    3305522,  # explosive device
    3575958,  # instrument of punishment, of execution and torture
    4565375,  # weapon
    4566257,  # weaponry
)
"""WordNet offsets of what is no name, with all below it, where another would do."""

VAGUE = frozenset(
    {
        3553,  # whole
        4258,  # living thing
        4475,  # organism
        2735688,  # area, a part of a structure
        3050026,  # cloth covering
        3076708,  # commodity
        3093574,  # consumer goods
        3096960,  # control
        3100490,  # conveyance
        3122748,  # covering
        3125870,  # craft
        3278248,  # electronic equipment
        3294048,  # equipment
        3297735,  # establishment
        3405265,  # furnishing
        3563967,  # implement
        3574816,  # instrument
        3575240,  # instrumentality
        3733925,  # measuring instrument
        3738472,  # mechanism
        3744840,  # memory device
        4014297,  # protective covering
        4170037,  # self-propelled vehicle
        4188643,  # sheet
        9366017,  # natural depression
        9366317,  # natural elevation
        13086908,  # plant part
        13087625,  # plant organ
    }
)
"""WordNet offsets of what orders the hierarchy and names no picture."""


def vague_mask(table: NounTable) -> np.ndarray:
    """Mark the nouns of ``VAGUE``, bool ``[M]``; False for a user's own."""
    vague = {f"n{offset:08d}" for offset in VAGUE}
    return np.array([synset in vague for synset in table.synsets], bool)


def compound_heads(table: NounTable) -> np.ndarray:
    r"""Count the nouns that are named after each noun's name.

    "Bass guitar" and "electric guitar" are kinds of what people call a guitar; no
    name ends in "proboscidean". Senses of one word are not told apart.

    Returns:
      int32 ``[M]``, how many nouns have a synonym of several words with that last one.

    Example:
      >>> from mca_jax.semantics.vocabulary.text_file import parse_vocabulary
      >>> compound_heads(parse_vocabulary("bass guitar\nguitar\nlute")).tolist()
      [0, 1, 0]
    """
    lasts = Counter(
        last
        for lemmas in table.lemmas
        for last in {
            lemma.casefold().rsplit(" ", 1)[-1] for lemma in lemmas if " " in lemma
        }
    )
    return np.array([lasts[name.casefold()] for name in table.names], np.int32)


def unpleasant_mask(table: NounTable) -> np.ndarray:
    """Mark nouns for violent and unpleasant things; False for a user's own.

    Returns:
      bool ``[M]``.
    """
    wanted = {f"n{offset:08d}" for offset in UNPLEASANT}
    rows = [row for row, synset in enumerate(table.synsets) if synset in wanted]
    children, parents = hypernym_edges(table)
    return descendants(rows, children, parents, len(table.names))
