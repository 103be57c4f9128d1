"""Names of clusters: hand-worked, distinct, decent."""

import math

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.naming import (
    ClusterName,
    Concepts,
    name_clusters,
    weigh_evidence,
)
from mca_jax.semantics.vocabulary.nouns import row_of_synset
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

TREE = """
terrier,dog
hound,dog
poodle,dog
tabby,cat
siamese,cat
dog,animal
cat,animal
rock
"""
LEAVES = ("terrier", "hound", "poodle", "tabby", "siamese", "rock")


@pytest.fixture(scope="module")
def tree() -> NounTable:
    return parse_vocabulary(TREE)


@pytest.fixture(scope="module")
def wordnet() -> NounTable:
    return load_nouns()


def rows_of(table: NounTable, names: tuple[str, ...]) -> list[int]:
    return [table.names.index(name) for name in names]


def one_hot_texts(evidence: np.ndarray) -> np.ndarray:
    """Each noun assigned to the cluster that uses it most."""
    return np.eye(evidence.shape[0])[evidence.argmax(0)]


def names_of(
    table: NounTable, nouns: tuple[str, ...], evidence: list[list[float]], **kwargs: int
) -> list[ClusterName]:
    array = np.array(evidence, np.float32)
    rows = rows_of(table, nouns)
    return name_clusters(array, one_hot_texts(array), table, rows, **kwargs)


def synset_rows(table: NounTable, *synsets: str) -> list[int]:
    return [row_of_synset(table, synset) for synset in synsets]


def test_weights_by_hand() -> None:
    evidence = np.array([[3.0, 1.0], [0.0, 2.0]])
    texts = np.array([[1.0, 0.0], [0.5, 0.5]])
    # p = [[.75, .25], [0, 1]]; share over clusters [[1, .2], [0, .8]];
    # s = [[1, .35], [0, .65]].
    first = np.array([0.75 * 1.0, 0.25 * 0.35**0.25])
    expected = np.stack([first / first.sum(), [0.0, 1.0]])
    np.testing.assert_allclose(weigh_evidence(evidence, texts), expected, rtol=1e-12)


def test_weights_of_an_empty_cluster_are_zero() -> None:
    weights = weigh_evidence(np.array([[0.0, 0.0], [1.0, 1.0]]), np.full((2, 2), 0.5))
    np.testing.assert_array_equal(weights[0], [0, 0])
    np.testing.assert_allclose(weights[1].sum(), 1.0)


def test_a_noun_that_clusters_share_is_worth_less() -> None:
    evidence = np.array([[2.0, 2.0, 0.0], [0.0, 2.0, 2.0]])
    weights = weigh_evidence(evidence, np.full((3, 2), 0.5))
    assert weights[0, 0] > weights[0, 1]
    np.testing.assert_allclose(weights[0, 1], weights[1, 1])


def test_spread_evidence_gives_the_common_ancestor(tree: NounTable) -> None:
    dogs, cats, rock = names_of(
        tree,
        LEAVES,
        [[3, 3, 3, 0, 0, 0], [0, 0, 0, 4, 5, 0], [0, 0, 0, 0, 0, 7]],
    )
    assert (dogs.name, cats.name, rock.name) == ("dog", "cat", "rock")
    assert dogs.headline == tree.names.index("dog")
    # All the evidence is below each headline.
    assert [dogs.confidence, cats.confidence, rock.confidence] == pytest.approx([1] * 3)
    assert [tree.names[row] for row, _ in cats.nouns] == ["siamese", "tabby"]
    np.testing.assert_allclose([s for _, s in cats.nouns], [5 / 9, 4 / 9])


