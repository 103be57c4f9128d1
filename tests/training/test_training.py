"""Training: no labels, one trace, same key same run, a status at the end."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_training import count_traces, make_data

from mca_jax import MCA, training
from mca_jax.alignment import build_heads
from mca_jax.alignment.losses import LossWeights, build_objective, uniform_prior
from mca_jax.core.errors import InputError
from mca_jax.neighbors import spherical_kmeans
from mca_jax.pipeline import stages, teach
from mca_jax.pipeline.cluster import cluster
from mca_jax.training import corrections, loop
from mca_jax.training.convergence import fit_rate_exponent, has_converged


@pytest.fixture
def blobs(key):
    return make_data(key)


def run(key, data, *, epochs=6, learning_rate=1e-2, traces=None, **options):
    heads = build_heads(num_clusters=4)
    objective = count_traces(build_objective(heads), [] if traces is None else traces)
    optimizer = training.build_optimizer(
        learning_rate=learning_rate, total_steps=3 * epochs
    )
    trainer = training.build_trainer(heads, objective, optimizer, batch_size=40)
    centers = spherical_kmeans(key, data.images, num_clusters=4).centers
    options = {"weights": LossWeights(), "num_epochs": epochs, **options}
    prior = uniform_prior(4)
    return training.fit(key, trainer, data, centers, prior=prior, **options), trainer


@pytest.mark.parametrize(
    "function",
    [
        training.fit,
        training.build_trainer,
        training.build_step,
        training.build_epoch,
        stages.gather_data,
        stages.train_heads,
        stages.project,
        cluster,
        corrections.train_on_groups,
        teach.learn,
        MCA.fit,
    ],
)
def test_nothing_that_trains_takes_labels(function):
    # Constraints are what a user says of single images, and come from nowhere else.
    for name in inspect.signature(function).parameters:
        assert "label" not in name
        assert "target" not in name


def test_training_data_holds_no_labels():
    assert training.TrainingData._fields == (
        "images",
        "nouns",
        "image_neighbors",
        "noun_neighbors",
        "noun_similarities",
    )


def test_the_groups_are_found(key, blobs):
    result, _ = run(key, blobs)
    groups = result.assignments.reshape(4, 30)
    assert all(len(set(group)) == 1 for group in groups)
    assert len(set(groups[:, 0])) == 4
    assert result.status in (training.Status.CONVERGED, training.Status.STEP_LIMIT)


def test_every_weight_is_trained(key, blobs):
    result, trainer = run(key, blobs, epochs=2)
    centers = spherical_kmeans(key, blobs.images, num_clusters=4).centers
    before = jax.tree.leaves_with_path(trainer.init(key, centers).params)
    for (path, old), new in zip(before, jax.tree.leaves(result.params), strict=True):
        assert (old != new).any(), path


def test_the_same_key_gives_the_same_run(key, blobs):
    first, second = run(key, blobs)[0], run(key, blobs)[0]
    np.testing.assert_array_equal(first.assignments, second.assignments)
    assert first.history == second.history


def test_a_pass_is_compiled_once_whatever_the_weights(key, blobs):
    traces = []
    result, trainer = run(key, blobs, traces=traces)
    before = len(traces)
    assert before >= 1
    centers = blobs.images[:4]
    training.fit(
        key,
        trainer,
        blobs,
        centers,
        weights=LossWeights(0.0, 0.0, 0.0, 1.0),
        prior=uniform_prior(4),
        num_epochs=2,
    )
    assert len(traces) == before
    assert len(result.history) >= 2


def test_a_run_that_blows_up_keeps_the_weights_before(key, blobs):
    bad = blobs._replace(noun_similarities=blobs.noun_similarities.at[0].set(jnp.nan))
    result, _ = run(key, bad)
    assert result.status is training.Status.NON_FINITE
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))


def test_no_epochs_are_refused(key, blobs):
    with pytest.raises(InputError, match=r"train\.epochs at least 1, found 0"):
        run(key, blobs, num_epochs=0)


def test_every_image_is_in_a_pass_at_most_once(key):
    order = training.epoch_order(key, num_images=10, batch_size=3)
    assert order.shape == (3, 3)
    assert len(set(np.asarray(order).ravel().tolist())) == 9
    # Of a large set an epoch is a part of the same pass.
    part = training.epoch_order(key, num_images=10, batch_size=3, max_steps=2)
    np.testing.assert_array_equal(part, order[:2])


def test_rest_needs_loss_and_assignments():
    assert has_converged([3.0, 1.0, 1.0, 1.0, 1.0], [0.5, 0.0, 0.0, 0.0, 0.0])
    assert not has_converged([3.0, 1.0, 1.0, 1.0, 1.0], [0.5, 0.0, 0.2, 0.0, 0.0])
    assert not has_converged([3.0, 1.0, 2.0, 1.0, 1.0], [0.0] * 5)
    assert not has_converged([1.0], [0.0])


def test_the_rate_of_a_known_curve_is_found():
    steps = np.arange(1, 2001.0)
    means = steps**-0.5
    norms = np.diff(np.concatenate([[0.0], means * steps]))
    assert fit_rate_exponent(norms.tolist()) == pytest.approx(-0.5, abs=1e-6)
    assert np.isnan(fit_rate_exponent([1.0]))


def test_many_images_are_watched_by_a_sample(key, blobs, monkeypatch):
    options = {"epochs": 3, "loss_tolerance": 0.0, "changed_tolerance": 0.0}
    expected, _ = run(key, blobs, **options)
    monkeypatch.setattr(loop, "_WATCHED", 30)
    found, trainer = run(key, blobs, **options)
    # What is watched changes no step, and all images are assigned at the end.
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    for one, other in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    asked = []

    def assign(params, images):
        asked.append(len(images))
        return trainer.assign(params, images)

    run_again = trainer._replace(assign=assign)
    centers = spherical_kmeans(key, blobs.images, num_clusters=4).centers
    training.fit(
        *(key, run_again, blobs, centers),
        weights=LossWeights(),
        prior=uniform_prior(4),
        num_epochs=3,
        loss_tolerance=0.0,
        changed_tolerance=0.0,
    )
    assert asked == [30, 30, 30, 30, 120]


def test_a_cluster_is_empty_only_if_no_image_of_all_is_in_it(key, monkeypatch):
    monkeypatch.setattr(loop, "_WATCHED", 2)
    asked = []

    class Counting:
        def assign(self, params, images):
            asked.append(len(images))
            return np.arange(len(images)) % 3

    watch = loop._Watch(key, Counting(), jnp.zeros((9, 2)), 3)
    known = watch.to_find_empty({}, watch.assign({}))
    assert asked == [2, 9]
    assert not len(loop.empty_clusters(known, 3))
