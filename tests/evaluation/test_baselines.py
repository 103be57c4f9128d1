"""Simpler methods against hand-worked numbers and made-up sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import NOUNS, blobs

from mca_jax.core.parallel import HostRows, data_mesh, shard_rows
from mca_jax.evaluation import clustering_accuracy
from mca_jax.evaluation.baselines import sic_labels
from mca_jax.neighbors import image_neighbors, noun_neighbors, spherical_kmeans
from mca_jax.neighbors.projection import unit_rows
from mca_jax.neighbors.retrieved_text import image_text_rows, retrieve_text
from mca_jax.training import TrainingData

LABELS = np.repeat(np.arange(4), 30)


def test_text_views_are_weighted_means():
    nouns = jnp.eye(3)
    near = jnp.array([[0, 1], [2, 0]])
    cosines = jnp.array([[np.log(3.0), 0.0], [5.0, 5.0]])
    views = retrieve_text(nouns, near, cosines, temperature=1.0)
    # Weights 3/4 and 1/4, then one half each.
    expected = np.array([[3, 1, 0], [1, 0, 1]]) / np.sqrt([[10], [2]])
    np.testing.assert_allclose(views, expected, rtol=1e-6)
    # Half the temperature squares the ratio of the weights.
    colder = retrieve_text(nouns, near, cosines, temperature=0.5)
    np.testing.assert_allclose(colder[0], np.array([9, 1, 0]) / np.sqrt(82), rtol=1e-5)


def places(rows):
    """The same table on one device, over eight, and on the host."""
    return jnp.asarray(rows), shard_rows(rows, data_mesh(8)), HostRows(rows, 50)


def test_raw_embeddings_lose_their_norms_wherever_they_are():
    rows = blobs(per_axis=31)[:-1]
    scaled = rows * np.random.default_rng(0).uniform(0.1, 9.0, (len(rows), 1))
    for table in places(scaled.astype(np.float32)):
        unit = unit_rows(table)
        assert type(unit) is type(table) or isinstance(unit, jax.Array)
        np.testing.assert_allclose(np.asarray(unit), rows, atol=1e-6)
    # Nothing is copied where nothing is to be done.
    table = HostRows(rows.astype(np.float16), 50)
    assert unit_rows(table) is table


def test_text_tells_images_apart_that_look_alike(key):
    images = np.tile(np.eye(4, dtype=np.float32)[:1], (20, 1))
    nouns = jnp.eye(4)[1:3]
    near = np.repeat([[0], [1]], 10, axis=0).astype(np.int32)
    cosines = np.ones((20, 1), np.float32)
    for table in places(images):
        rows = image_text_rows(table, nouns, near, cosines, temperature=1.0)
        expected = np.zeros((20, 8))
        expected[:, 0] = expected[np.arange(20), 5 + near[:, 0]] = np.sqrt(0.5)
        np.testing.assert_allclose(np.asarray(rows), expected, atol=1e-6)
        found = spherical_kmeans(key, rows, num_clusters=2, num_restarts=2)
        groups = np.asarray(found.assignments)
        assert clustering_accuracy(np.repeat([0, 1], 10), groups) == 1.0
        # Every image is at 45 degrees from its text, so each is its own centre.
        assert float(found.objective) == pytest.approx(1.0, abs=1e-5)


def training_data(images):
    nouns = jnp.eye(len(NOUNS))
    near = noun_neighbors(images, nouns, num_neighbors=3)
    return TrainingData(
        images=images,
        nouns=nouns,
        image_neighbors=image_neighbors(images, num_neighbors=5).indices,
        noun_neighbors=near.indices,
        noun_similarities=near.similarities,
    )


def test_sic_keeps_what_images_and_nouns_agree_on(key):
    data = training_data(jnp.asarray(blobs()))
    # The first axis is midway between two centres: its images start in halves.
    centers = np.eye(8, dtype=np.float32)[:4]
    centers[:2, :2] = [[0.8, -0.6], [0.8, 0.6]]
    started = (blobs() @ centers.T).argmax(axis=1)
    assert clustering_accuracy(LABELS, started) < 0.9
    found = sic_labels(
        key,
        data,
        jnp.asarray(centers),
        label_weight=1.0,
        nouns_per_cluster=1,
        num_epochs=8,
        batch_size=60,
        learning_rate=1e-2,
    )
    # A few images of noise more than usual may stay where they started.
    assert clustering_accuracy(LABELS, found.assignments) > 0.95
    assert found.history[-1]["semantic"] < found.history[0]["semantic"]


@pytest.mark.slow
def test_sic_is_the_same_wherever_the_set_is(key):
    centers = jnp.asarray(np.eye(8, dtype=np.float32)[:4])
    # 50 images a step don't divide by eight devices.
    settings = {"num_epochs": 2, "batch_size": 50, "nouns_per_cluster": 2}
    expected, *others = (
        sic_labels(key, training_data(images), centers, **settings)
        for images in places(blobs())
    )
    for found in others:
        np.testing.assert_array_equal(found.assignments, expected.assignments)
        for one, other in zip(found.history, expected.history, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