def test_merit_by_hand(tree: NounTable) -> None:
    rows = np.array(rows_of(tree, LEAVES))
    concepts = Concepts(tree, rows, min_specificity=0.42, min_depth=4)
    dog = tree.names.index("dog")
    # Four kinds, itself included, of nouns that count as at least 1000.
    assert concepts.specificity(dog) == pytest.approx(1 - math.log(4) / math.log(1000))
    coverage = concepts.cover(np.array([0.5, 0.25, 0, 0.25, 0, 0]))
    assert coverage[dog] == pytest.approx(0.75)
    assert coverage[tree.names.index("animal")] == pytest.approx(1.0)
    # dog 0.75 * 0.799 = 0.599, animal 1 * 0.699 is more.
    assert concepts.choose(np.array([0.3, 0.25, 0.2, 0.25, 0, 0]), coverage) == (
        tree.names.index("animal")
    )


def test_a_noun_that_dominates_is_the_name(tree: NounTable) -> None:
    (terrier, other) = names_of(tree, LEAVES, [[8, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]])
    assert terrier.name == "terrier"
    assert terrier.confidence == pytest.approx(0.8)
    assert other.name == "cat"


def test_namesakes_are_told_apart(tree: NounTable) -> None:
    names = names_of(tree, LEAVES, [[5, 4, 1, 0, 0, 0], [1, 4, 5, 0, 0, 0]])
    assert [name.headline for name in names] == [tree.names.index("dog")] * 2
    assert [name.name for name in names] == ["dog (terrier)", "dog (poodle)"]


def test_a_number_is_the_last_resort(tree: NounTable) -> None:
    names = names_of(tree, LEAVES, [[1, 1, 1, 0, 0, 0]] * 3)
    assert [name.name for name in names] == ["dog 1", "dog 2", "dog 3"]


def test_empty_clusters_have_names_of_their_own(tree: NounTable) -> None:
    evidence = [[0] * 6, [0, 0, 0, 1, 1, 0], [0] * 6]
    names = names_of(tree, LEAVES, evidence)
    assert [n.name for n in names] == ["empty cluster 0", "cat", "empty cluster 2"]
    assert names[0] == ClusterName("empty cluster 0", (), 0.0, -1)
    sized = name_clusters(
        np.array(evidence),
        np.full((6, 3), 1 / 3),
        tree,
        rows_of(tree, LEAVES),
        sizes=[3, 5, 0],
    )
    assert [n.name for n in sized] == ["unnamed cluster 0", "cat", "empty cluster 2"]


def test_flat_vocabulary() -> None:
    table = parse_vocabulary("femur\ntibia\nliver\nempty cluster 2\n")
    names = names_of(
        table,
        ("femur", "tibia", "liver", "empty cluster 2"),
        [[5, 4, 0, 0], [4, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]],
    )
    assert [n.name for n in names[:2]] == ["femur", "tibia"]
    assert len({n.name.casefold() for n in names}) == 4


def test_nouns_that_read_the_same_are_listed_once(wordnet: NounTable) -> None:
    # A piece of armour and a gun; the mortar tells which cannon is meant.
    rows = synset_rows(wordnet, "n02950632", "n02950256", "n03786715", "n02084071")
    assert [wordnet.names[r] for r in rows] == ["cannon", "cannon", "mortar", "dog"]
    evidence = np.array([[3.0, 3.0, 2.0, 0.0], [0, 0, 0, 1.0]])
    named, _ = name_clusters(evidence, one_hot_texts(evidence), wordnet, rows)
    assert named.name == "cannon"
    assert named.headline == rows[1]
    assert [wordnet.names[row] for row, _ in named.nouns] == ["cannon", "mortar"]
    assert named.nouns[0][1] == pytest.approx(0.75)
    # The armour reads the same, and a mortar is a kind of cannon.
    assert named.confidence == pytest.approx(1.0)


def test_wordnet_headlines_are_words_that_people_use(wordnet: NounTable) -> None:
    mammoths = synset_rows(wordnet, "n02504013", "n02504458", "n02504770", "n02505063")
    evidence = np.array([[3.0, 3.0, 2.0, 2.0]])
    (named,) = name_clusters(evidence, np.ones((4, 1)), wordnet, mammoths)
    assert named.name == "elephant"


