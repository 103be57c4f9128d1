"""Words that people use for what they see, and words that nobody likes to see."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from mca_jax.semantics.vocabulary.graph import descendants
from mca_jax.semantics.vocabulary.nouns import NounTable, hypernym_edges

__all__ = ["UNPLEASANT", "VAGUE", "named_after", "unpleasant_mask", "vague_mask"]

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


def named_after(
    table: NounTable, nouns: Int[np.ndarray, " p"], concepts: Int[np.ndarray, " p"]
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    r"""Count how many of a concept's kinds are named after it.

    "Bass guitar" and "steel guitar" are kinds of what people call a guitar, sheepdogs
    are dogs; no name ends in "ungulate", and few in "vehicle".

    Args:
      table: All the nouns.
      nouns: Rows of the kinds.
      concepts: Rows of what each is a kind of; a noun may be paired with itself.

    Returns:
      For each noun of the table the kinds with a synonym that ends in its name, and
      all kinds it is paired with, itself included; int64 ``[M]``.

    Example:
      >>> from mca_jax.semantics.vocabulary.text_file import parse_vocabulary
      >>> table = parse_vocabulary("bass guitar,guitar\nuke,guitar\nguitar")
      >>> row = {name: at for at, name in enumerate(table.names)}
      >>> kinds = np.array([row["bass guitar"], row["uke"]])
      >>> named, counted = named_after(table, kinds, np.full(2, row["guitar"]))
      >>> int(named[row["guitar"]]), int(counted[row["guitar"]])
      (1, 2)
    """
    lemmas = [tuple(each.casefold() for each in own) for own in table.lemmas]
    names = [name.casefold() for name in table.names]
    pairs = zip(nouns.tolist(), concepts.tolist(), strict=True)
    named = [
        concept
        for noun, concept in pairs
        if noun != concept
        and any(lemma.endswith(names[concept]) for lemma in lemmas[noun])
    ]
    count = len(names)
    return np.bincount(named, minlength=count), np.bincount(concepts, minlength=count)


def unpleasant_mask(table: NounTable) -> np.ndarray:
    """Mark nouns for violent and unpleasant things; False for a user's own.

    Returns:
      bool ``[M]``.
    """
    wanted = {f"n{offset:08d}" for offset in UNPLEASANT}
    rows = [row for row, synset in enumerate(table.synsets) if synset in wanted]
    children, parents = hypernym_edges(table)
    return descendants(rows, children, parents, len(table.names))
