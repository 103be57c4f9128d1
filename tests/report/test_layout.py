import numpy as np
import pytest
from sample_results import nearest_rows
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from mca_jax.report import layout
from mca_jax.report.layout import lay_out, principal_plane


def groups(count=300, width=16, parts=6):
    random = np.random.default_rng(0)
    parts = np.arange(count) % parts
    rows = 3 * np.eye(width)[parts] + random.normal(scale=0.5, size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shape", [(200, 8), (30, 100)])
def test_the_plane_is_that_of_the_two_principal_axes(shape):
    rows = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = PCA(2).fit_transform(rows.astype(np.float64))
    found = principal_plane(rows)
    # An axis may point either way.
    for axis in range(2):
        cosine = found[:, axis] @ expected[:, axis]
        np.testing.assert_allclose(
            np.sign(cosine) * found[:, axis], expected[:, axis], atol=1e-4
        )


def test_where_there_is_no_plane_there_are_zeros():
    np.testing.assert_array_equal(principal_plane(np.ones((5, 3), np.float32)), 0)
    line = np.outer(np.arange(5.0), [0.6, 0.8]).astype(np.float32)
    plane = principal_plane(line)
    np.testing.assert_allclose(plane[:, 0], np.arange(5.0) - 2, atol=1e-5)
    np.testing.assert_array_equal(plane[:, 1], 0)


@pytest.mark.parametrize("spread", [1e-3, 0.3, 3.0, 12.0])
def test_repulsion_is_that_of_all_pairs(spread):
    random = np.random.default_rng(2)
    positions = random.normal(scale=spread, size=(400, 2)).astype(np.float32)
    apart = positions[:, None] - positions[None]
    near = 1 / (1 + (apart**2).sum(axis=-1))
    expected = (apart * near[..., None] ** 2).sum(axis=1) / (near.sum() - 400)
    error = np.linalg.norm(layout._repulsion(positions) - expected)
    assert error < 0.2 * np.linalg.norm(expected)


def test_two_points_far_apart_leave_each_other_alone():
    # What a point does to itself through the grid must not count.
    positions = np.array([[0.0, 0.0], [300.0, 0.0]], np.float32)
    assert np.abs(layout._repulsion(positions)).max() < 1


def test_neighbours_stay_neighbours():
    rows = groups()
    positions = lay_out(rows, nearest_rows(rows), seed=0)
    assert trustworthiness(rows, positions, n_neighbors=10) > 0.9
    # Better than the plane that it starts from.
    plane = principal_plane(rows)
    assert trustworthiness(rows, plane, n_neighbors=10) < 0.87
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    parts = np.arange(len(rows)) % 6
    assert (parts[distances.argmin(axis=1)] == parts).mean() > 0.95


def test_equal_input_gives_equal_positions_and_the_seed_counts():
    rows = groups(60)
    near = nearest_rows(rows)
    first = lay_out(rows, near, seed=3)
    np.testing.assert_array_equal(first, lay_out(rows, near, seed=3))
    assert not np.array_equal(first, lay_out(rows, near, seed=4))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
def test_any_number_of_points(count):
    rows = groups(count)
    positions = lay_out(rows, nearest_rows(rows), seed=0)
    assert positions.shape == (count, 2)
    assert np.isfinite(positions).all()


def test_equal_images_do_not_lie_on_each_other():
    rows = np.repeat(groups(4), 30, axis=0)
    positions = lay_out(rows, nearest_rows(rows), seed=0)
    assert np.isfinite(positions).all()
    assert len(np.unique(positions.round(3), axis=0)) > 100
