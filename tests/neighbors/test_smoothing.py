"""Smoothing over the neighbour graph against NumPy, and for new images."""

import jax
import jax.numpy as jnp
import numpy as np

from mca_jax.core.parallel import HostRows
from mca_jax.neighbors import blocked_topk, image_neighbors
from mca_jax.neighbors.smoothing import smooth_embeddings, smooth_new


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def photos(count=60, width=5):
    draws = np.asarray(jax.random.normal(jax.random.key(3), (count, width)))
    return unit(draws + 2 * np.eye(width)[np.arange(count) % width]).astype(np.float32)


def test_one_step_by_hand():
    rows = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    near = jnp.asarray([[1], [0], [1]])
    after, before = smooth_embeddings(rows, near, num_steps=1)
    half = np.sqrt(0.5)
    expected = [[half, half], [half, half], [-half, half]]
    np.testing.assert_allclose(after, expected, atol=1e-6)
    np.testing.assert_array_equal(before, rows)


def test_no_step_changes_nothing():
    rows = jnp.asarray(photos())
    near = jnp.zeros((60, 3), jnp.int32)
    for result in smooth_embeddings(rows, near, num_steps=0):
        np.testing.assert_array_equal(result, rows)


def test_steps_are_powers_of_the_graph_with_unit_rows():
    rows = photos()
    near = np.asarray(image_neighbors(jnp.asarray(rows), num_neighbors=4).indices)
    graph = np.eye(60)
    np.add.at(graph, (np.arange(60)[:, None], near), 1.0)
    expected = rows.astype(float)
    for _ in range(3):
        expected = unit(graph @ expected)
    after, before = smooth_embeddings(jnp.asarray(rows), jnp.asarray(near), num_steps=3)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    np.testing.assert_allclose(unit(graph @ np.asarray(before)), after, atol=1e-5)


def test_rows_on_the_host_give_the_same():
    rows = photos()
    near = image_neighbors(jnp.asarray(rows), num_neighbors=4).indices
    expected, _ = smooth_embeddings(jnp.asarray(rows), near, num_steps=2)
    host, _ = smooth_embeddings(HostRows(rows, 13), np.asarray(near), num_steps=2)
    np.testing.assert_allclose(np.asarray(host), expected, atol=1e-6)


def test_an_image_of_the_set_comes_out_as_it_did():
    rows = jnp.asarray(photos())
    near = image_neighbors(rows, num_neighbors=4).indices
    after, before = smooth_embeddings(rows, near, num_steps=3)
    _, found = blocked_topk(rows, rows, num_neighbors=5, block_size=60)
    np.testing.assert_allclose(smooth_new(before, found), after, atol=1e-6)


def test_smoothing_draws_groups_together():
    groups = np.arange(60) % 5
    draws = np.asarray(jax.random.normal(jax.random.key(3), (60, 20)))
    rows = jnp.asarray(unit(0.3 * draws + np.eye(20)[groups]), jnp.float32)
    near = image_neighbors(rows, num_neighbors=4).indices
    after, _ = smooth_embeddings(rows, near, num_steps=4)
    same = (groups[:, None] == groups[None]) & ~np.eye(60, dtype=bool)

    def overlap(vectors):
        distances = 1 - np.asarray(vectors @ vectors.T)
        other = groups[:, None] != groups[None]
        return distances[same].mean() / distances[other].mean()

    assert overlap(after) < 0.5 * overlap(rows)
