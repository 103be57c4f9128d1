"""The list of photographed things, and words that people use."""

import numpy as np
import pytest

from experiments.build_photographed_asset import pack_lists
from mca_jax.core.assets import load_asset
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.naming import name_clusters, name_nodes
from mca_jax.semantics.space import nameable_nouns
from mca_jax.semantics.vocabulary.basic import UNPLEASANT, unpleasant_mask
from mca_jax.semantics.vocabulary.nouns import row_of_synset
from mca_jax.semantics.vocabulary.photographed import ASSET, photographed_mask
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary


@pytest.fixture(scope="module")
def wordnet() -> NounTable:
    return load_nouns()


def test_lists_are_those_of_imagenet(wordnet: NounTable) -> None:
    arrays = load_asset(ASSET)
    assert len(arrays["offsets"]) == 21_843
    assert int(arrays["often"].sum()) == 11_821
    assert int(photographed_mask(wordnet).sum()) == 11_821


def test_lists_are_packed_in_order() -> None:
    packed = pack_lists("n00000009\nn00000002\n", "n00000009\n")
    assert packed["offsets"].tolist() == [2, 9]
    assert packed["often"].tolist() == [False, True]


@pytest.mark.parametrize("noun", ["positron", "theca", "decoupage", "X chromosome"])
def test_what_nobody_photographs_is_out(wordnet: NounTable, noun: str) -> None:
    rows = nameable_nouns(wordnet)
    assert noun in wordnet.names
    assert noun not in {wordnet.names[row] for row in rows.tolist()}
    # A user who asks for it gets it.
    assert nameable_nouns(parse_vocabulary(noun)).tolist() == [0]


def test_every_unpleasant_synset_is_known(wordnet: NounTable) -> None:
    mask = unpleasant_mask(wordnet)
    assert all(mask[row_of_synset(wordnet, f"n{each:08d}")] for each in UNPLEASANT)
    assert not mask[wordnet.names.index("guitar")]


def test_thin_evidence_is_a_guess(wordnet: NounTable) -> None:
    rows = nameable_nouns(wordnet)
    flat = np.ones((2, len(rows)))
    dogs = [row_of_synset(wordnet, "n02084071") in set(above) for above in _above(rows)]
    flat[1, dogs] = 1000.0
    thin, sure = name_clusters(flat, None, wordnet, rows)
    assert thin.guess
    assert thin.name.startswith("group 0: like ")
    assert (sure.name, sure.guess) == ("dog", False)


def _above(rows: np.ndarray) -> list[frozenset[int]]:
    from mca_jax.semantics.naming import Concepts

    concepts = Concepts(load_nouns(), rows, min_specificity=0.0, min_depth=0)
    return [concepts.ancestors(row) for row in rows.tolist()]


def test_nodes_of_a_tree_are_named_from_the_general_to_the_special(
    wordnet: NounTable,
) -> None:
    rows = nameable_nouns(wordnet)
    nodes = np.zeros((5, len(rows)))
    kinds = {3: "n02084071", 4: "n02121620", 2: "n03467517"}  # dog, cat, guitar
    above = _above(rows)
    for node, synset in kinds.items():
        row = row_of_synset(wordnet, synset)
        nodes[node, [row in each for each in above]] = 1.0
    nodes /= np.maximum(nodes.sum(axis=1, keepdims=True), 1e-9)
    nodes[1] = nodes[3] + nodes[4]
    nodes[0] = nodes[1] + nodes[2]
    named = name_nodes(nodes, wordnet, rows, given={2: ("my guitars", False)})
    names = [name for name, _ in named]
    assert names[0] == "everything"
    assert names[1] in {"carnivore", "mammal", "domestic animal", "animal"}
    assert names[2:] == ["my guitars", "dog", "cat"]
    assert not any(guess for _, guess in named)
