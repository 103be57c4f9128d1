"""The semantic space on small tables and on all of WordNet."""

import time

import jax
import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.semantics import Filter, NounTable, build_semantic_space, load_nouns
from mca_jax.semantics.space import _filter_nouns
from mca_jax.semantics.vocabulary.categories import concrete_mask, people_mask
from mca_jax.semantics.vocabulary.nouns import hypernym_edges, row_of_synset
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary


@pytest.fixture(scope="module")
def wordnet() -> NounTable:
    return load_nouns()


@pytest.fixture(scope="module")
def embeddings(wordnet: NounTable) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(len(wordnet.names), 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rows_of(table: NounTable, *synsets: str) -> np.ndarray:
    return np.array([row_of_synset(table, synset) for synset in synsets])


DOG, TERRIER, ENTITY, ANIMAL = "n02084071", "n02092468", "n00001740", "n00015388"
LIBERTY, NURSE, GENUS_CANIS, MONT_BLANC = (
    "n13991823",
    "n10366966",
    "n02083863",
    "n09358358",
)
RUDE, BEAVER = "n05538215", "n02363005"


def test_each_filter_takes_what_it_should(
    wordnet: NounTable, embeddings: np.ndarray
) -> None:
    centers = embeddings[rows_of(wordnet, TERRIER, DOG, BEAVER)]
    space = build_semantic_space(wordnet, embeddings, centers, nouns_per_center=50)
    code = dict(zip(wordnet.synsets, space.audit.codes.tolist(), strict=True))
    assert code[TERRIER] == Filter.KEPT
    assert code[BEAVER] == Filter.KEPT
    assert code[DOG] == Filter.ANCESTOR
    assert code[ENTITY] == Filter.UNRELATED
    assert code[LIBERTY] == Filter.UNRELATED
    assert code[GENUS_CANIS] == Filter.UNRELATED
    assert code[MONT_BLANC] == Filter.UNRELATED
    assert code[NURSE] == Filter.PEOPLE
    assert code[RUDE] == Filter.OFFENSIVE
    counts = space.audit.counts()
    assert list(counts)[-1] == "kept"
    assert sum(counts.values()) == len(wordnet.names)
    assert counts["kept"] == len(space.rows) <= 150
    assert counts["kept"] + counts["ancestor"] <= 150


def test_space_is_sorted_unit_and_consistent(
    wordnet: NounTable, embeddings: np.ndarray
) -> None:
    centers = embeddings[:5]
    space = build_semantic_space(wordnet, embeddings, centers, nouns_per_center=20)
    assert space.rows.dtype == np.int32
    assert (np.diff(space.rows) > 0).all()
    assert space.embeddings.dtype == np.float32
    np.testing.assert_array_equal(space.embeddings, embeddings[space.rows])
    scores = embeddings @ centers.T
    kept = space.rows
    np.testing.assert_array_equal(space.audit.center[kept], scores[kept].argmax(1))
    np.testing.assert_allclose(space.audit.cosine[kept], scores[kept].max(1), rtol=1e-5)


def test_no_kept_noun_is_above_another(
    wordnet: NounTable, embeddings: np.ndarray
) -> None:
    space = build_semantic_space(wordnet, embeddings, embeddings[:40])
    kept = set(space.rows.tolist())
    starts, parents = wordnet.parent_starts, wordnet.parents
    above: set[int] = set()
    stack = list(kept)
    while stack:
        row = stack.pop()
        new = set(parents[starts[row] : starts[row + 1]].tolist()) - above
        above |= new
        stack += new
    assert not kept & above


def test_every_center_gets_its_nouns(
    wordnet: NounTable, embeddings: np.ndarray
) -> None:
    # Filters that look at one noun run first: 50 usable ones are left, not 50 less
    # those that were abstract.
    space = build_semantic_space(
        wordnet,
        embeddings,
        embeddings[:1],
        nouns_per_center=50,
        drop_ancestors=False,
    )
    assert len(space.rows) == 50


def test_switches_open_the_space(wordnet: NounTable, embeddings: np.ndarray) -> None:
    centers = embeddings[rows_of(wordnet, NURSE, RUDE, LIBERTY, DOG, ENTITY)]
    space = build_semantic_space(
        wordnet,
        embeddings,
        centers,
        nouns_per_center=30,
        min_depth=0,
        drop_ancestors=False,
        concrete_only=False,
        allow_people=True,
        allow_offensive=True,
        photographed_only=False,
    )
    wanted = rows_of(wordnet, NURSE, RUDE, LIBERTY, DOG, ENTITY)
    assert (space.audit.codes[wanted] == Filter.KEPT).all()
    only_people = build_semantic_space(
        wordnet, embeddings, centers[:1], nouns_per_center=1, allow_people=True
    )
    assert only_people.rows.tolist() == rows_of(wordnet, NURSE).tolist()


def test_categories(wordnet: NounTable) -> None:
    concrete, people = concrete_mask(wordnet), people_mask(wordnet)
    apes = rows_of(wordnet, "n02480495", "n02484322", "n02469914")
    assert people[apes].all()  # orangutan, monkey, primate
    assert not people[rows_of(wordnet, "n02496913", DOG)].any()  # lemur
    assert (concrete & people).sum() < 120
    assert concrete[rows_of(wordnet, DOG, TERRIER, RUDE)].all()
    assert people[rows_of(wordnet, NURSE, "n00007846")].all()
    assert (people | (wordnet.category != 18)).all()
    assert 20_000 < concrete.sum() < 35_000


def test_vocabulary_without_hierarchy_passes_every_filter() -> None:
    table = parse_vocabulary("femur\ntibia\nliver\n")
    embeddings = np.eye(3, 4, dtype=np.float32)
    assert concrete_mask(table).all()
    assert not people_mask(table).any()
    space = build_semantic_space(table, embeddings, embeddings[:1])
    np.testing.assert_array_equal(space.rows, [0, 1, 2])
    assert space.audit.counts()["kept"] == 3


def test_vocabulary_with_parents_drops_ancestors() -> None:
    table = parse_vocabulary("femur,bone\nliver\n")
    embeddings = np.eye(3, 4, dtype=np.float32)
    space = build_semantic_space(table, embeddings, embeddings[:2])
    assert [table.names[row] for row in space.rows] == ["femur", "liver"]
    assert space.audit.codes.tolist() == [0, 0, Filter.ANCESTOR]
    entries = list(space.audit.entries(table))
    assert [entry.name for entry in entries] == ["femur", "liver", "bone"]
    assert entries[0] == ("femur", "", "kept", 0, 1.0)
    assert entries[2].filter == "ancestor"
    children, parents = hypernym_edges(table)
    assert (children.tolist(), parents.tolist()) == ([0], [2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_uniqueness": 2.0}, "not_unique took the last of 82115; lower min_uniq"),
        ({"min_depth": 99}, "too_general took the last of 82115; lower min_depth"),
    ],
)
def test_nothing_left_names_the_filter(
    wordnet: NounTable,
    embeddings: np.ndarray,
    settings: dict[str, float],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        build_semantic_space(wordnet, embeddings, embeddings[:2], **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nouns_per_center": 0}, "nouns_per_center at least 1, found 0"),
        ({"min_uniqueness": -0.1}, "min_uniqueness between 0 and 2, found -0.1"),
        ({"min_depth": -1}, "min_depth at least 0, found -1"),
    ],
)
def test_bad_settings(settings: dict[str, float], message: str) -> None:
    table = parse_vocabulary("a\nb\n")
    with pytest.raises(InputError, match=message):
        build_semantic_space(
            table, np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), **settings
        )


