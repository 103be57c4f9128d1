"""Trust in the nouns: texts that group the images as the images do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.numerics import l2_normalize
from mca_jax.neighbors.retrieved_text import image_text_rows, text_trust


def blobs(key, num_classes=5, per_class=40, noise=0.2):
    labels = np.repeat(np.arange(num_classes), per_class)
    rows = jnp.eye(16)[labels] + noise * jax.random.normal(key, (len(labels), 16))
    return l2_normalize(rows), labels


@pytest.fixture(scope="module")
def nouns():
    # Some nouns around each class, and many about nothing that is there.
    near = jnp.repeat(jnp.eye(16)[:5], 6, axis=0)
    noise = 0.1 * jax.random.normal(jax.random.key(1), near.shape)
    return l2_normalize(near + noise)


def test_nouns_that_fit_are_trusted_and_random_ones_are_not(nouns):
    images, labels = blobs(jax.random.key(0))
    key = jax.random.key(2)
    fit = text_trust(key, images, nouns, labels, num_clusters=5, num_neighbors=4)
    assert fit == pytest.approx(1.0)
    # Images of these clusters in a random order: nouns say nothing of the clusters.
    mixed = np.random.default_rng(0).permutation(labels)
    assert text_trust(key, images, nouns, mixed, num_clusters=5) < 0.05


def test_trust_falls_with_the_noise_of_the_images(nouns):
    found = []
    for noise in (0.2, 0.6, 1.5):
        images, labels = blobs(jax.random.key(0), noise=noise)
        found.append(
            text_trust(jax.random.key(2), images, nouns, labels, num_clusters=5)
        )
    assert found[0] > found[1] > found[2] >= 0


def test_a_text_is_as_long_as_its_weight(nouns):
    images, _ = blobs(jax.random.key(0))
    near = jnp.zeros((len(images), 2), jnp.int32)
    rows = image_text_rows(
        *(images, nouns, near, jnp.zeros(near.shape)), temperature=0.1, text_weight=0.5
    )
    lengths = jnp.linalg.norm(rows[:, 16:], axis=1) / jnp.linalg.norm(
        rows[:, :16], axis=1
    )
    np.testing.assert_allclose(lengths, 0.5, rtol=1e-5)
