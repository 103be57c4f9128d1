"""WordNet's parser, the embedded table, and its agreement with nltk."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary.graph import longest_path
from mca_jax.semantics.vocabulary.nouns import hypernym_edges, row_of_synset
from mca_jax.semantics.vocabulary.sources import pack_table, unpack_table
from mca_jax.semantics.vocabulary.wordnet import build_table, parse_data_noun, read_nltk

WORDNET = Path("/usr/share/wordnet")

LEXNAMES = re.findall(
    r"\S+",
    """
    adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact
    noun.attribute noun.body noun.cognition noun.communication noun.event
    noun.feeling noun.food noun.group noun.location noun.motive noun.object
    noun.person noun.phenomenon noun.plant noun.possession noun.process
    noun.quantity noun.relation noun.shape noun.state noun.substance noun.time
    verb.body verb.change verb.cognition verb.communication verb.competition
    verb.consumption verb.contact verb.creation verb.emotion verb.motion
    verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl
    """,
)

# Three synsets in WordNet's format: a root, a kind of it with two lemmas, a domain
# on its second lemma and an example, and an instance.
LINES = [
    "  1 This software and database is being provided to you under a licence\n",
    "00000010 03 n 01 thing 0 001 ~ 00000020 n 0000 | a root  \n",
    "00000020 05 n 02 hot_dog 0 Red_dog 1 003 @ 00000010 n 0000 "
    ';u 06717170 n 0202 + 00692347 v 0101 | a kind; "an example; of it"; of dog  \n',
    "00000030 17 n 01 Big_Dog 0 001 @i 00000020 n 0000 | one dog \n",
]


@pytest.fixture(scope="module")
def table() -> NounTable:
    return load_nouns()


@pytest.fixture(scope="module")
def nltk_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nltk")
    if not (WORDNET / "data.noun").exists():
        pytest.skip(f"WordNet's files are not in {WORDNET} (package wordnet-base)")
    folder = tmp_path_factory.mktemp("nltk") / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for file in WORDNET.iterdir():
        # Debian's browser for WordNet leaves folders among them.
        if file.is_file():
            shutil.copy(file, folder / file.name)
    (folder / "lexnames").write_text(
        "".join(f"{i:02d}\t{name}\t1\n" for i, name in enumerate(LEXNAMES))
    )
    return folder


def test_parser_reads_every_field() -> None:
    root, kind, instance = parse_data_noun(LINES)
    assert (root.offset, root.category, root.lemmas) == (10, 3, ("thing",))
    assert (root.hypernyms, root.instance, root.usages) == ((), False, ())
    assert kind.lemmas == ("hot dog", "Red dog")
    assert kind.gloss == "a kind; ; of dog"
    assert (kind.hypernyms, kind.instance) == ((10,), False)
    assert kind.usages == ((1, 6717170),)
    assert (instance.hypernyms, instance.instance) == ((20,), True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "found no synset"),
        (["  licence only\n"], "found no synset"),
        (["not wordnet\n"], "line 1: 'not wordnet"),
        ([LINES[1], "00000020 05 n 0z hot_dog\n"], "line 2"),
    ],
)
def test_parser_names_what_is_wrong(lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_data_noun(lines)


def test_build_table_resolves_parents_and_depths() -> None:
    table = build_table(parse_data_noun(LINES))
    assert table.names == ("thing", "hot dog", "Big Dog")
    assert table.synsets == ("n00000010", "n00000020", "n00000030")
    np.testing.assert_array_equal(table.parent_starts, [0, 0, 1, 2])
    np.testing.assert_array_equal(table.parents, [0, 1])
    np.testing.assert_array_equal(table.depth, [0, 1, 2])
    np.testing.assert_array_equal(table.category, [3, 5, 17])
    np.testing.assert_array_equal(table.instance, [False, False, True])


def test_build_table_names_a_missing_hypernym() -> None:
    with pytest.raises(InputError, match="offset 00000010"):
        build_table(parse_data_noun(LINES[2:]))


def test_packed_table_comes_back_the_same() -> None:
    table = build_table(parse_data_noun(LINES))
    assert_tables_equal(unpack_table(pack_table(table)), table)


def assert_tables_equal(found: NounTable, expected: NounTable) -> None:
    for field in NounTable._fields:
        one, other = getattr(found, field), getattr(expected, field)
        if isinstance(one, tuple):
            assert one == other, field
        else:
            assert one.dtype == other.dtype, field
            np.testing.assert_array_equal(one, other, err_msg=field)


def test_embedded_table_is_wordnet(table: NounTable) -> None:
    assert len(table.names) == 82_115
    assert list(table.synsets) == sorted(table.synsets)
    assert table.parent_starts.shape == (82_116,)
    assert table.parent_starts[-1] == table.parents.size
    dtypes = {
        "parent_starts": np.int32,
        "parents": np.int32,
        "depth": np.int16,
        "category": np.uint8,
        "instance": np.bool_,
        "offensive": np.bool_,
    }
    for field, dtype in dtypes.items():
        assert getattr(table, field).dtype == dtype, field
    roots = np.flatnonzero(np.diff(table.parent_starts) == 0)
    assert [table.names[row] for row in roots] == ["entity"]
    assert (table.category >= 3).all()
    assert (table.category <= 28).all()


def test_embedded_table_knows_dog(table: NounTable) -> None:
    row = row_of_synset(table, "n02084071")
    assert table.names[row] == "dog"
    assert table.lemmas[row] == ("dog", "domestic dog", "Canis familiaris")
    assert table.glosses[row].startswith("a member of the genus Canis")
    parents = table.parents[table.parent_starts[row] : table.parent_starts[row + 1]]
    assert {table.names[p] for p in parents} == {"canine", "domestic animal"}
    assert table.depth[row] == 8  # through "domestic animal": nltk's min_depth().
    assert table.category[row] == 5
    assert not table.instance[row]


def test_depth_is_one_more_than_the_nearest_parent(table: NounTable) -> None:
    children, parents = hypernym_edges(table)
    nearest = np.full(len(table.names), np.iinfo(np.int16).max, np.int16)
    np.minimum.at(nearest, children, table.depth[parents])
    below = np.unique(children)
    np.testing.assert_array_equal(table.depth[below], nearest[below] + 1)
    assert longest_path(children, parents, len(table.names)) == 19


def test_names_are_printable(table: NounTable) -> None:
    for name in table.names:
        assert name.isprintable()
        assert "_" not in name
        assert name == name.strip()
        assert name


def test_embedded_table_agrees_with_own_parser(table: NounTable) -> None:
    if not (WORDNET / "data.noun").exists():
        pytest.skip(f"WordNet's files are not in {WORDNET} (package wordnet-base)")
    with (WORDNET / "data.noun").open(encoding="utf-8") as lines:
        assert_tables_equal(build_table(parse_data_noun(lines)), table)


@pytest.mark.slow
def test_embedded_table_agrees_with_nltk(
    table: NounTable, nltk_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(nltk_folder.parents[1])])
    assert_tables_equal(load_nouns("nltk"), table)


@pytest.mark.slow
def test_nltk_reads_the_zip_that_its_downloader_leaves(
    table: NounTable,
    nltk_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import nltk

    corpora = tmp_path / "corpora"
    shutil.make_archive(
        str(corpora / "wordnet"), "zip", nltk_folder.parent, nltk_folder.name
    )
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    synsets = read_nltk()
    assert len(synsets) == len(table.names)
    assert synsets[0].lemmas == ("entity",)


def test_nltk_without_a_corpus_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(InputError, match="embedded nouns") as caught:
        read_nltk()
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="Expected a WordNet corpus"):
        read_nltk(tmp_path)
