import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.evaluation import (
    cluster_size_entropy,
    measure_risk,
    neighborhood_consistency,
    neighborhood_imbalance,
    prediction_confidence,
)


def draw(key: jax.Array, n: int, k: int, r: int) -> tuple[jax.Array, jax.Array]:
    """Random assignment probabilities and a random neighbour table."""
    for_logits, for_neighbors = jax.random.split(key)
    probabilities = jax.nn.softmax(2 * jax.random.normal(for_logits, (n, k)))
    offsets = jax.random.randint(for_neighbors, (n, r), 1, n)
    return probabilities, (jnp.arange(n)[:, None] + offsets) % n


def test_by_hand():
    # Images 0 and 1 are sure of cluster 0, image 2 halves, image 3 is sure of 1.
    probabilities = jnp.array([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]])
    neighbors = jnp.array([[1, 2], [0, 2], [1, 0], [2, 0]])
    risk = measure_risk(probabilities, neighbors)
    # (1 + 1/2)/2, (1 + 1/2)/2, (1/2 + 1/2)/2, (1/2 + 0)/2 over four images.
    assert float(risk.consistency) == (0.75 + 0.75 + 0.5 + 0.25) / 4
    assert float(risk.confidence) == 3.5 / 4
    # In-degrees 3, 2, 3, 0 around a mean of 2: variance (1 + 0 + 1 + 4)/4.
    np.testing.assert_allclose(risk.imbalance, np.sqrt(1.5) / 2, rtol=1e-6)
    # The tie of image 2 goes to cluster 0: sizes 3, 1, 0.
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(3)
    np.testing.assert_allclose(risk.size_entropy, entropy, rtol=1e-6)
    assert int(risk.empty_clusters) == 1


@pytest.mark.parametrize("block_size", [1, 7, 64, 97, 1024])
def test_against_numpy_for_any_block(key, block_size):
    # 97 images: no block but 1 and 97 divides them, so the last one is short.
    probabilities, neighbors = draw(key, n=97, k=5, r=6)
    risk = measure_risk(probabilities, neighbors, block_size=block_size)
    p, around = np.asarray(probabilities, np.float64), np.asarray(neighbors)
    # Means of 97 float32 numbers of size one: 1e-6 is some ten roundings.
    consistency = np.mean([p[i] @ p[j] for i in range(97) for j in around[i]])
    np.testing.assert_allclose(risk.consistency, consistency, rtol=1e-6)
    np.testing.assert_allclose(risk.confidence, p.max(axis=1).mean(), rtol=1e-6)
    degree = np.array([(around == image).sum() for image in range(97)])
    imbalance = degree.std() / degree.mean()
    np.testing.assert_allclose(risk.imbalance, imbalance, rtol=1e-6)
    sizes = np.bincount(p.argmax(axis=1), minlength=5)
    shares = sizes / sizes.sum()
    entropy = -(shares * np.log(shares)).sum() / np.log(5)
    np.testing.assert_allclose(risk.size_entropy, entropy, rtol=1e-6)


def test_jit_gives_the_same_with_one_trace(key):
    traces = 0

    def measure(probabilities, neighbors):
        nonlocal traces
        traces += 1
        return measure_risk(probabilities, neighbors, block_size=16)

    compiled = jax.jit(measure)
    for child in jax.random.split(key, 3):
        probabilities, neighbors = draw(child, n=50, k=4, r=3)
        plain = measure_risk(probabilities, neighbors, block_size=16)
        for one, other in zip(compiled(probabilities, neighbors), plain, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
    assert traces == 1


def test_sharded_gives_the_same_as_unsharded(key):
    probabilities, neighbors = draw(key, n=64, k=4, r=3)
    mesh = jax.make_mesh(
        (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()
    )
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = jax.device_put((probabilities, neighbors), rows)
    for one, other in zip(
        jax.jit(measure_risk)(*spread),
        measure_risk(probabilities, neighbors),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_gradients_are_finite_at_hard_assignments():
    neighbors = jnp.array([[1], [0]])
    for function in (
        lambda p: neighborhood_consistency(p, neighbors),
        prediction_confidence,
    ):
        assert jnp.all(jnp.isfinite(jax.grad(function)(jnp.eye(2))))


def test_order_of_images_and_clusters_does_not_matter(key):
    probabilities, neighbors = draw(key, n=40, k=4, r=3)
    before = measure_risk(probabilities, neighbors)
    order = jax.random.permutation(jax.random.key(1), 40)
    # The image at new row i was at order[i]; its neighbours move to their new rows.
    moved = jnp.argsort(order)[neighbors[order]]
    after = measure_risk(probabilities[order][:, jnp.array([2, 0, 3, 1])], moved)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_bounds_are_reached():
    neighbors = jnp.array([[1], [2], [0]])
    best = measure_risk(jnp.array([[1.0, 0.0]] * 3), neighbors)
    assert float(best.consistency) == float(best.confidence) == 1.0
    assert float(best.size_entropy) == 0.0
    assert float(best.imbalance) == 0.0
    worst = measure_risk(jnp.eye(3), neighbors)
    assert float(worst.consistency) == 0.0
    assert int(worst.empty_clusters) == 0
    unsure = measure_risk(jnp.full((3, 4), 0.25), neighbors)
    assert float(unsure.confidence) == float(unsure.consistency) == 0.25


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_summed_in_float32(dtype):
    # 4,096 halves: a float16 or bfloat16 sum would stop growing long before.
    probabilities = jnp.full((4096, 2), 0.5, dtype)
    neighbors = (jnp.arange(4096)[:, None] + 1) % 4096
    risk = measure_risk(probabilities, neighbors)
    assert risk.consistency.dtype == risk.confidence.dtype == jnp.float32
    assert float(risk.consistency) == float(risk.confidence) == 0.5


def test_bad_input():
    with pytest.raises(InputError, match="same images, found 3 and 2"):
        neighborhood_consistency(jnp.eye(3), jnp.array([[1], [0]]))
    with pytest.raises(InputError, match=r"one neighbour, found shape \(3, 0\)"):
        neighborhood_consistency(jnp.eye(3), jnp.zeros((3, 0), jnp.int32))
    with pytest.raises(InputError, match=r"one image .* found shape \(0, 2\)"):
        neighborhood_imbalance(jnp.zeros((0, 2), jnp.int32))
    with pytest.raises(InputError, match="at least 2 clusters, found 1"):
        cluster_size_entropy(jnp.array([4]))
    with pytest.raises(InputError, match="at least 2 clusters, found 1"):
        measure_risk(jnp.ones((2, 1)), jnp.array([[1], [0]]))


def test_an_empty_cluster_adds_nothing_to_the_entropy():
    # 0 log 0 is 0, not NaN.
    assert float(cluster_size_entropy(jnp.array([2, 2, 0, 0]))) == 0.5