def test_nothing_too_general_or_unfit_is_a_headline(wordnet: NounTable) -> None:
    rng = np.random.default_rng(0)
    rows = rng.choice(
        np.flatnonzero((wordnet.kinds == 1) & ~wordnet.offensive), 400, replace=False
    )
    evidence = rng.gamma(0.2, size=(30, 400))
    texts = rng.dirichlet(np.ones(30), size=400)
    names = name_clusters(evidence, texts, wordnet, rows, num_nouns=5)
    assert len({name.name.casefold() for name in names}) == 30
    for name in names:
        assert name.name.isprintable()
        assert name.name.strip() == name.name != ""
        assert not wordnet.offensive[name.headline]
        assert wordnet.kinds[name.headline] <= 990
        assert wordnet.depth[name.headline] >= 4
        assert 0 <= name.confidence <= 1
        assert 1 <= len(name.nouns) <= 5
        shares = [share for _, share in name.nouns]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1 + 1e-9
        assert {row for row, _ in name.nouns} <= set(rows.tolist())


def test_names_do_not_depend_on_the_number_of_images(tree: NounTable) -> None:
    evidence = np.array([[3.0, 2, 1, 0, 1, 0], [0, 1, 0, 4, 3, 1]])
    texts = np.full((6, 2), 0.5)
    rows = rows_of(tree, LEAVES)
    small = name_clusters(evidence, texts, tree, rows)
    large = name_clusters(evidence * [[1000], [7]], texts, tree, rows)
    assert [n.name for n in small] == [n.name for n in large]


def test_clusters_may_come_in_any_order(tree: NounTable) -> None:
    rng = np.random.default_rng(1)
    evidence, texts = rng.gamma(0.5, size=(4, 6)), rng.dirichlet(np.ones(4), 6)
    rows = rows_of(tree, LEAVES)
    order = [2, 0, 3, 1]
    plain = name_clusters(evidence, texts, tree, rows)
    moved = name_clusters(evidence[order], texts[:, order], tree, rows)
    assert [n.headline for n in moved] == [plain[c].headline for c in order]
    np.testing.assert_allclose(
        [n.confidence for n in moved], [plain[c].confidence for c in order]
    )


@pytest.mark.parametrize(
    ("evidence", "texts", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), r"found \[2, 3\] and \[2, 3\]"),
        (np.ones(3), np.ones((3, 1)), r"found \[3\]"),
        (-np.ones((1, 3)), np.ones((3, 1)), "evidence of at least 0"),
        (np.full((1, 3), np.nan), np.ones((3, 1)), "finite evidence"),
        (np.ones((1, 3)), -np.ones((3, 1)), r"text assignments in \[0, 1\]"),
        (np.ones((1, 3)), np.ones((3, 1)), r"Expected 3 rows of nouns.*found \[2\]"),
    ],
)
def test_bad_arrays(
    tree: NounTable, evidence: np.ndarray, texts: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        name_clusters(evidence, texts, tree, [0, 1])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_nouns": 0}, "num_nouns at least 1, found 0"),
        ({"min_specificity": 1.5}, "min_specificity between 0 and 1, found 1.5"),
        ({"min_depth": -1}, "min_depth at least 0"),
    ],
)
def test_bad_settings(tree: NounTable, setting: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        name_clusters(np.ones((1, 1)), np.ones((1, 1)), tree, [0], **setting)


def test_primate_is_no_name_unless_people_were_asked_for(wordnet: NounTable) -> None:
    lemur, tarsier, monkey = synset_rows(wordnet, "n02497673", "n02501583", "n02484322")
    evidence = np.array([[1.0, 1.0]])
    (named,) = name_clusters(evidence, np.ones((2, 1)), wordnet, [lemur, tarsier])
    assert named.headline != row_of_synset(wordnet, "n02469914")
    evidence = np.array([[0.3, 0.3, 0.3]])
    rows = [lemur, tarsier, monkey]
    (named,) = name_clusters(evidence, np.ones((3, 1)), wordnet, rows)
    assert named.name == "primate"
