"""A small set and trainer for tests of training and checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np

from mca_jax import training
from mca_jax.alignment import build_heads
from mca_jax.alignment.losses import LossWeights, build_objective, uniform_prior
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import data_mesh
from mca_jax.neighbors import image_neighbors, noun_neighbors

NUM_EPOCHS = 4
STEPS_PER_PASS = 3
NUM_STEPS = NUM_EPOCHS * STEPS_PER_PASS


def make_data(key):
    """Four groups on four axes of sixteen, a noun near each, and noise nouns."""
    noise, text, more = jax.random.split(key, 3)
    axes = jnp.eye(16)[:4]
    images = l2_normalize(
        jnp.repeat(axes, 30, axis=0) + 0.15 * jax.random.normal(noise, (120, 16))
    )
    nouns = jnp.concatenate(
        [
            axes + 0.05 * jax.random.normal(text, (4, 16)),
            jax.random.normal(more, (20, 16)),
        ]
    )
    nouns = l2_normalize(nouns)
    near, texts = image_neighbors(images), noun_neighbors(images, nouns)
    return training.TrainingData(
        images, nouns, near.indices, texts.indices, texts.similarities
    )


def count_traces(objective, traces):
    """The objective; an entry is added whenever it is traced."""

    def loss(*arguments):
        traces.append(None)
        return objective.loss(*arguments)

    return objective._replace(loss=loss)


def make_trainer(traces=None, num_devices=1):
    """Heads for four clusters, three steps a pass over 120 images.

    ``traces`` gets an entry whenever the loss is traced.
    """
    mesh = None if num_devices == 1 else data_mesh(num_devices)
    heads = build_heads(num_clusters=4)
    objective = count_traces(build_objective(heads), [] if traces is None else traces)
    optimizer = training.build_optimizer(learning_rate=1e-2, total_steps=NUM_STEPS)
    return training.build_trainer(heads, objective, optimizer, batch_size=40, mesh=mesh)


def run(key, trainer, data, **options):
    """Train for the full number of passes, without a plateau stop."""
    return training.fit(
        key,
        trainer,
        data,
        data.images[::30],
        weights=LossWeights(),
        prior=uniform_prior(4),
        num_epochs=NUM_EPOCHS,
        loss_tolerance=0.0,
        changed_tolerance=0.0,
        **options,
    )


def assert_same_run(one, other):
    """Bitwise: weights, clusters, and all that was recorded."""
    for a, b in zip(
        jax.tree.leaves((one.params, one.assignments)),
        jax.tree.leaves((other.params, other.assignments)),
        strict=True,
    ):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)
    assert one.history == other.history
    assert one.status is other.status
    assert one.rate_exponent == other.rate_exponent
