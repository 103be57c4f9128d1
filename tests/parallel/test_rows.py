"""A function of arrays gives the same of rows on a device, over eight, on the host."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.parallel import (
    HostRows,
    ShardedRows,
    compute,
    data_mesh,
    first_columns,
    fold_pairs,
    map_neighborhoods,
    map_rows,
    reduce_rows,
    shard_like,
    shard_rows,
)

# Whole numbers: sums are the same in every order. 21 is no multiple of 8.
ROWS = np.random.default_rng(0).integers(0, 9, (21, 3)).astype(np.float32)


@pytest.fixture(params=["one device", "eight devices", "host"])
def rows(request):
    if request.param == "host":
        return HostRows(ROWS.astype(np.float16), 4)
    if request.param == "eight devices":
        return shard_rows(ROWS, data_mesh(8))
    return jnp.asarray(ROWS)


def _with(x, row, shift, *, scale):
    return {"all": (x + shift) * scale, "first": row + x[:, 0].astype(jnp.int32)}


def test_each_row_is_mapped(rows):
    beside = np.arange(21, dtype=np.int32)
    function = partial(_with, scale=2.0)
    found = map_rows(function, rows, beside, whole=(jnp.ones(()),), over_hosts=True)
    assert type(found["all"]) is type(rows)
    np.testing.assert_array_equal(np.asarray(found["all"]), 2 * (ROWS + 1))
    np.testing.assert_array_equal(np.asarray(found["first"]), beside + ROWS[:, 0])
    assert np.asarray(found["first"]).dtype == np.int32
    if isinstance(rows, ShardedRows):
        # Padding takes part in no sum later.
        np.testing.assert_array_equal(np.asarray(found["all"].array)[21:], 0.0)


def _moments(x, shift):
    return jnp.sum(x + shift, axis=0), x.T @ x


def test_blocks_are_added_up(rows):
    total, square = reduce_rows(_moments, rows, whole=(jnp.ones(()),))
    np.testing.assert_array_equal(total, ROWS.sum(axis=0) + 21)
    np.testing.assert_array_equal(square, ROWS.T @ ROWS)


def test_a_function_sees_the_true_rows(rows):
    shape, largest = compute(lambda x: (jnp.array(x.shape), jnp.max(-x)), rows)
    assert shape.tolist() == [21, 3]
    assert largest == -ROWS.min()


def _twice(own, total):
    return own + 2 * total


def test_neighbours_are_summed(rows):
    near = np.random.default_rng(1).integers(0, 21, (21, 4))
    found = map_neighborhoods(_twice, rows, shard_like(near, rows))
    expected = ROWS + 2 * ROWS[near].sum(axis=1)
    np.testing.assert_array_equal(np.asarray(found), expected)


def _add_products(known, queries, query_ids, columns, column_ids):
    products = jnp.where(column_ids[None] >= 0, queries @ columns.T, 0.0)
    later = column_ids[None] > query_ids[:, None]
    found = jnp.sum(jnp.where(later, products, 0.0), axis=1)
    return found if known is None else known + found


def test_each_row_meets_every_row_once(rows):
    found = fold_pairs(_add_products, rows, rows)
    expected = np.triu(ROWS @ ROWS.T, 1).sum(axis=1)
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_first_columns_stay_where_they_are(rows):
    found = first_columns(rows, 2)
    assert type(found) is type(rows)
    np.testing.assert_array_equal(np.asarray(found), ROWS[:, :2])
