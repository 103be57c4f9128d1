"""The loss of a batch over eight devices is the loss of the batch: gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mca_jax.alignment import build_heads, losses
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    DATA_AXIS,
    data_mesh,
    over_devices,
    replicate,
    shard_rows,
)
from mca_jax.training import build_step, init_state
from mca_jax.training.step import BATCH_SPLIT, gather_outputs, shard_forward

K, D, M = 5, 12, 30
WEIGHTS = losses.LossWeights(*np.float32([0.7, 1.3, 0.9, 5.0]))


@pytest.fixture(scope="module")
def mesh():
    return data_mesh(8)


def build_case(key, b, **options):
    """A batch whose texts and images disagree, so that no part of the loss is 0."""
    keys = jax.random.split(key, 5)
    centers, images, nouns = (
        l2_normalize(jax.random.normal(one, (rows, D)))
        for one, rows in zip(keys, (K, b, M), strict=False)
    )
    near = l2_normalize(images + 0.5 * jax.random.normal(keys[3], images.shape))
    cosines, rows = jax.lax.top_k(images @ nouns.T, 6)
    near_cosines, near_rows = jax.lax.top_k(near @ nouns.T, 6)
    batch = losses.Batch(images, near, nouns, rows, cosines, near_rows, near_cosines)
    heads = build_heads(num_clusters=K, initial_scale=6.0, null_similarity=0.2)
    constants = {"min_confidence": 0.3, "label_temperature": 0.3, **options}
    state = init_state(keys[4], heads, optax.sgd(0.1), centers)
    prior = jax.nn.softmax(jnp.arange(K) / 3.0)
    return heads, constants, state, batch, prior


def spread(mesh, state, batch, prior):
    state, weights, prior, nouns = replicate((state, WEIGHTS, prior, batch.nouns), mesh)
    parts = [
        None if name == "nouns" else part for name, part in batch._asdict().items()
    ]
    placed = jax.tree.map(lambda x: shard_rows(x, mesh).array, losses.Batch(*parts))
    return state, placed._replace(nouns=nouns), weights, prior


def run_steps(step, state, *others, count=5):
    infos = []
    for _ in range(count):
        state, info = step(state, *others)
        infos.append(info)
    return jax.block_until_ready((state, infos))


def per_device_gradient(objective, b):
    shared = gather_outputs(objective, batch_size=b)

    def gradient(*arguments):
        grads, aux = jax.grad(shared, has_aux=True)(*arguments)
        return jax.lax.pmean(grads, DATA_AXIS), aux

    return gradient


@pytest.mark.slow
@pytest.mark.parametrize(("b", "reading"), [(61, "assignments"), (9, "embeddings")])
@pytest.mark.parametrize("way", ["global arrays", "each device"])
def test_gradients_are_those_of_one_device(key, mesh, b, reading, way):
    heads, constants, state, batch, prior = build_case(key, b)
    objective = losses.build_objective(heads, prototype_reading=reading, **constants)
    expected, (parts, carried) = jax.jit(jax.grad(objective, has_aux=True))(
        state.params, state.prototypes, batch, WEIGHTS, prior
    )
    if way == "global arrays":
        shared = shard_forward(objective, mesh, batch_size=b)
        mapped = jax.jit(jax.grad(shared, has_aux=True))
    else:
        split = (False, False, BATCH_SPLIT, False, False)
        mapped = over_devices(per_device_gradient(objective, b), mesh, split=split)
    state, *others = spread(mesh, state, batch, prior)
    found, (shared_parts, shared_carried) = mapped(
        state.params, state.prototypes, *others
    )
    assert 0.05 < parts.labelled <= 1
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6 * largest)
    for one, other in zip(
        (*shared_parts, *shared_carried), (*parts, *carried), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_sgd_steps_are_those_of_one_device(key, mesh):
    b = 64
    heads, constants, state, batch, prior = build_case(key, b)
    optimizer = optax.sgd(0.1)
    objective = losses.build_objective(heads, **constants)
    one = jax.jit(build_step(objective, optimizer))
    expected, _ = run_steps(one, state, batch, WEIGHTS, prior)
    step = jax.jit(
        build_step(shard_forward(objective, mesh, batch_size=b), optimizer),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
    found, _ = run_steps(step, *spread(mesh, state, batch, prior))
    assert int(found.step) == 5
    for name, moved in expected.params["image"].items():
        difference = np.abs(moved - state.params["image"][name]).max()
        assert difference > 1e-3, "a test in which nothing moves shows nothing"
    for left, right in zip(
        jax.tree.leaves((found.params, found.prototypes)),
        jax.tree.leaves((expected.params, expected.prototypes)),
        strict=True,
    ):
        np.testing.assert_allclose(left, right, rtol=2e-5, atol=2e-6)


def test_pmap_and_shard_map_give_the_same_bits(key, mesh):
    optimizer = optax.adamw(1e-2)
    heads, constants, _, batch, prior = build_case(key, 64)
    objective = losses.build_objective(heads, **constants)
    shared = gather_outputs(objective, batch_size=64)
    step = build_step(shared, optimizer, axis_name=DATA_AXIS)
    centers = l2_normalize(jax.random.normal(key, (K, D)))
    state = init_state(key, heads, optimizer, centers)
    split = (False, BATCH_SPLIT, False, False)
    by_pmap = run_steps(
        over_devices(step, mesh, split=split, driver="pmap"),
        *(state, batch, WEIGHTS, prior),
    )
    by_shard_map = run_steps(
        over_devices(step, mesh, split=split), *spread(mesh, state, batch, prior)
    )
    for left, right in zip(
        jax.tree.leaves(by_pmap), jax.tree.leaves(by_shard_map), strict=True
    ):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_a_device_sees_its_rows_once(mesh):
    rows = np.arange(16.0, dtype=np.float32)[:, None]

    def double(x):
        return 2 * x, jax.lax.psum(x.sum(), DATA_AXIS)

    for driver in ("shard_map", "pmap"):
        mapped = over_devices(
            double, mesh, split=(True,), split_out=(True, False), driver=driver
        )
        doubled, total = mapped(rows)
        np.testing.assert_array_equal(doubled, 2 * rows)
        assert float(total) == 120.0
