"""Diffusion map, against NumPy's dense eigenvectors and shapes without centres."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.neighbors import spherical_kmeans
from mca_jax.neighbors.diffusion import diffusion_map, neighbor_graph


def nearest(points, count):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1)[:, :count]


def test_edges_are_counted_from_both_ends():
    near = np.random.default_rng(0).integers(0, 9, (9, 3))
    near = np.where(near == np.arange(9)[:, None], (near + 1) % 9, near)
    dense = np.zeros((9, 9))
    for row, others in enumerate(near):
        for other in others:
            dense[row, other] += 1
            dense[other, row] += 1
    np.testing.assert_array_equal(neighbor_graph(near).toarray(), dense)


def test_inner_products_are_those_of_dense_eigenvectors():
    rng = np.random.default_rng(1)
    graph = neighbor_graph(nearest(rng.normal(size=(40, 3)), 5))
    found = diffusion_map(rng.normal(size=(40, 12)), graph, num_axes=6)
    walk = graph.toarray() / graph.toarray().sum(axis=1, keepdims=True)
    values, vectors = np.linalg.eig(walk)
    # Eigenvectors of the walk are orthogonal where images count by their edges.
    degree = graph.toarray().sum(axis=1)
    vectors = vectors.real / np.sqrt((degree[:, None] * vectors.real**2).sum(axis=0))
    order = np.argsort(-values.real)[:7]
    points = vectors[:, order] * values.real[order] ** 2
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    # Signs of eigenvectors are anyone's.
    np.testing.assert_allclose(found @ found.T, points @ points.T, atol=1e-5)


def test_rings_around_each_other_come_apart():
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    graph = neighbor_graph(nearest(np.concatenate([ring, 3 * ring]), 4))
    start = np.random.default_rng(0).normal(size=(120, 4))
    points = diffusion_map(start, graph, num_axes=1)
    found = spherical_kmeans(jax.random.key(0), jnp.asarray(points), num_clusters=2)
    assert len(set(found.assignments[:60].tolist())) == 1
    assert set(found.assignments[:60].tolist()) != set(found.assignments[60:].tolist())


def test_more_axes_than_columns_are_refused():
    graph = neighbor_graph(np.array([[1], [0], [1]]))
    with pytest.raises(InputError, match="diffusion map"):
        diffusion_map(np.ones((3, 2)), graph, num_axes=2)
