"""Confidences: agreement, temperature, and what a calibration leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.metrics import cohen_kappa_score

from mca_jax.alignment import build_heads
from mca_jax.model.calibration import (
    calibrate,
    fit_temperature,
    neighbor_agreement,
    soften,
)
from mca_jax.neighbors import image_neighbors


def test_agreement_is_cohens_kappa_where_near_images_pair_up():
    # Each image is the one neighbour of another: both raters have the same counts.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    near = np.arange(200) ^ 1
    found = neighbor_agreement(labels, near[:, None], np.arange(200))
    assert found == pytest.approx(cohen_kappa_score(labels, labels[near]), abs=1e-12)


def test_agreement_of_some_images_is_theirs_alone():
    near = np.array([[1, 2], [0, 3]])
    labels = np.array([0, 0, 1, 1])
    # One of two neighbours each, and one half by chance.
    assert neighbor_agreement(labels, near, np.array([0, 1])) == pytest.approx(0.0)


def test_one_cluster_has_no_agreement_beyond_chance():
    assert neighbor_agreement(np.zeros(4, int), np.ones((4, 1), int), np.arange(4)) == 0


@pytest.mark.parametrize("wanted", [0.35, 0.6, 0.95])
def test_temperature_is_the_root_that_scipy_finds(wanted):
    logits = np.random.default_rng(1).normal(size=(100, 5)) * 6

    def excess(log_temperature):
        rows = softmax(logits / np.exp(log_temperature), axis=1)
        return rows.max(axis=1).mean() - wanted

    expected = np.exp(brentq(excess, np.log(0.1), np.log(1000)))
    found = fit_temperature(jnp.asarray(logits), wanted)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("wanted", "expected"), [(0.0, 1000.0), (1.0, 0.1)])
def test_temperature_stays_in_its_range(wanted, expected):
    logits = jnp.array([[1.0, 0.0]])
    assert fit_temperature(logits, wanted) == pytest.approx(expected, rel=1e-3)


def test_softened_logits_are_divided():
    heads = build_heads(num_clusters=3)
    centers = jnp.eye(3)
    params = heads.init(jax.random.key(0), centers)
    params["image"]["bias"] = jnp.array([0.5, -1.0, 2.0])
    rows = jax.random.normal(jax.random.key(1), (7, 3))
    before = heads.image_logits(params, rows)
    after = heads.image_logits(soften(params, 4.0), rows)
    np.testing.assert_allclose(after, before / 4, rtol=1e-5)
    nouns = heads.text_logits(params, rows)
    np.testing.assert_array_equal(heads.text_logits(soften(params, 4.0), rows), nouns)


def test_confidence_becomes_agreement_and_no_image_moves():
    rng = np.random.default_rng(2)
    # Four groups that overlap: some neighbours are in another one.
    images = 0.4 * rng.normal(size=(120, 16)) + np.eye(16)[np.arange(120) % 4]
    images = images.astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    near = image_neighbors(jnp.asarray(images), num_neighbors=20).indices
    heads = build_heads(num_clusters=4)
    params = heads.init(jax.random.key(0), jnp.asarray(images[:4]))
    before = np.asarray(jax.nn.softmax(heads.image_logits(params, images)))
    labels = before.argmax(axis=1)
    softer = calibrate(
        jax.random.key(1),
        heads,
        params,
        images=jnp.asarray(images),
        image_neighbors=near,
        assignments=labels,
    )
    after = np.asarray(jax.nn.softmax(heads.image_logits(softer, images)))
    np.testing.assert_array_equal(after.argmax(axis=1), labels)
    # No more of them than half a cluster of mean size has.
    near = np.asarray(near)[:, :15]
    agreement = neighbor_agreement(labels, near, np.arange(120))
    assert after.max(axis=1).mean() == pytest.approx(agreement, abs=2e-3)
    assert before.max(axis=1).mean() != pytest.approx(agreement, abs=0.02)


def test_a_small_set_that_is_grouped_well_is_sure_of_it():
    # 18 images of three classes: most of the 17 neighbours are other classes'.
    labels = np.repeat(np.arange(3), 6)
    rng = np.random.default_rng(0)
    images = np.eye(8)[labels] + 0.05 * rng.normal(size=(18, 8))
    images = jnp.asarray(images / np.linalg.norm(images, axis=1, keepdims=True))
    heads = build_heads(num_clusters=3)
    params = heads.init(jax.random.key(0), jnp.eye(8)[:3])
    near = image_neighbors(images, num_neighbors=17).indices
    params = calibrate(
        *(jax.random.key(1), heads, params),
        images=images,
        image_neighbors=near,
        assignments=labels,
    )
    confidence = softmax(np.asarray(heads.image_logits(params, images)), axis=1)
    assert confidence.max(axis=1).mean() > 0.95
