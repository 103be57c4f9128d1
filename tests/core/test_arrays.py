import numpy as np
import pytest

from mca_jax.core.arrays import as_numbers, as_whole_number, check_lengths
from mca_jax.core.errors import InputError

ROWS = [[1.0, 2.0], [3.0, 4.0]]


class Tensor:
    """What a tensor with a gradient does: it is no array before it is detached."""

    __module__ = "torch"

    def __init__(self, values, ready=False):
        """Keep them."""
        self.values, self.ready = values, ready

    def __array__(self, dtype=None, copy=None):
        """Refuse as torch does."""
        if not self.ready:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return np.asarray(self.values, dtype)

    def detach(self):
        """Let go of the gradient."""
        return Tensor(self.values, ready=True)

    def cpu(self):
        """Already there."""
        return self

    def float(self):
        """Already that."""
        return self


@pytest.mark.parametrize(
    "values",
    [
        ROWS,
        np.array(ROWS),
        np.array(ROWS, int),
        np.array(ROWS, object),
        np.array(ROWS, np.float16),
        Tensor(ROWS),
    ],
)
def test_numbers_of_any_make(values):
    found = as_numbers("x", values)
    assert found.dtype == (np.float16 if found.itemsize == 2 else np.float32)
    np.testing.assert_array_equal(found, ROWS)


def test_numbers_of_other_libraries():
    pandas = pytest.importorskip("pandas")
    np.testing.assert_array_equal(as_numbers("x", pandas.DataFrame(ROWS)), ROWS)
    with pytest.raises(InputError, match="found DataFrame of object"):
        as_numbers("x", pandas.DataFrame({"a": [1, 2], "b": ["c", "d"]}))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[1, 2], [3]], "rows of several lengths"),
        (np.array(ROWS).astype(str), "type <U32"),
        (np.array(ROWS) + 1j, "type complex128"),
        (np.array(["2001-01-01"], "M8[D]"), "datetime64"),
        ([{"a": 1}], "list of object"),
        ("folder", "type <U6"),
    ],
)
def test_what_is_no_number(values, found):
    with pytest.raises(InputError, match=rf"Expected x as a table .*found .*{found}"):
        as_numbers("x", values)


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.float32(3), np.array(3)])
def test_whole_numbers(value):
    found = as_whole_number("k", value)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize(
    "value", [2.5, True, np.True_, "3", None, [3], np.array([3, 3]), np.nan, np.inf]
)
def test_numbers_that_are_not_whole(value):
    with pytest.raises(InputError, match="Expected k as a whole number, found"):
        as_whole_number("k", value)


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (1, 0, "nothing but zeros in row 11;"),
        (0, 1e-30, "values of 1e-30 in row 10;"),
        (2, 1e30, r"values of 1e\+30 in row 12;"),
    ],
)
def test_rows_without_a_direction(row, value, message):
    rows = np.ones((3, 2), np.float32)
    check_lengths("x", rows)
    rows[row] = value
    with pytest.raises(InputError, match=message):
        check_lengths("x", rows, first=10)
    with pytest.raises(InputError, match="row 0 and 1 more"):
        check_lengths("x", np.zeros((2, 4)))
