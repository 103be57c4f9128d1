"""Relevance, uniqueness, hierarchy: hand-worked, and against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.semantics import load_nouns
from mca_jax.semantics.hierarchy import ancestor_mask, depth_mask
from mca_jax.semantics.relevance import relevance, relevance_mask
from mca_jax.semantics.uniqueness import uniqueness, uniqueness_mask
from mca_jax.semantics.vocabulary.graph import (
    descendants,
    longest_path,
    shortest_depths,
)
from mca_jax.semantics.vocabulary.nouns import NounTable, hypernym_edges, row_of_synset

# entity 0 > animal 1 > {dog 2 > terrier 3, cat 4}; pet 5 > {dog, cat}; rock 6.
CHILDREN = np.array([1, 2, 3, 4, 2, 4, 5, 6], np.int32)
PARENTS = np.array([0, 1, 2, 1, 5, 5, 0, 0], np.int32)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def table() -> NounTable:
    return load_nouns()


def test_ancestors_by_hand() -> None:
    kept = np.array([True, True, False, True, False, False, True])
    above = ancestor_mask(kept, CHILDREN, PARENTS, longest_path=3)
    # Of terrier: dog, animal, pet, entity, through a dog that isn't kept.
    np.testing.assert_array_equal(above, [1, 1, 1, 0, 0, 1, 0])
    assert above.dtype == bool


def test_ancestors_of_none_and_in_a_flat_vocabulary() -> None:
    none = np.zeros(7, bool)
    assert not ancestor_mask(none, CHILDREN, PARENTS, longest_path=3).any()
    empty = np.zeros(0, np.int32)
    assert not ancestor_mask(~none, empty, empty, longest_path=0).any()


def test_ancestors_equal_a_recursive_walk(table: NounTable) -> None:
    rng = np.random.default_rng(0)
    count = len(table.names)
    kept = np.zeros(count, bool)
    kept[rng.choice(count, 300, replace=False)] = True
    expected = np.zeros(count, bool)
    stack = np.flatnonzero(kept).tolist()
    while stack:
        row = stack.pop()
        for parent in table.parents[
            table.parent_starts[row] : table.parent_starts[row + 1]
        ].tolist():
            if not expected[parent]:
                expected[parent] = True
                stack.append(parent)
    children, parents = hypernym_edges(table)
    climb = jax.jit(ancestor_mask, static_argnames="longest_path")
    found = climb(kept, children, parents, longest_path=19)
    np.testing.assert_array_equal(found, expected)


def test_ancestors_under_jit_and_vmap() -> None:
    kept = np.eye(7, dtype=bool)
    batched = jax.vmap(
        lambda row: ancestor_mask(row, CHILDREN, PARENTS, longest_path=3)
    )
    above = np.asarray(jax.jit(batched)(kept))
    assert above[3].tolist() == [True, True, True, False, False, True, False]
    assert not above[0].any()


def test_longest_path_and_depths() -> None:
    assert longest_path(CHILDREN, PARENTS, 7) == 3
    np.testing.assert_array_equal(
        shortest_depths(CHILDREN, PARENTS, 7), [0, 1, 2, 3, 2, 1, 1]
    )
    empty = np.zeros(0, np.int32)
    assert longest_path(empty, empty, 4) == 0
    assert shortest_depths(empty, empty, 4).tolist() == [0] * 4


def test_cycles_do_not_hang() -> None:
    children, parents = np.array([1, 2, 1]), np.array([2, 1, 0])
    with pytest.raises(InputError, match="without cycles"):
        longest_path(children, parents, 3)
    assert shortest_depths(np.array([1, 2]), np.array([2, 1]), 3).tolist() == [
        0,
        -1,
        -1,
    ]


def test_descendants(table: NounTable) -> None:
    found = descendants([1], CHILDREN, PARENTS, 7)
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 1, 0, 0])
    assert not descendants([], CHILDREN, PARENTS, 7).any()
    children, parents = hypernym_edges(table)
    dogs = descendants(
        [row_of_synset(table, "n02084071")], children, parents, len(table.names)
    )
    assert dogs.sum() == 190  # nltk: len(closure of hyponyms of dog.n.01) + 1.
    assert row_of_synset(table, "n99999999") == -1


def test_depth_mask() -> None:
    np.testing.assert_array_equal(
        depth_mask(np.array([0, 3, 4, 9], np.int16), 4), [False, False, True, True]
    )


def test_uniqueness_by_hand() -> None:
    nouns = unit([[1, 0], [0, 1], [1, 1]])
    # By symmetry the mean points along (1, 1).
    np.testing.assert_allclose(
        uniqueness(nouns), [1 - 0.5**0.5, 1 - 0.5**0.5, 0.0], atol=1e-5
    )
    np.testing.assert_array_equal(
        uniqueness_mask(nouns, min_uniqueness=0.05), [True, True, False]
    )


def test_uniqueness_against_numpy_in_float64() -> None:
    rng = np.random.default_rng(1)
    nouns = unit(rng.normal(size=(500, 16)) + 0.7)
    mean = nouns.astype(np.float64).mean(0)
    expected = 1 - nouns @ (mean / np.linalg.norm(mean))
    np.testing.assert_allclose(uniqueness(nouns), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_uniqueness_has_no_scale(scale: float) -> None:
    # Opposite pairs cancel but for a small offset, whose direction decides.
    nouns = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 1]], np.float32)
    weights = np.array([1, 1, 1, 1, scale], np.float32)
    scores = uniqueness(nouns * weights[:, None])
    np.testing.assert_allclose(scores[:4], [1, 1, 0, 2], atol=1e-3)


def test_uniqueness_without_a_mean_takes_nobody() -> None:
    nouns = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    np.testing.assert_allclose(uniqueness(nouns), np.ones(4))
    assert jnp.isfinite(uniqueness(nouns)).all()


def brute_force(
    nouns: np.ndarray, centers: np.ndarray, candidates: np.ndarray, count: int
) -> np.ndarray:
    mask = np.zeros(len(nouns), bool)
    rows = np.flatnonzero(candidates)
    for center in centers:
        order = np.argsort(-(nouns[rows] @ center), kind="stable")
        mask[rows[order[:count]]] = True
    return mask


def test_relevance_by_hand() -> None:
    nouns = unit([[1, 0.1], [1, 0.2], [0.1, 1], [0.2, 1], [-1, 0]])
    centers = unit([[1, 0], [0, 1]])
    everyone = np.ones(5, bool)
    found = relevance(nouns, centers, everyone, nouns_per_center=1)
    np.testing.assert_array_equal(found.mask, [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.center, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(found.cosine[4], 0.0, atol=1e-6)
    # The nearest noun may not be a candidate; the centre still gets one.
    some = np.array([False, True, True, True, True])
    np.testing.assert_array_equal(
        relevance_mask(nouns, centers, some, nouns_per_center=1), [0, 1, 1, 0, 0]
    )


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_relevance_equals_brute_force_in_any_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    nouns, centers = unit(rng.normal(size=(60, 8))), unit(rng.normal(size=(7, 8)))
    candidates = rng.random(60) < 0.6
    monkeypatch.setattr("mca_jax.semantics.relevance._SCORES_PER_BLOCK", 60 * block)
    found = relevance(nouns, centers, candidates, nouns_per_center=5)
    np.testing.assert_array_equal(
        found.mask, brute_force(nouns, centers, candidates, 5)
    )
    scores = nouns @ centers.T
    np.testing.assert_array_equal(found.center, scores.argmax(1))
    np.testing.assert_allclose(found.cosine, scores.max(1), rtol=1e-5)


@pytest.mark.parametrize("wanted", [4, 5, 1000])
def test_relevance_keeps_all_of_few_candidates(wanted: int) -> None:
    rng = np.random.default_rng(3)
    nouns, centers = unit(rng.normal(size=(30, 4))), unit(rng.normal(size=(3, 4)))
    candidates = np.zeros(30, bool)
    candidates[[3, 9, 20, 21]] = True
    found = relevance_mask(nouns, centers, candidates, nouns_per_center=wanted)
    np.testing.assert_array_equal(found, candidates)


def test_relevance_compiles_once_for_one_shape() -> None:
    traces = 0

    def counted(nouns: jax.Array, centers: jax.Array, ok: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return relevance_mask(nouns, centers, ok, nouns_per_center=3)

    compiled = jax.jit(counted)
    rng = np.random.default_rng(4)
    for _ in range(3):
        nouns, centers = unit(rng.normal(size=(40, 4))), unit(rng.normal(size=(5, 4)))
        ok = rng.random(40) < 0.5
        np.testing.assert_array_equal(
            compiled(nouns, centers, ok), brute_force(nouns, centers, ok, 3)
        )
    assert traces == 1
