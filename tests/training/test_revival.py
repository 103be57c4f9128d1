"""Dead clusters: found, given a part of the largest one, and kept alive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.alignment import build_heads
from mca_jax.alignment.losses import LossWeights, build_objective, uniform_prior
from mca_jax.training import (
    TrainingData,
    build_optimizer,
    build_trainer,
    fit,
    revival,
)
from mca_jax.training.revival import empty_clusters, revive_clusters

HEADS = build_heads(num_clusters=3)


def two_blobs(seed=0):
    rng = np.random.default_rng(seed)
    rows = np.eye(4)[np.repeat([0, 1], [40, 20])] + 0.1 * rng.normal(size=(60, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.asarray(rows, jnp.float32)


def params_with_a_dead_cluster():
    # The third cluster points away from all images.
    centers = jnp.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, -1.0]])
    return HEADS.init(jax.random.key(0), centers), centers


def test_empty_clusters_are_listed():
    np.testing.assert_array_equal(empty_clusters(np.array([1, 1]), 3), [0, 2])
    assert not len(empty_clusters(np.array([1, 0, 2]), 3))


def test_a_dead_cluster_begins_at_the_misfit_of_the_largest():
    params, _ = params_with_a_dead_cluster()
    images = two_blobs()
    logits = HEADS.image_logits(params, images)
    assignments = np.asarray(logits.argmax(axis=1))
    found = revive_clusters(params, assignments, images, heads=HEADS)
    largest = np.flatnonzero(assignments == 0)
    sure = np.asarray(jax.nn.softmax(logits, axis=-1))[largest, 0]
    misfit = images[largest[sure.argmin()]]
    for name in ("image", "text"):
        weight = found[name]["weight"]
        np.testing.assert_allclose(weight[2], misfit, rtol=1e-6)
        np.testing.assert_array_equal(weight[:2], params[name]["weight"][:2])
    after = np.asarray(HEADS.image_logits(found, images).argmax(axis=1))
    assert not len(empty_clusters(after, 3))


def test_nothing_changes_where_no_cluster_is_empty():
    params, _ = params_with_a_dead_cluster()
    assert revive_clusters(params, np.array([0, 1, 2]), two_blobs(), heads=HEADS) is (
        params
    )


def test_two_dead_clusters_do_not_begin_at_one_image():
    heads = build_heads(num_clusters=4)
    centers = jnp.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], *[[0, 0, 0, -1.0]] * 2])
    params = heads.init(jax.random.key(0), centers)
    images = two_blobs()
    assignments = np.asarray(heads.image_logits(params, images).argmax(axis=1))
    rows = revive_clusters(params, assignments, images, heads=heads)["image"]["weight"]
    assert not np.allclose(rows[2], rows[3])


def test_clusters_of_many_sizes_are_looked_at_in_few_shapes(monkeypatch):
    shapes = set()
    probability = revival._probability_of

    def note(params, rows, cluster, *, heads):
        shapes.add(rows.shape)
        return probability(params, rows, cluster, heads=heads)

    monkeypatch.setattr(revival, "_probability_of", note)
    params, _ = params_with_a_dead_cluster()
    images = two_blobs()
    for size in range(33, 60):
        assignments = np.repeat([0, 1], [size, 60 - size])
        found = revive_clusters(params, assignments, images, heads=HEADS)
        sure = np.asarray(jax.nn.softmax(HEADS.image_logits(params, images), -1))
        misfit = images[sure[:size, 0].argmin()]
        np.testing.assert_allclose(found["image"]["weight"][2], misfit, rtol=1e-6)
    assert shapes == {(64, 4)}


@pytest.mark.parametrize("balance", [0.0, 5.0])
def test_training_ends_without_a_dead_cluster(balance):
    images = two_blobs()
    near = np.argsort(-np.asarray(images @ images.T), axis=1)[:, 1:6]
    nouns = jnp.eye(4)
    data = TrainingData(
        images=images,
        nouns=nouns,
        image_neighbors=jnp.asarray(near, jnp.int32),
        noun_neighbors=jnp.tile(jnp.arange(2, dtype=jnp.int32), (60, 1)),
        noun_similarities=images @ nouns[:2].T,
    )
    _, centers = params_with_a_dead_cluster()
    trainer = build_trainer(
        HEADS,
        build_objective(HEADS),
        build_optimizer(learning_rate=1e-3, total_steps=6),
        batch_size=30,
    )
    found = fit(
        jax.random.key(1),
        trainer,
        data,
        centers,
        weights=LossWeights(0.0, 0.0, 0.0, balance),
        prior=uniform_prior(3),
        num_epochs=3,
        changed_tolerance=0.0,
    )
    assert not len(empty_clusters(found.assignments, 3))
