"""Every stage over eight devices gives what one device gives, at any size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.alignment import build_heads
from mca_jax.alignment.forward import assign_images, forward_pass
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    HostRows,
    ShardedRows,
    data_mesh,
    fetch_rows,
    shard_picked,
    shard_rows,
)
from mca_jax.core.parallel import mesh as mesh_module
from mca_jax.neighbors import (
    apply_projection,
    fit_projection,
    image_neighbors,
    noun_neighbors,
    spherical_kmeans,
)
from mca_jax.semantics import build_semantic_space
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary


@pytest.fixture(scope="module")
def mesh():
    return data_mesh(8)


def unit_rows(key, n, d=7):
    return l2_normalize(jax.random.normal(key, (n, d)))


def groups(key, n, d=7, k=4):
    noise = 0.2 * jax.random.normal(key, (n, d))
    return l2_normalize(jnp.eye(d)[jnp.arange(n) % k] + noise)


@pytest.mark.parametrize("n", [64, 61, 10])
def test_rows_come_back_as_they_went(key, mesh, n):
    rows = np.asarray(unit_rows(key, n))
    placed = shard_rows(rows, mesh)
    assert placed.shape == rows.shape
    assert len(placed.array.sharding.device_set) == 8
    np.testing.assert_array_equal(np.asarray(placed), rows)


def test_some_rows_come_from_wherever_they_are(key, mesh):
    rows = np.asarray(unit_rows(key, 61))
    picked = np.array([60, 0, 7, 7, 31], np.int32)
    places = shard_rows(rows, mesh), HostRows(rows, 9), jnp.asarray(rows), rows
    for table in places:
        np.testing.assert_array_equal(fetch_rows(table, picked), rows[picked])
    half = HostRows(rows.astype(np.float16), 9)
    assert fetch_rows(half, picked).dtype == np.float32
    for devices in (mesh, None):
        placed = np.asarray(shard_picked(rows, picked, devices))
        np.testing.assert_array_equal(placed[:5], rows[picked])
        # Filled up to as many as there are devices.
        assert placed.shape == (8 if devices else 5, 7)
        np.testing.assert_array_equal(placed[5:], 0.0)


@pytest.mark.parametrize("n", [64, 61])
def test_neighbours_are_those_of_one_device(key, mesh, n):
    rows = unit_rows(key, n)
    expected = image_neighbors(rows, num_neighbors=12)
    for block_size in (3, 1024):
        found = image_neighbors(
            shard_rows(rows, mesh), num_neighbors=12, block_size=block_size
        )
        np.testing.assert_array_equal(np.asarray(found.indices), expected.indices)
        np.testing.assert_allclose(
            np.asarray(found.similarities), expected.similarities, atol=1e-6
        )


def test_equal_rows_are_neighbours_in_order_of_their_rows(mesh):
    rows = jnp.tile(jnp.eye(4)[:1], (19, 1))
    expected = image_neighbors(rows, num_neighbors=5)
    found = image_neighbors(shard_rows(rows, mesh), num_neighbors=5)
    np.testing.assert_array_equal(np.asarray(found.indices), expected.indices)
    host = image_neighbors(HostRows(np.asarray(rows), 6), num_neighbors=5)
    np.testing.assert_array_equal(host.indices, expected.indices)


def test_nouns_are_those_of_one_device(key, mesh):
    rows, nouns = unit_rows(key, 61), unit_rows(jax.random.fold_in(key, 1), 23)
    expected = noun_neighbors(rows, nouns, num_neighbors=5)
    found = noun_neighbors(shard_rows(rows, mesh), nouns, num_neighbors=5)
    np.testing.assert_array_equal(np.asarray(found.indices), expected.indices)


@pytest.mark.parametrize("n", [64, 61])
def test_kmeans_is_that_of_one_device(key, mesh, n):
    rows = groups(key, n)
    expected = spherical_kmeans(key, rows, num_clusters=5, num_restarts=3)
    found = spherical_kmeans(
        key, shard_rows(rows, mesh), num_clusters=5, num_restarts=3
    )
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.centers, expected.centers, atol=1e-6)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-6)


def test_kmeans_over_devices_leaves_no_cluster_empty(key, mesh):
    rows = jnp.eye(5)[jnp.array([0, 0, 0, 0, 0, 0, 0, 1, 2])]
    expected = spherical_kmeans(key, rows, num_clusters=3, num_restarts=1)
    found = spherical_kmeans(
        key, shard_rows(rows, mesh), num_clusters=3, num_restarts=1
    )
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    assert len(set(np.asarray(found.assignments).tolist())) == 3


def test_projection_is_that_of_one_device(key, mesh):
    rows = unit_rows(key, 61) + 0.3
    expected = apply_projection(fit_projection(rows, components=4), rows)
    placed = shard_rows(rows, mesh)
    found = apply_projection(fit_projection(placed, components=4), placed)
    assert isinstance(found, ShardedRows)
    host = HostRows(np.asarray(rows), 9)
    streamed = apply_projection(fit_projection(host, components=4), host)
    for table in (np.asarray(found), np.asarray(streamed)):
        # The sign of an axis is free.
        np.testing.assert_allclose(np.abs(table), np.abs(expected), atol=2e-5)
    np.testing.assert_array_equal(np.asarray(found.array[61:]), 0.0)


@pytest.mark.parametrize("count", [40, 43])
def test_the_semantic_space_is_that_of_one_device(key, mesh, count):
    names = [
        f"noun{i},noun{i // 2}" if 0 < i < 20 else f"noun{i}" for i in range(count)
    ]
    table = parse_vocabulary("\n".join(names))
    nouns = unit_rows(key, count)
    # One noun near the mean of all, for the filter of unique ones.
    nouns = nouns.at[30].set(l2_normalize(nouns.mean(axis=0)))
    centers = unit_rows(jax.random.fold_in(key, 1), 3)
    options = {"nouns_per_center": 9, "min_uniqueness": 0.2}
    expected = build_semantic_space(table, nouns, centers, **options)
    found = build_semantic_space(table, shard_rows(nouns, mesh), centers, **options)
    assert len(set(expected.audit.codes.tolist())) >= 4
    np.testing.assert_array_equal(found.audit.codes, expected.audit.codes)
    np.testing.assert_array_equal(found.audit.center, expected.audit.center)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)


@pytest.mark.parametrize("place", ["devices", "host"])
def test_networks_say_what_they_say_on_one_device(key, mesh, place):
    images, nouns = unit_rows(key, 61), unit_rows(jax.random.fold_in(key, 1), 11)
    near = noun_neighbors(images, nouns, num_neighbors=4)
    heads = build_heads(num_clusters=3)
    params = heads.init(key, images[:3])
    tables: dict[str, Any] = {
        "noun_neighbors": near.indices,
        "noun_similarities": near.similarities,
    }
    expected = forward_pass(heads, params, images=images, nouns=nouns, **tables)
    elsewhere = (
        shard_rows(images, mesh)
        if place == "devices"
        else HostRows(np.asarray(images), 9)
    )
    found = forward_pass(heads, params, images=elsewhere, nouns=nouns, **tables)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        assign_images(heads, params, elsewhere), assign_images(heads, params, images)
    )


def test_one_device_is_used_where_one_is_chosen():
    with jax.default_device(jax.devices()[0]):
        assert mesh_module.default_mesh() is None
    with jax.default_device(None):
        found = mesh_module.default_mesh()
    assert found is not None
    assert found.size == 8
