"""Simpler methods against hand-worked numbers and made-up sets."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import NOUNS, blobs

from mca_jax.evaluation import clustering_accuracy
from mca_jax.evaluation.baselines import (
    image_text_kmeans,
    raw_kmeans,
    sic_labels,
    text_views,
)
from mca_jax.retrieval import image_neighbors, noun_neighbors
from mca_jax.training import TrainingData

LABELS = np.repeat(np.arange(4), 30)


def test_text_views_are_weighted_means():
    nouns = jnp.eye(3)
    near = jnp.array([[0, 1], [2, 0]])
    cosines = jnp.array([[np.log(3.0), 0.0], [5.0, 5.0]])
    views = text_views(nouns, near, cosines, temperature=1.0)
    # Weights 3/4 and 1/4, then one half each.
    expected = np.array([[3, 1, 0], [1, 0, 1]]) / np.sqrt([[10], [2]])
    np.testing.assert_allclose(views, expected, rtol=1e-6)
    # Half the temperature squares the ratio of the weights.
    colder = text_views(nouns, near, cosines, temperature=0.5)
    np.testing.assert_allclose(colder[0], np.array([9, 1, 0]) / np.sqrt(82), rtol=1e-5)


def test_raw_kmeans_ignores_norms(key):
    embeddings = blobs()
    scale = np.random.default_rng(0).uniform(0.1, 9.0, (len(embeddings), 1))
    found = raw_kmeans(key, embeddings * scale, num_clusters=4)
    assert clustering_accuracy(LABELS, np.asarray(found.assignments)) == 1.0


def test_text_tells_images_apart_that_look_alike(key):
    images = jnp.asarray(np.tile(np.eye(4)[:1], (20, 1)), jnp.float32)
    views = jnp.asarray(np.repeat(np.eye(4)[1:3], 10, axis=0), jnp.float32)
    found = image_text_kmeans(key, images, views, num_clusters=2)
    groups = np.asarray(found.assignments)
    assert clustering_accuracy(np.repeat([0, 1], 10), groups) == 1.0
    # Every image is at 45 degrees from its text, so each is its own centre.
    assert float(found.objective) == pytest.approx(1.0, abs=1e-5)


def test_sic_keeps_what_images_and_nouns_agree_on(key):
    images, nouns = jnp.asarray(blobs()), jnp.eye(len(NOUNS))
    near = noun_neighbors(images, nouns, num_neighbors=3)
    data = TrainingData(
        images=images,
        nouns=nouns,
        image_neighbors=image_neighbors(images, num_neighbors=5).indices,
        noun_neighbors=near.indices,
        noun_similarities=near.similarities,
    )
    # The first axis is midway between two centres: its images start in halves.
    centers = np.eye(8, dtype=np.float32)[:4]
    centers[:2, :2] = [[0.8, -0.6], [0.8, 0.6]]
    started = np.asarray(images @ centers.T).argmax(axis=1)
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
