import json
import math
from pathlib import Path

import numpy as np
import pytest

from mca_jax.core.text import dump_json, load_json, plain_json, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b.jpg", "a b.jpg"),
        ("two\nlines\t.jpg", "two\\x0alines\\x09.jpg"),
        (b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), "caf\\xe9.jpg"),
        ("\ud800.jpg", "\\ud800.jpg"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("line\u2028separator", "line\\u2028separator"),
        ("ملف 🐕‍🦺 ž.jpg", "ملف 🐕‍🦺 ž.jpg"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
    assert len(printable(text).encode().splitlines()) == 1


def test_plain_json_knows_arrays_and_paths():
    value = {
        1: np.float32(0.5),
        "counts": np.array([[1, 2], [3, 4]]),
        "path": Path("a") / "b",
        "flags": (True, None),
        "none": np.bool_(False),
    }
    assert plain_json(value) == {
        "1": 0.5,
        "counts": [[1, 2], [3, 4]],
        "path": "a/b",
        "flags": [True, None],
        "none": False,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_not_finite_is_null(value):
    assert dump_json([value]) == "[null]"
    assert plain_json(value, 6) is None


def test_digits_are_significant_ones():
    values = [0.123456789, 1e-7 / 3, 12345.6789, 2, 0.1 + 0.2]
    assert plain_json(values, 6) == [0.123457, 3.33333e-08, 12345.7, 2, 0.3]
    assert plain_json(values) == values


def test_other_types_are_refused():
    with pytest.raises(TypeError, match=r"JSON can hold, found <class 'set'>"):
        dump_json({"a": {1, 2}})


@pytest.mark.parametrize(
    "text",
    ["plain", "ü 🐕", '"quoted" \\ back', "[\n 1,\n 2\n]", "\x00\x1f", "caf\udce9"],
)
def test_text_reads_back_the_same(text):
    written = dump_json({text: [text, {"in": text}]})
    assert json.loads(written.encode()) == {text: [text, {"in": text}]}


def test_rows_of_numbers_take_a_line_each():
    table = {"counts": [[1, -2.5], [1e-9, None]], "names": ["a", "b"], "none": []}
    written = dump_json(table)
    assert "[1, -2.5]" in written
    assert "[1e-09, null]" in written
    assert '"a",\n' in written
    assert json.loads(written) == table


@pytest.mark.parametrize("text", ["[" * 100_000, b"{", b"\xff", ""])
def test_json_that_is_none_is_a_value_error(text):
    with pytest.raises(ValueError, match="."):
        load_json(text)
