"""Filters by kind of noun: concrete things, people."""

from __future__ import annotations

import numpy as np

from mca_jax.semantics.vocabulary.graph import descendants
from mca_jax.semantics.vocabulary.nouns import (
    USER_CATEGORY,
    NounTable,
    hypernym_edges,
    row_of_synset,
)

__all__ = ["CONCRETE_FILES", "LEXICOGRAPHER_FILES", "concrete_mask", "people_mask"]

LEXICOGRAPHER_FILES = {
    3: "noun.Tops",
    4: "noun.act",
    5: "noun.animal",
    6: "noun.artifact",
    7: "noun.attribute",
    8: "noun.body",
    9: "noun.cognition",
    10: "noun.communication",
    11: "noun.event",
    12: "noun.feeling",
    13: "noun.food",
    14: "noun.group",
    15: "noun.location",
    16: "noun.motive",
    17: "noun.object",
    18: "noun.person",
    19: "noun.phenomenon",
    20: "noun.plant",
    21: "noun.possession",
    22: "noun.process",
    23: "noun.quantity",
    24: "noun.relation",
    25: "noun.shape",
    26: "noun.state",
    27: "noun.substance",
    28: "noun.time",
}
"""WordNet's lexicographer files of nouns, by their number."""

CONCRETE_FILES = (5, 6, 8, 13, 17, 20)
"""Files of things that a photograph can show: animal, artifact, body, food,
object, plant. Out are noun.phenomenon and noun.substance, which have a rainbow and
some snow among hundreds of gases, chemicals and effects that nobody can see, and
noun.shape, noun.act, noun.group and noun.location: what they name is in the picture
only by way of things."""

_PERSON_FILE = 18
_PERSON = "n00007846"
_PHYSICAL_ENTITY = "n00001930"
# Simian, ape, anthropoid, hominid, monkey, each with its kinds; lemurs stay.
_NEAR_PEOPLE = ("n02470238", "n02470325", "n02470709", "n02471762", "n02484322")
_PRIMATE = "n02469914"


def people_mask(table: NounTable) -> np.ndarray:
    """Mark nouns for people: noun.person, and all below "person".

    Apes and monkeys are marked as well. Where nouns for people are out they are
    the nearest that is left to a portrait, and the worst that could be written
    over one; with nouns for people in, these win over them on portraits.

    Returns:
      bool ``[M]``; False for a user's own nouns.
    """
    mask = (table.category == _PERSON_FILE) | _below(table, _PERSON, *_NEAR_PEOPLE)
    primate = row_of_synset(table, _PRIMATE)
    if primate >= 0:
        mask[primate] = True
    return mask


def concrete_mask(table: NounTable) -> np.ndarray:
    """Mark nouns for things that a photograph can show.

    A noun must be in one of ``CONCRETE_FILES`` and below "physical entity": the
    files of animals and plants also hold some thousand names of genera and
    families, which WordNet files as groups. Named individuals (rivers, stars,
    ships) are out: they name one place or thing, not what a cluster shares.

    Returns:
      bool ``[M]``; True for all of a user's own nouns.
    """
    concrete = np.isin(table.category, CONCRETE_FILES) & ~table.instance
    physical = _below(table, _PHYSICAL_ENTITY)
    return (table.category == USER_CATEGORY) | (concrete & physical)


def _below(table: NounTable, *synsets: str) -> np.ndarray:
    rows = [row_of_synset(table, synset) for synset in synsets]
    children, parents = hypernym_edges(table)
    known = [row for row in rows if row >= 0]
    return descendants(known, children, parents, len(table.names))