@pytest.mark.parametrize(
    ("nouns", "centers", "message"),
    [
        ((3, 4), (1, 4), r"noun embeddings of shape \[2, d\].*found \[3, 4\]"),
        ((2,), (1, 4), r"found \[2\]"),
        ((2, 4), (1, 5), r"centres of shape \[k, 4\].*found \[1, 5\]"),
        ((2, 4), (0, 4), r"found \[0, 4\]"),
    ],
)
def test_bad_shapes(
    nouns: tuple[int, ...], centers: tuple[int, ...], message: str
) -> None:
    table = parse_vocabulary("a\nb\n")
    with pytest.raises(InputError, match=message):
        build_semantic_space(
            table, np.ones(nouns, np.float32), np.ones(centers, np.float32)
        )


def test_one_trace_for_one_shape(embeddings: np.ndarray, wordnet: NounTable) -> None:
    nouns = jax.device_put(embeddings)
    build_semantic_space(wordnet, nouns, embeddings[:6])
    traced = _filter_nouns._cache_size()
    # Other centres and other thresholds are other values, not other programs.
    build_semantic_space(
        wordnet, nouns, embeddings[6:12], min_depth=2, min_uniqueness=0.1
    )
    assert _filter_nouns._cache_size() == traced


def test_sharded_nouns_give_the_same_space() -> None:
    names = [f"noun {row},{f'kind {row % 5}'}" for row in range(59)]
    table = parse_vocabulary("\n".join(names))
    assert len(table.names) == 64
    rng = np.random.default_rng(5)
    nouns = rng.normal(size=(64, 8)).astype(np.float32)
    nouns /= np.linalg.norm(nouns, axis=1, keepdims=True)
    plain = build_semantic_space(table, nouns, nouns[:3], nouns_per_center=9)
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = build_semantic_space(
        table, jax.device_put(nouns, rows), nouns[:3], nouns_per_center=9
    )
    np.testing.assert_array_equal(sharded.rows, plain.rows)
    np.testing.assert_array_equal(sharded.audit.codes, plain.audit.codes)
    np.testing.assert_allclose(sharded.audit.cosine, plain.audit.cosine, atol=1e-6)
    assert 0 < len(plain.rows) < 59


def test_all_of_wordnet_is_quick(wordnet: NounTable, embeddings: np.ndarray) -> None:
    nouns = jax.device_put(embeddings)
    build_semantic_space(wordnet, nouns, embeddings[:10])
    start = time.perf_counter()
    build_semantic_space(wordnet, nouns, embeddings[:10])
    # 0.1 s on two free cores at this width; the bound is for crowded machines.
    assert time.perf_counter() - start < 3
