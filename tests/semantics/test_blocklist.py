"""What may stand over a picture: judged by WordNet ids, so that few slurs are here."""

import re

import numpy as np
import pytest

from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary.blocklist import (
    HARMLESS_WORDS,
    OCCUPATIONS,
    UNFIT,
    UNFIT_SUBTREES,
    screen_synsets,
)
from mca_jax.semantics.vocabulary.categories import concrete_mask, people_mask
from mca_jax.semantics.vocabulary.nouns import row_of_synset
from mca_jax.semantics.vocabulary.wordnet import Synset

SLUR, DISPARAGEMENT = 6718862, 6717170


def synset(offset: int, *lemmas: str, **fields: object) -> Synset:
    defaults = {
        "category": 5,
        "gloss": "an animal",
        "hypernyms": (),
        "instance": False,
        "usages": (),
    }
    return Synset(offset=offset, lemmas=lemmas, **(defaults | fields))


def screen(*synsets: Synset) -> tuple[list[str], list[bool]]:
    offsets = [s.offset for s in synsets]
    edges = [
        (row, offsets.index(h)) for row, s in enumerate(synsets) for h in s.hypernyms
    ]
    children, parents = np.array(edges, np.int64).reshape(-1, 2).T
    shown, unfit = screen_synsets(synsets, children, parents)
    return [s.lemmas[i] for s, i in zip(synsets, shown, strict=True)], unfit.tolist()


@pytest.fixture(scope="module")
def table() -> NounTable:
    return load_nouns()


def is_shown(table: NounTable, number: str) -> bool:
    return not table.offensive[row_of_synset(table, number)]


def test_marks_of_wordnet() -> None:
    _, unfit = screen(
        synset(1, "a", category=18, usages=((-1, SLUR),)),
        synset(2, "b", category=18, usages=((-1, DISPARAGEMENT),)),
        synset(3, "c", category=18, gloss="(ethnic slur) a person"),
        synset(4, "d", category=14, gloss="disparaging terms for the people"),
        synset(5, "e", category=8, gloss="vulgar slang for a part"),
        synset(6, "f", usages=((-1, 7071942),)),
        synset(7, "g", category=4, gloss="an offensive move in football"),
    )
    assert unfit == [True, True, True, True, True, False, False]


def test_homographs_and_compounds_get_another_name_or_none() -> None:
    names, unfit = screen(
        synset(1, "zork", category=18, usages=((-1, SLUR),)),
        synset(2, "Zork", "raccoon"),
        synset(3, "zork"),
        synset(4, "wild zork", "wild one"),
        synset(5, "zorkmid"),
    )
    assert names[1:4] == ["raccoon", "zork", "wild one"]
    assert unfit == [True, False, True, False, False]


def test_harmless_words_stay() -> None:
    names, unfit = screen(
        synset(1, "shrimp", "zork", category=18, gloss="disparaging terms for people"),
        synset(2, "shrimp"),
    )
    assert names[1] == "shrimp"
    assert unfit == [True, False]


def test_a_mark_on_one_lemma_blocks_that_lemma() -> None:
    names, unfit = screen(synset(1, "zork", "animal", usages=((0, SLUR),)))
    assert (names, unfit) == (["animal"], [False])


def test_people_that_a_picture_cannot_show() -> None:
    _, unfit = screen(
        synset(1, "ruffian", category=18, gloss="a stupid and evil person"),
        synset(2, "Zorkian", category=18, gloss="a native of Zork"),
        synset(3, "zork", category=18, gloss="one who zorks", instance=True),
        synset(4, "baker", category=18, gloss="someone who bakes"),
        synset(9632518, "worker", category=18, gloss="a person who works"),
        synset(
            10366966,
            "nurse",
            category=18,
            gloss="one who cares for the sick",
            hypernyms=(9632518,),
        ),
    )
    assert unfit == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    "number",
    [
        "n02363005",  # beaver
        "n04266486",  # spade
        "n07794159",  # shrimp
        "n12390485",  # pansy
        "n02389559",  # donkey, whose first lemma is not shown
        "n04086273",  # revolver
        "n03467984",  # gun
        "n02836174",  # bidet
        "n10366966",  # nurse
        "n10448983",  # policeman
        "n02093056",  # bull terrier
        "n12681579",  # black haw
    ],
)
def test_harmless_nouns_stay(table: NounTable, number: str) -> None:
    assert row_of_synset(table, number) >= 0
    assert is_shown(table, number)


@pytest.mark.parametrize(
    "number",
    [
        "n09638009",
        "n05526713",
        "n05514081",
        "n14854262",
        "n03086183",
        "n02083672",
        "n09243769",
        "n10643400",
        "n10485440",
        "n09977660",
        "n09681351",
        "n06883725",
    ],
)
def test_unfit_nouns_go(table: NounTable, number: str) -> None:
    assert row_of_synset(table, number) >= 0
    assert not is_shown(table, number)


def test_donkey_is_called_donkey(table: NounTable) -> None:
    assert table.names[row_of_synset(table, "n02389559")] == "donkey"


def test_no_displayed_name_is_a_marked_word(table: NounTable) -> None:
    marked = [row_of_synset(table, s) for s in ("n09638009", "n09698337", "n09720406")]
    words = {lemma.casefold() for row in marked for lemma in table.lemmas[row]}
    words -= HARMLESS_WORDS
    assert len(words) >= 8
    for row in np.flatnonzero(~table.offensive).tolist():
        name = table.names[row].casefold()
        assert name not in words
        assert words.isdisjoint(re.split(r"[^\w']+", name))


def test_little_of_what_a_photograph_shows_is_lost(table: NounTable) -> None:
    concrete, people = concrete_mask(table), people_mask(table)
    assert (concrete & table.offensive).sum() < 0.006 * concrete.sum()
    assert (people & table.offensive).sum() > 0.5 * people.sum()


def test_every_listed_synset_is_in_wordnet(table: NounTable) -> None:
    known = set(table.synsets)
    for offset in (*UNFIT_SUBTREES, *OCCUPATIONS, *UNFIT):
        assert f"n{offset:08d}" in known
