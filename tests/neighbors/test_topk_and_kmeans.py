"""Top-r, k-means and the projection against brute force and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from mca_jax.core.errors import InputError
from mca_jax.neighbors import (
    apply_projection,
    blocked_topk,
    fit_projection,
    image_neighbors,
    noun_neighbors,
    spherical_kmeans,
    view_covariance,
)
from mca_jax.neighbors.kmeans import first_largest, lloyd_iterations


def unit_rows(key, shape):
    rows = jax.random.normal(key, shape)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "block"), [(7, 3), (64, 64), (65, 64), (100, 9)])
def test_blocks_do_not_change_the_answer(key, n, block):
    rows = unit_rows(key, (n, 5))
    scores, indices = blocked_topk(
        rows, rows, num_neighbors=4, exclude_self=True, block_size=block
    )
    brute = np.array(rows @ rows.T)
    np.fill_diagonal(brute, -np.inf)
    expected = np.argsort(-brute, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(
        scores, np.take_along_axis(brute, expected, 1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("columns", [1, 7, 1000])
def test_the_first_of_the_largest_is_found(columns):
    # Few values, so that most rows have ties.
    scores = np.random.default_rng(0).integers(0, 4, (50, columns)).astype(np.float32)
    scores[3], scores[4, 0] = -np.inf, np.inf
    found, largest = first_largest(jnp.asarray(scores))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, scores.argmax(axis=1))
    np.testing.assert_array_equal(largest, scores.max(axis=1))
    assert 0 <= int(first_largest(jnp.full((1, columns), jnp.nan))[0][0]) < columns


def test_too_many_neighbours_are_refused(key):
    rows = unit_rows(key, (5, 3))
    with pytest.raises(ValueError, match="between 1 and 4, found 5"):
        blocked_topk(rows, rows, num_neighbors=5, exclude_self=True)


def test_small_sets_have_fewer_neighbours(key):
    rows = unit_rows(key, (5, 3))
    assert image_neighbors(rows, num_neighbors=20).indices.shape == (5, 4)
    assert noun_neighbors(rows, rows[:2], num_neighbors=9).indices.shape == (5, 2)


def test_kmeans_finds_separate_groups(key):
    centers = jnp.eye(4)
    rows = jnp.repeat(centers, 25, axis=0) + 0.1 * jax.random.normal(key, (100, 4))
    rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    result = spherical_kmeans(key, rows, num_clusters=4, num_restarts=3)
    groups = np.asarray(result.assignments).reshape(4, 25)
    assert all(len(set(group)) == 1 for group in groups)
    assert len(set(groups[:, 0])) == 4


def test_kmeans_is_as_good_as_scikit_learn(key):
    from sklearn.cluster import KMeans

    rows = unit_rows(key, (300, 8))
    ours = spherical_kmeans(key, rows, num_clusters=6, num_restarts=10)
    theirs = KMeans(6, n_init=10, random_state=0).fit(np.asarray(rows))
    centers = theirs.cluster_centers_
    centers = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    objective = (np.asarray(rows) @ centers.T).max(axis=1).mean()
    # Theirs minimises distances to means of any length: close, not the same.
    assert ours.objective >= objective - 0.005


def test_an_empty_cluster_takes_the_row_that_is_served_worst():
    rows = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    start = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    result = lloyd_iterations(rows, start)
    np.testing.assert_array_equal(result.assignments, [0, 0, 1])
    np.testing.assert_allclose(result.centers, [[1.0, 0.0], [0.0, 1.0]], atol=1e-6)


def test_kmeans_survives_equal_rows(key):
    result = spherical_kmeans(
        key, jnp.tile(jnp.array([[1.0, 0.0]]), (6, 1)), num_clusters=3, num_restarts=2
    )
    assert np.isfinite(result.centers).all()


def test_centres_are_seeded_among_some_of_very_many_rows(key):
    # 30,000 rows are more than are seeded among, and each of 40 groups is found still.
    groups = jnp.arange(30_000) % 40
    rows = jnp.eye(40)[groups] + 0.01 * jax.random.normal(key, (30_000, 40))
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    found = spherical_kmeans(key, rows, num_clusters=40, num_restarts=2)
    again = spherical_kmeans(key, rows, num_clusters=40, num_restarts=2)
    np.testing.assert_array_equal(found.assignments, again.assignments)
    pairs = set(zip(groups.tolist(), found.assignments.tolist(), strict=True))
    assert len(pairs) == 40
    assert float(found.objective) > 0.99


def test_kmeans_is_the_same_for_the_same_key(key):
    rows = unit_rows(key, (50, 4))
    first, second = (spherical_kmeans(key, rows, num_clusters=5) for _ in range(2))
    np.testing.assert_array_equal(first.assignments, second.assignments)


@pytest.mark.parametrize("k", [1, 6])
def test_kmeans_refuses_impossible_numbers(key, k):
    with pytest.raises(InputError, match=f"between 2 and 5, found {k}"):
        spherical_kmeans(key, unit_rows(key, (5, 3)), num_clusters=k)


def test_full_whitening_makes_all_axes_equal(key):
    rows = jax.random.normal(key, (500, 6)) * jnp.arange(1.0, 7.0)[None, :] + 3.0
    projection = fit_projection(rows, components=6, whitening=0.5)
    mapped = (rows - projection.mean[None]) @ projection.axes
    np.testing.assert_allclose(mapped.T @ mapped / 500, np.eye(6), atol=1e-3)


def test_without_whitening_all_axes_keep_the_cosines(key):
    rows = jax.random.normal(key, (40, 5))
    projection = fit_projection(rows, components=5, whitening=0.0)
    mapped = apply_projection(projection, rows)
    centered = np.asarray(rows) - np.asarray(rows).mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    np.testing.assert_allclose(mapped @ mapped.T, centered @ centered.T, atol=1e-5)


def test_projection_of_equal_rows_is_finite():
    rows = jnp.ones((6, 4))
    mapped = apply_projection(fit_projection(rows), rows)
    assert np.isfinite(mapped).all()


def test_views_covariance_by_hand():
    views = jnp.array([[[0.0, 1.0], [2.0, 1.0]], [[5.0, 0.0], [5.0, 4.0]]])
    # Variances 2 and 0 in one image, 0 and 8 in the other.
    np.testing.assert_allclose(view_covariance(views), [[1, 0], [0, 4]], atol=1e-6)
    with pytest.raises(InputError, match="views of an image at least 2, found 1"):
        view_covariance(views[:, :1])


def test_axes_of_views_are_those_of_the_generalized_eigenproblem(key):
    rows = jax.random.normal(key, (300, 6)) * jnp.arange(1.0, 7.0)[None]
    scatter = np.random.default_rng(0).normal(size=(6, 6))
    within = (scatter @ scatter.T).astype(np.float32)
    found = fit_projection(rows, components=3, within=within, shrinkage=0.5)
    metric = within + 0.5 * np.trace(within) / 6 * np.eye(6)
    between = np.cov(np.asarray(rows, np.float64).T, bias=True)
    ratios, axes = scipy.linalg.eigh(between, metric)
    axes = axes[:, ::-1][:, :3]
    mapped = np.asarray(found.axes)
    np.testing.assert_allclose(mapped @ mapped.T, axes @ axes.T, atol=2e-4)
    np.testing.assert_allclose(
        np.diag(mapped.T @ between @ mapped), ratios[::-1][:3], rtol=1e-3
    )


def test_axes_on_which_views_differ_do_not_tell_images_apart(key):
    # Two classes along the first axis; light, the second, is far stronger.
    labels = np.repeat([0, 1], 100)
    light = 10 * np.random.default_rng(0).normal(size=(200, 4))
    rows = np.zeros((200, 3), np.float32)
    rows[:, 0], rows[:, 1] = 3 * labels, light[:, 0]
    views = np.repeat(rows[:, None], 4, axis=1)
    views[:, :, 1] = light
    chosen = {}
    for name, within in {"plain": None, "views": view_covariance(views)}.items():
        mapped = apply_projection(
            fit_projection(rows, components=1, within=within, shrinkage=0.01), rows
        )
        found = np.sign(np.asarray(mapped)[:, 0])
        chosen[name] = abs(np.mean(found * np.where(labels, 1, -1)))
    assert chosen["views"] == 1
    assert chosen["plain"] < 0.5


def test_views_that_do_not_differ_leave_principal_axes(key):
    rows = jax.random.normal(key, (50, 4)) * jnp.arange(1.0, 5.0)[None]
    still = jnp.zeros((4, 4))
    mapped = apply_projection(fit_projection(rows, components=4, within=still), rows)
    plain = apply_projection(fit_projection(rows, components=4, whitening=0.0), rows)
    np.testing.assert_allclose(mapped @ mapped.T, plain @ plain.T, atol=1e-3)


def test_projection_refuses_a_wrong_exponent(key):
    with pytest.raises(InputError, match=r"whitening between 0 and 0\.5, found 2"):
        fit_projection(jax.random.normal(key, (9, 3)), whitening=2.0)


def test_directions_that_no_image_has_are_dropped():
    images = jnp.tile(jnp.eye(4)[:2], (10, 1))
    projection = fit_projection(images, components=4, whitening=0.5)
    mapped = apply_projection(projection, jnp.eye(4)[2:], mean=jnp.zeros(4))
    np.testing.assert_allclose(mapped, 0.0, atol=1e-3)
