import numpy as np
from sample_results import nearest_rows
from sklearn.neighbors import NearestNeighbors

from mca_jax.report.findings import find_outliers


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_outliers_are_those_of_an_independent_search():
    random = np.random.default_rng(0)
    rows = unit(random.normal(size=(1500, 12)) + 2 * np.eye(12)[np.arange(1500) % 3])
    centred = rows - rows.mean(axis=0)
    search = NearestNeighbors(n_neighbors=11, metric="cosine").fit(centred)
    distances, indices = search.kneighbors(centred)
    expected = distances[:, 1:].mean(axis=1)
    found = find_outliers(rows, indices[:, 1:])
    assert len(found) == 15
    order = np.argsort(-expected)[:15]
    assert [each.row for each in found] == order.tolist()
    np.testing.assert_allclose(
        [each.distance for each in found], expected[order], atol=1e-5
    )


def test_the_odd_one_out_comes_first():
    rows = np.repeat(np.eye(4)[:2], 20, axis=0)
    rows += np.random.default_rng(1).normal(scale=0.05, size=rows.shape)
    rows[7] = np.eye(4)[2]
    rows = unit(rows)
    assert find_outliers(rows, nearest_rows(rows))[0].row == 7
    # Half the precision, as an embedding store may keep, changes no order here.
    assert find_outliers(rows.astype(np.float16), nearest_rows(rows))[0].row == 7


def test_no_neighbours_no_outliers():
    assert find_outliers(np.ones((1, 4), np.float32), np.zeros((1, 0), int)) == ()
