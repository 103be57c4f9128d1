"""Counts over the hierarchy, and how familiar names are."""

import numpy as np
import pytest

from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary.graph import count_kinds, descendants
from mca_jax.semantics.vocabulary.nouns import (
    count_mentions,
    hypernym_edges,
    row_of_synset,
)


@pytest.fixture(scope="module")
def table() -> NounTable:
    return load_nouns()


def test_kinds_by_hand() -> None:
    # entity 0 > animal 1 > {dog 2 > terrier 3, cat 4}; pet 5 > {dog, cat}; 6 alone.
    children = np.array([1, 2, 3, 4, 2, 4, 5])
    parents = np.array([0, 1, 2, 1, 5, 5, 0])
    # The dog reaches entity on two ways and counts once.
    np.testing.assert_array_equal(
        count_kinds(children, parents, 7), [6, 4, 2, 1, 1, 4, 1]
    )
    order = np.random.default_rng(0).permutation(7)
    np.testing.assert_array_equal(
        count_kinds(children[order], parents[order], 7), [6, 4, 2, 1, 1, 4, 1]
    )
    empty = np.zeros(0, np.int32)
    assert count_kinds(empty, empty, 3).tolist() == [1, 1, 1]


def test_kinds_equal_the_size_of_the_closure(table: NounTable) -> None:
    children, parents = hypernym_edges(table)
    count = len(table.names)
    rows = np.random.default_rng(0).choice(count, 20).tolist()
    rows += [row_of_synset(table, s) for s in ("n00001740", "n02084071", "n03100490")]
    for row in rows:
        below = descendants([row], children, parents, count)
        assert table.kinds[row] == below.sum()


def test_mentions_by_hand() -> None:
    names = ["elephant", "Indian elephant", "proboscidean", "bus", "berry"]
    lemmas = [(name,) for name in names]
    glosses = [
        "an animal",
        "elephants that live in Asia",
        "an elephant, or an elephant's kin",
        "a vehicle; an Indian elephant fits",
        "buses carry berries",
    ]
    # elephant: in rows 1, 2, 3; Indian elephant: in 3; bus: in 4.
    np.testing.assert_array_equal(
        count_mentions(names, lemmas, glosses), [3, 1, 0, 1, 0]
    )
    assert count_mentions([], [], []).shape == (0,)


def test_mentions_tell_known_names_from_learned_ones(table: NounTable) -> None:
    def mentions(synset: str) -> int:
        return int(table.familiarity[row_of_synset(table, synset)])

    assert mentions("n02503517") > 20  # elephant
    assert mentions("n02503127") == 0  # proboscidean
    assert mentions("n02274259") > 20  # butterfly
    assert mentions("n02274024") < 3  # lepidopterous insect
