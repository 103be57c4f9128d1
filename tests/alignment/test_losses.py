"""Each loss by hand, and what must hold for any assignment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.alignment import build_heads, losses
from mca_jax.core import numerics

HALF = jnp.array([[0.5, 0.5]])
SURE = jnp.array([[1.0, 0.0]])
OTHER = jnp.array([[0.0, 1.0]])


def random_assignments(key, b=12, k=4):
    return jax.nn.softmax(2.0 * jax.random.normal(key, (b, k)), axis=-1)


def test_consistency_by_hand():
    assert losses.consistency_loss(SURE, SURE) == pytest.approx(0.0)
    assert losses.consistency_loss(HALF, SURE) == pytest.approx(np.log(2))


def test_consistency_is_finite_at_disagreement():
    gradient = jax.grad(lambda p: losses.consistency_loss(p, OTHER))(SURE)
    assert np.isfinite(gradient).all()


def test_pairs_by_hand():
    one, other = jnp.concatenate([HALF, SURE]), jnp.concatenate([SURE, OTHER])
    both, weights = jnp.array([True, True]), jnp.array([1.0, 0.0])
    # Half of the time the first pair shares a cluster; the second is padding.
    assert losses.pair_loss(one, other, both, weights) == pytest.approx(np.log(2))
    assert losses.pair_loss(one, other, ~both, weights) == pytest.approx(np.log(2))
    apart = losses.pair_loss(one, other, ~both, jnp.array([0.0, 2.0]))
    assert apart == pytest.approx(0.0)
    assert losses.pair_loss(one, other, both, jnp.zeros(2)) == 0.0


def test_pairs_are_finite_where_they_are_wrong():
    def loss(p):
        return losses.pair_loss(p, OTHER, jnp.array([True]), jnp.ones(1))

    assert np.isfinite(jax.grad(loss)(SURE)).all()


def test_balance_by_hand():
    uniform = losses.uniform_prior(4)
    # Of the mean over the batch: sure and even at once is perfectly balanced.
    assert losses.entropy_balance_loss(jnp.eye(4), uniform) == pytest.approx(
        0.0, abs=1e-6
    )
    one = jnp.array([[1.0, 0.0, 0.0, 0.0]] * 3)
    found = losses.entropy_balance_loss(one, uniform)
    assert found == pytest.approx(np.log(4), rel=1e-5)


def test_balance_is_scipys_divergence(key):
    from scipy.stats import entropy

    p, prior = random_assignments(key), random_assignments(key, 1)[0]
    expected = entropy(np.asarray(p).mean(axis=0), np.asarray(prior))
    found = losses.entropy_balance_loss(p, prior)
    assert found == pytest.approx(expected, rel=1e-4)


def test_instance_weighs_by_trust():
    one = losses.instance_loss(HALF, SURE, jnp.array([1.0]))
    assert one == pytest.approx(np.log(2))
    assert losses.instance_loss(HALF, SURE, jnp.array([0.25])) == pytest.approx(
        np.log(2) / 4
    )


def test_info_nce_by_hand():
    # Orthogonal prototypes: -log(e / (e + 1)) in both directions.
    found = losses.info_nce(jnp.eye(2), jnp.eye(2), temperature=1.0)
    assert found == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-5)


def test_info_nce_is_cross_entropy(key):
    a, b = (
        numerics.l2_normalize(jax.random.normal(k, (5, 3)))
        for k in jax.random.split(key)
    )
    logits = np.asarray(a, np.float64) @ np.asarray(b, np.float64).T / 0.3
    rows = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    expected = (rows.mean() + columns.mean()) / 2
    assert losses.info_nce(a, b, temperature=0.3) == pytest.approx(expected, rel=1e-4)


def test_matching_prototypes_cost_least(key):
    p = random_assignments(key)
    match = losses.assignment_prototype_loss(p, p, p, p)
    crossed = p[:, jnp.array([1, 0, 3, 2])]
    assert match < losses.assignment_prototype_loss(p, crossed, p, crossed)


def test_pseudo_labels_are_the_nearest_prototype():
    images = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    labels, kept = losses.pseudo_labels(
        images, images, jnp.eye(2)[::-1], temperature=0.1, min_confidence=0.5
    )
    np.testing.assert_array_equal(labels, [1, 0])
    np.testing.assert_array_equal(kept, [1.0, 1.0])


def test_undecided_images_get_no_label():
    image = jnp.array([[1.0, 1.0]]) / jnp.sqrt(2.0)
    _, kept = losses.pseudo_labels(image, image, jnp.eye(2), min_confidence=0.6)
    assert kept[0] == 0.0


def test_semantic_loss_by_hand():
    logits = jnp.zeros((2, 4))
    weights = jnp.array([1.0, 0.0])
    found = losses.semantic_loss(logits, jnp.array([0, 3]), weights)
    assert found == pytest.approx(np.log(4) / 2)


def test_unsure_images_form_no_semantic_prototype():
    assignments = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
    views = jnp.eye(3)
    sums = losses.semantic_prototypes(assignments, views, confident_share=0.5)
    np.testing.assert_allclose(sums, [[0.9, 0.8, 0.0], [0.1, 0.2, 0.0]], atol=1e-6)


def build_case(key, b=8, d=6, k=3, m=10, r=4):
    keys = jax.random.split(key, 4)
    centers, images, near, nouns = (
        numerics.l2_normalize(jax.random.normal(one, (rows, d)))
        for one, rows in zip(keys, (k, b, b, m), strict=True)
    )
    cosines, rows = jax.lax.top_k(images @ nouns.T, r)
    near_cosines, near_rows = jax.lax.top_k(near @ nouns.T, r)
    batch = losses.Batch(images, near, nouns, rows, cosines, near_rows, near_cosines)
    heads = build_heads(num_clusters=k)
    return heads, heads.init(key, centers), losses.init_prototypes(centers), batch


@pytest.mark.parametrize("reading", ["assignments", "embeddings"])
def test_the_total_is_the_weighted_sum_of_its_parts(key, reading):
    heads, params, prototypes, batch = build_case(key)
    objective = losses.build_objective(heads, prototype_reading=reading)
    weights = losses.LossWeights(0.5, 0.25, 2.0, 3.0)
    total, (parts, _) = objective(
        params, prototypes, batch, weights, losses.uniform_prior(3)
    )
    expected = (
        parts.consistency
        + 0.5 * parts.instance
        + 0.25 * parts.prototype
        + 2.0 * parts.semantic
        + 3.0 * parts.balance
    )
    assert total == pytest.approx(float(expected), rel=1e-5)
    assert parts.total == total
    assert all(float(part) >= -1e-6 for part in parts)


@pytest.mark.parametrize("reading", ["assignments", "embeddings"])
def test_gradients_are_finite_under_jit(key, reading):
    heads, params, prototypes, batch = build_case(key)
    objective = losses.build_objective(heads, prototype_reading=reading)
    gradient = jax.jit(jax.grad(objective, has_aux=True))
    found, _ = gradient(
        params, prototypes, batch, losses.LossWeights(), losses.uniform_prior(3)
    )
    leaves = jax.tree.leaves(found)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(np.abs(leaf).max() > 0 for leaf in leaves)


def test_switched_off_levels_leave_the_text_untouched(key):
    heads, params, prototypes, batch = build_case(key)
    objective = losses.build_objective(heads)
    weights = losses.LossWeights(0.0, 0.0, 0.0, 0.0)
    found, _ = jax.grad(objective, has_aux=True)(
        params, prototypes, batch, weights, losses.uniform_prior(3)
    )
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(found["text"])) == 0
    assert np.abs(found["image"]["weight"]).max() > 0


def test_few_and_many_nouns_give_the_same_loss(key):
    heads, params, prototypes, batch = build_case(key)
    objective = losses.build_objective(heads)
    # Unused nouns make the table longer than the batch has places for.
    padding = jnp.tile(batch.nouns[:1], (100, 1))
    longer = batch._replace(nouns=jnp.concatenate([batch.nouns, padding]))
    arguments = losses.LossWeights(), losses.uniform_prior(3)
    short, _ = objective(params, prototypes, batch, *arguments)
    long, _ = objective(params, prototypes, longer, *arguments)
    assert short == pytest.approx(float(long), rel=1e-5)
