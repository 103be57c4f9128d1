"""Starts of training: merged centres, estimated shares, and the choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from mca_jax.core.errors import InputError
from mca_jax.neighbors import spherical_kmeans
from mca_jax.training import TrainingData, initialization
from mca_jax.training.initialization import (
    choose_initialization,
    consensus_initialization,
    estimate_prior,
    merge_centers,
    size_entropy,
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_merged_groups_are_those_of_average_linkage():
    centers = unit(np.random.default_rng(0).normal(size=(30, 8)))
    for wanted in (2, 7, 29):
        expected = fcluster(linkage(centers, "average"), wanted, "maxclust")
        found = merge_centers(centers, wanted)
        same = found[:, None] == found
        np.testing.assert_array_equal(same, expected[:, None] == expected)
        assert set(found) == set(range(wanted))


def test_nothing_is_merged_where_nothing_has_to_be():
    np.testing.assert_array_equal(merge_centers(np.eye(3), 3), [0, 1, 2])


def test_shares_are_mixed_with_even_ones():
    found = estimate_prior(np.array([8, 2, 0]), even_share=0.3)
    np.testing.assert_allclose(found, [0.66, 0.24, 0.1], rtol=1e-6)


def long_tailed_set(sizes):
    """Blobs of some sizes around the first axes, and a noun at each of them."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(8)[labels] + 0.25 * rng.normal(size=(len(labels), 8))
    images = unit(rows).astype(np.float32)
    nouns = np.eye(8, dtype=np.float32)
    cosines = images @ nouns.T
    near = np.argsort(-cosines, axis=1)[:, :2].astype(np.int32)
    data = TrainingData(
        images=jnp.asarray(images),
        nouns=jnp.asarray(nouns),
        image_neighbors=jnp.zeros((len(labels), 1), jnp.int32),
        noun_neighbors=jnp.asarray(near),
        noun_similarities=jnp.asarray(np.take_along_axis(cosines, near, 1)),
    )
    return data, labels


def start_of(sizes, prior="auto"):
    data, labels = long_tailed_set(sizes)
    kmeans = spherical_kmeans(
        jax.random.key(3), data.images, num_clusters=len(sizes), num_restarts=1
    )
    start = choose_initialization(
        jax.random.key(5), data.images, kmeans, num_clusters=len(sizes), prior=prior
    )
    return start, kmeans, labels


def test_even_clusters_where_they_are_asked_for():
    start, kmeans, _ = start_of([300, 30, 30], "uniform")
    assert not start.estimated
    np.testing.assert_array_equal(start.centers, kmeans.centers)
    np.testing.assert_allclose(start.prior, 1 / 3, rtol=1e-6)
    assert np.isnan(start.evenness)


def test_estimated_shares_are_those_of_the_classes():
    sizes = [300, 60, 30]
    start, _, labels = start_of(sizes, "estimated")
    assert start.estimated
    found = np.sort(np.asarray(start.prior))[::-1]
    np.testing.assert_allclose(found, estimate_prior(np.array(sizes)), atol=0.02)
    np.testing.assert_allclose(jnp.linalg.norm(start.centers, axis=1), 1, rtol=1e-5)


def test_the_same_key_gives_the_same_start():
    first, second = start_of([200, 20, 20])[0], start_of([200, 20, 20])[0]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_images_for_a_comparison():
    start, _, _ = start_of([3, 2, 2])
    assert not start.estimated
    assert np.isnan(start.evenness)


def test_auto_takes_estimated_sizes_where_they_are_uneven():
    start, _, labels = start_of([300, 20, 20])
    assert start.estimated
    assert start.evenness == pytest.approx(
        size_entropy(np.array([300, 20, 20])), abs=0.02
    )
    expected = estimate_prior(np.bincount(labels))
    np.testing.assert_allclose(np.sort(start.prior), np.sort(expected), atol=0.02)
    # The same shapes at one size, or nearly.
    for sizes in ([60, 60, 60], [80, 60, 50]):
        even, _, _ = start_of(sizes)
        assert not even.estimated
        assert even.evenness > 0.95
        np.testing.assert_allclose(even.prior, 1 / 3, rtol=1e-6)


