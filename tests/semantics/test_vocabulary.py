"""A user's own vocabulary, as users write them."""

from pathlib import Path

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.semantics import USER_CATEGORY, NounTable, load_nouns
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary, read_vocabulary


def parents_of(table: NounTable, name: str) -> set[str]:
    row = table.names.index(name)
    found = table.parents[table.parent_starts[row] : table.parent_starts[row + 1]]
    return {table.names[parent] for parent in found}


def test_plain_list() -> None:
    table = parse_vocabulary("femur\ntibia\n")
    assert table.names == ("femur", "tibia")
    assert table.synsets == ("", "")
    assert table.lemmas == (("femur",), ("tibia",))
    assert table.glosses == ("", "")
    np.testing.assert_array_equal(table.parent_starts, [0, 0, 0])
    assert table.parents.shape == (0,)
    np.testing.assert_array_equal(table.depth, [0, 0])
    assert (table.category == USER_CATEGORY).all()
    assert not table.offensive.any()


@pytest.mark.parametrize("separator", [",", "\t", " , "])
def test_parents(separator: str) -> None:
    lines = ["bone", "femur,bone", "femoral head,femur"]
    table = parse_vocabulary("\n".join(lines).replace(",", separator))
    assert table.names == ("bone", "femur", "femoral head")
    assert parents_of(table, "femoral head") == {"femur"}
    np.testing.assert_array_equal(table.depth, [0, 1, 2])


def test_tabs_win_over_commas() -> None:
    table = parse_vocabulary("kidney, left\tkidney\n")
    assert table.names == ("kidney, left", "kidney")
    assert parents_of(table, "kidney, left") == {"kidney"}


def test_a_parent_without_a_line_is_added_last() -> None:
    table = parse_vocabulary("femur,bone\ntibia,bone\nliver\n")
    assert table.names == ("femur", "tibia", "liver", "bone")
    np.testing.assert_array_equal(table.depth, [1, 1, 0, 0])


def test_two_parents_and_duplicates() -> None:
    text = "knee,joint\nKnee,leg\nknee,joint\nknee\nKNEE_\n"
    table = parse_vocabulary(text)
    assert table.names == ("knee", "joint", "leg")
    assert parents_of(table, "knee") == {"joint", "leg"}


def test_comments_blanks_marks_and_line_ends() -> None:
    text = '# bones\r\n\r\n  femur \r\n\t\r\n,orphan\r\n"tibia"\r\n  # more\r\n'
    table = parse_vocabulary(text.replace("\t", ""))
    assert table.names == ("femur", "tibia")


def test_byte_order_mark_and_old_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "nouns.txt"
    path.write_bytes(b"\xef\xbb\xbfsch\xc3\xa4del\rfemur\r")
    assert read_vocabulary(path).names == ("schädel", "femur")
    assert load_nouns(path).names == ("schädel", "femur")
    assert load_nouns(str(path)).names == ("schädel", "femur")


def test_control_characters_do_not_reach_a_name() -> None:
    assert parse_vocabulary("fe\x07mur\x1b[31m\n").names == ("fe mur [31m",)


def test_cycle_is_named() -> None:
    with pytest.raises(
        InputError, match="found .*a > b > c > a|b > c > a > b|c > a > b > c"
    ):
        parse_vocabulary("x,a\na,b\nb,c\nc,a\n")
    with pytest.raises(InputError, match="own.txt, found a > a;"):
        parse_vocabulary("a,a\n", "own.txt")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", ",a\n", "  \t \n"])
def test_no_usable_noun(text: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"empty\.txt, found none"):
        read_vocabulary(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.txt, found: no such file"):
        read_vocabulary(tmp_path / "missing.txt")
    with pytest.raises(InputError, match="is a directory"):
        read_vocabulary(tmp_path)
    latin = tmp_path / "latin.txt"
    latin.write_bytes("schädel".encode("latin-1"))
    with pytest.raises(InputError, match=r"UTF-8 text in .*latin\.txt, found byte 3"):
        read_vocabulary(latin)


def test_unknown_source_is_read_as_a_path() -> None:
    with pytest.raises(InputError, match="Expected a vocabulary file at wordnett"):
        load_nouns("wordnett")
