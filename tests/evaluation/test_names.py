"""Scores of names: by hand, and against nltk."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.evaluation.names import is_related, rows_of_label, score_names, wu_palmer
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary.nouns import row_of_synset
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

WORDNET = Path("/usr/share/wordnet")

# thing > animal > dog > terrier > bull terrier; animal > cat; thing > rock
TREE = """
animal,thing
dog,animal
terrier,dog
bull terrier,terrier
cat,animal
rock,thing
ghost
"""


@pytest.fixture(scope="module")
def tree() -> NounTable:
    return parse_vocabulary(TREE)


@pytest.fixture(scope="module")
def wordnet() -> NounTable:
    return load_nouns()


def row(table: NounTable, name: str) -> int:
    return table.names.index(name)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("dog", "dog", 1.0),
        # Common ancestor animal: depth 2 in nodes, one edge from each.
        ("dog", "cat", 4 / 6),
        ("terrier", "cat", 4 / 7),
        # dog is its own ancestor: depth 3, one edge.
        ("dog", "terrier", 6 / 7),
        ("terrier", "rock", 2 / 6),
        ("dog", "ghost", 0.0),
    ],
)
def test_wu_palmer_by_hand(
    tree: NounTable, first: str, second: str, expected: float
) -> None:
    one, other = row(tree, first), row(tree, second)
    assert wu_palmer(tree, one, other) == pytest.approx(expected)
    assert wu_palmer(tree, other, one) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "steps", "expected"),
    [
        ("dog", "dog", 0, True),
        ("dog", "terrier", 0, False),
        ("dog", "terrier", 1, True),
        ("bull terrier", "animal", 3, True),
        ("bull terrier", "thing", 3, False),
        ("dog", "cat", 3, False),
        ("dog", "ghost", 3, False),
    ],
)
def test_is_related_by_hand(
    tree: NounTable, first: str, second: str, steps: int, expected: bool
) -> None:
    one, other = row(tree, first), row(tree, second)
    assert is_related(tree, one, other, max_steps=steps) is expected
    assert is_related(tree, other, one, max_steps=steps) is expected


def test_score_names_by_hand(tree: NounTable) -> None:
    headlines = [row(tree, "terrier"), row(tree, "cat"), -1, row(tree, "rock")]
    dog, animal = row(tree, "dog"), row(tree, "animal")
    scores = score_names(tree, headlines, [(dog,), (dog, animal), (dog,), ()])
    assert scores.count == 3
    assert scores.related == pytest.approx(2 / 3)
    # cat to animal, the better of the two: depth 2, one edge.
    assert scores.wu_palmer == pytest.approx((6 / 7 + 4 / 5 + 0) / 3)


def test_score_names_refuses_nonsense(tree: NounTable) -> None:
    with pytest.raises(InputError, match="found 1 classes for 2 headlines"):
        score_names(tree, [0, 1], [(0,)])
    with pytest.raises(InputError, match="at least one cluster"):
        score_names(tree, [0], [()])


def test_rows_of_label(wordnet: NounTable) -> None:
    rows = rows_of_label(wordnet, "Windsor_chair")
    assert [wordnet.synsets[r] for r in rows] == ["n04590933"]
    assert row_of_synset(wordnet, "n02110341") in rows_of_label(wordnet, "dalmatian")
    assert rows_of_label(wordnet, "no such thing") == ()


@pytest.mark.slow
def test_wu_palmer_agrees_with_nltk(
    wordnet: NounTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nltk = pytest.importorskip("nltk")
    if not (WORDNET / "data.noun").exists():
        pytest.skip(f"WordNet's files are not in {WORDNET} (package wordnet-base)")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    for file in WORDNET.iterdir():
        # Debian's browser for WordNet leaves folders among them.
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    (tmp_path / "lexnames").write_text(
        "".join(f"{i:02d}\tfile.{i}\t1\n" for i in range(45))
    )
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(WordNetCorpusReader, "map_wn", lambda self, *_: None)
    with pytest.warns(UserWarning, match="multilingual"):
        reader = WordNetCorpusReader(str(tmp_path), omw_reader=None)
    rng = np.random.default_rng(0)
    pairs = rng.choice(len(wordnet.names), (200, 2)).tolist()
    # Near pairs as well: random ones mostly meet at the top.
    pairs += [(r, r + int(d)) for r, d in rng.integers(1, 9, (200, 2)) * [9000, 1]]
    ties = 0
    for first, second in pairs:
        one, other = (
            reader.synset_from_pos_and_offset("n", int(wordnet.synsets[r][1:]))
            for r in (first, second)
        )
        deepest = one.lowest_common_hypernyms(other, use_min_depth=True)
        found = wu_palmer(wordnet, first, second)
        if len(deepest) == 1 or one in deepest:
            assert found == pytest.approx(one.wup_similarity(other))
        else:
            ties += 1
            assert found >= one.wup_similarity(other) - 1e-9
    assert ties < 100