def test_without_votes_the_draw_in_the_middle_is_taken(monkeypatch):
    monkeypatch.setattr(initialization, "_MOST_VOTES", 0)
    start, _, labels = start_of([300, 20, 20])
    assert start.estimated
    expected = estimate_prior(np.bincount(labels))
    np.testing.assert_allclose(np.sort(start.prior), np.sort(expected), atol=0.02)


def test_texts_join_where_training_begins():
    # Pictures that look alike, of two things with nouns of their own.
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    look = rng.integers(0, 2, 100)
    images = unit(np.eye(8)[look] + 0.3 * rng.normal(size=(100, 8))).astype(np.float32)
    data = TrainingData(
        images=jnp.asarray(images),
        nouns=jnp.asarray(np.eye(8, dtype=np.float32)[6:]),
        image_neighbors=jnp.zeros((100, 1), jnp.int32),
        noun_neighbors=jnp.asarray(labels[:, None], jnp.int32),
        noun_similarities=jnp.ones((100, 1)),
    )
    kmeans = spherical_kmeans(jax.random.key(0), data.images, num_clusters=2)

    def agreement(weight):
        found = consensus_initialization(
            jax.random.key(1), data, kmeans, text_weight=weight
        )
        np.testing.assert_allclose(jnp.linalg.norm(found.centers, axis=1), 1, rtol=1e-5)
        right = np.mean(np.asarray(found.assignments) == labels)
        return max(right, 1 - right)

    assert agreement(2.0) == 1
    assert agreement(0.0) < 0.7


def test_neighbours_join_where_training_begins():
    # Pictures that look alike, of two things, with neighbours of their own kind.
    rng = np.random.default_rng(0)
    labels, look = np.repeat([0, 1], 50), rng.integers(0, 2, 100)
    images = unit(np.eye(8)[look] + 0.3 * rng.normal(size=(100, 8))).astype(np.float32)
    near = rng.permuted(np.tile(np.arange(50), (100, 1)), axis=1)[:, :10]
    near = near + 50 * labels[:, None]
    data = TrainingData(
        images=jnp.asarray(images),
        nouns=jnp.asarray(np.eye(8, dtype=np.float32)[6:]),
        image_neighbors=jnp.asarray(near, jnp.int32),
        noun_neighbors=jnp.zeros((100, 1), jnp.int32),
        noun_similarities=jnp.ones((100, 1)),
    )
    kmeans = spherical_kmeans(jax.random.key(0), data.images, num_clusters=2)

    def agreement(given):
        found = consensus_initialization(
            jax.random.key(1), given, kmeans, text_weight=0.0
        )
        return adjusted_rand_score(labels, found.assignments)

    assert agreement(data) == 1
    # More parts that nothing joins than clusters: their neighbours have no vote.
    pairs = data._replace(image_neighbors=jnp.arange(100)[:, None] ^ 1)
    assert agreement(pairs) < 0.2


def test_a_sample_initializes_a_large_set():
    data, labels = long_tailed_set([100, 100, 100])
    kmeans = spherical_kmeans(jax.random.key(0), data.images, num_clusters=3)
    found = consensus_initialization(jax.random.key(1), data, kmeans, sample_size=60)
    assert found.assignments.shape == (300,)
    for cluster in range(3):
        counts = np.bincount(labels[np.asarray(found.assignments) == cluster])
        assert counts.max() >= 0.95 * counts.sum() > 80


def test_too_many_votes_leave_one_kmeans(monkeypatch):
    data, labels = long_tailed_set([40, 40, 40])
    kmeans = spherical_kmeans(jax.random.key(0), data.images, num_clusters=3)
    monkeypatch.setattr(initialization, "_MOST_VOTES", 359)
    alone = consensus_initialization(jax.random.key(1), data, kmeans, text_weight=0.0)
    assert alone is kmeans
    beside = consensus_initialization(jax.random.key(1), data, kmeans, text_weight=0.5)
    assert adjusted_rand_score(labels, beside.assignments) > 0.9


def test_an_estimate_of_too_few_images_is_refused():
    with pytest.raises(InputError, match=r"at least 12 images.*losses\.prior=uniform"):
        start_of([3, 2, 2], "estimated")
