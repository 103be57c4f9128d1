"""The three networks: what step 0 computes, and the null noun."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.alignment import build_heads
from mca_jax.core.numerics import l2_normalize


def unit(key, shape):
    return l2_normalize(jax.random.normal(key, shape))


def test_heads_start_at_the_centres(key):
    heads = build_heads(num_clusters=3, initial_scale=7.0)
    centers, images = unit(key, (3, 5)), unit(jax.random.fold_in(key, 1), (9, 5))
    params = heads.init(key, centers)
    expected = 7.0 * np.asarray(images) @ np.asarray(centers).T
    np.testing.assert_allclose(heads.image_logits(params, images), expected, rtol=1e-4)
    np.testing.assert_allclose(heads.text_logits(params, images), expected, rtol=1e-4)


def test_attention_starts_as_softmax_retrieval(key):
    heads = build_heads(num_clusters=2, attention_temperature=0.1)
    params = heads.init(key, unit(key, (2, 4)))
    similarities = jnp.array([[0.3, 0.2, 0.1]])
    attended = heads.attend(
        params, unit(key, (1, 4)), unit(key, (3, 4))[None], similarities
    )
    expected = np.exp([3.0, 2.0, 1.0]) / np.exp([3.0, 2.0, 1.0]).sum()
    np.testing.assert_allclose(attended.weights[0], expected, rtol=1e-5)


def test_the_null_noun_takes_what_it_should(key):
    heads = build_heads(num_clusters=2, attention_temperature=0.1, null_similarity=0.2)
    params = heads.init(key, unit(key, (2, 4)))
    attended = heads.attend(
        params, unit(key, (1, 4)), unit(key, (1, 4))[None], jnp.array([[0.2]])
    )
    # One noun as near as the null noun: half of the weight each.
    assert attended.trust[0] == pytest.approx(0.5)


def test_attention_equals_the_formula(key):
    heads = build_heads(num_clusters=2, attention_width=3)
    params = heads.init(key, unit(key, (2, 4)))
    params["attention"]["key"] = jax.random.normal(key, (4, 3))
    images, nouns = unit(key, (2, 4)), unit(key, (2, 5, 4))
    zeros = jnp.zeros((2, 5))
    found = heads.attend(params, images, nouns, zeros).weights
    queries = np.asarray(images @ params["attention"]["query"])
    keys = np.asarray(nouns @ params["attention"]["key"])
    logits = np.einsum("ba,bra->br", queries, keys) / np.sqrt(3)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_attention_off_weighs_all_nouns_alike(key):
    heads = build_heads(num_clusters=2, attention=False)
    params = heads.init(key, unit(key, (2, 4)))
    # Weights of the same shape as with it, so that one kind of file holds both.
    same = build_heads(num_clusters=2).init(key, unit(key, (2, 4)))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, same)
    images, nouns = unit(key, (3, 4)), unit(key, (3, 5, 4))
    attended = heads.attend(
        params, images, nouns, jnp.einsum("bd,brd->br", images, nouns)
    )
    np.testing.assert_array_equal(attended.weights, np.full((3, 5), np.float32(0.2)))
    np.testing.assert_array_equal(attended.trust, np.ones(3))
