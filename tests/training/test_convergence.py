"""The record of every step, and steps that must not be taken."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_training import NUM_STEPS, make_data, make_trainer, run

from mca_jax.alignment.losses import LossParts, LossWeights, Objective
from mca_jax.training import Status, TrainingData, TrainState, build_epoch, build_step
from mca_jax.training.convergence import (
    init_monitor,
    mean_loss,
    record_epoch,
    record_steps,
    summarize_epoch,
)
from mca_jax.training.step import StepInfo

PARTS = LossParts._fields


def parts_of(**values):
    return LossParts(**{name: jnp.float32(values.get(name, 0.0)) for name in PARTS})


def counting_state():
    """A weight that each step of gradient -1 and rate 1 makes one larger."""
    params = jnp.zeros(())
    return TrainState(
        step=jnp.int32(0),
        key=jax.random.key(0),
        params=params,
        opt_state=optax.sgd(1.0).init(params),
        prototypes=jnp.zeros(()),
        first_loss=jnp.float32(jnp.nan),
    )


def data_of(num_images):
    rows = jnp.arange(num_images, dtype=jnp.int32)
    return TrainingData(
        jnp.zeros((num_images, 2)),
        jnp.zeros((1, 2)),
        rows[:, None],
        jnp.zeros((num_images, 1), jnp.int32),
        jnp.zeros((num_images, 1)),
    )


def take_steps(loss, count, num_images=20):
    """Steps on a loss of the weights themselves."""
    objective = Objective(lambda params, batch: params, loss)
    epoch = build_epoch(build_step(objective, optax.sgd(1.0)), batch_size=1)
    prior = jnp.ones(1)
    state, infos = jax.jit(epoch)(
        counting_state(), data_of(num_images), LossWeights(), prior, count
    )
    monitor = init_monitor(1, num_images)
    monitor, failure = record_steps(monitor, 0, infos, count)
    return state, monitor, failure


def breaks_at_four(params, batch, prototypes, weights, prior):
    """Falls by one a step; the semantic part is NaN once the weight is 4."""
    total = -params
    semantic = jnp.where(params > 3.5, jnp.nan, 0.0)
    parts = parts_of()._replace(total=total + semantic, semantic=semantic)
    return total + semantic, (parts, prototypes)


def rises(params, batch, prototypes, weights, prior):
    """The loss is the number of steps taken; the balance is all of it."""
    # Gradient -1 whatever the value, so that the weight counts steps.
    value = jax.lax.stop_gradient(2.0 * params) - params
    return value, (parts_of()._replace(total=value, balance=value), prototypes)


def infinite_slope(params, batch, prototypes, weights, prior):
    """The value is finite everywhere, the slope is not at a weight of 2."""
    value = -params + jnp.sqrt(jnp.abs(params - 2.0)) * jnp.where(params > 1.5, 1, 0)
    return value, (parts_of()._replace(total=value, consistency=value), prototypes)


def test_a_value_that_is_not_finite_stops_the_steps_and_is_named():
    state, monitor, failure = take_steps(breaks_at_four, 10)
    assert failure is not None
    assert (failure.status, failure.step, failure.part) == (
        Status.NON_FINITE,
        5,
        "semantic",
    )
    assert str(failure) == "step 5: semantic loss is nan"
    # Four valid steps, and the state is that after them.
    assert int(state.step) == 4
    assert float(state.params) == 4.0
    np.testing.assert_array_equal(
        monitor.parts[:5, PARTS.index("total")], [0, -1, -2, -3, np.nan]
    )
    assert np.isnan(monitor.parts[5:]).all()


def test_a_rising_loss_stops_the_steps_and_is_named():
    # Allowed is three times |first loss| + 1, with a first loss of 0.
    state, _, failure = take_steps(rises, 10)
    assert failure is not None
    assert (failure.status, failure.step, failure.part) == (
        Status.DIVERGED,
        5,
        "balance",
    )
    assert str(failure) == "step 5: balance loss rose to 4"
    assert float(state.params) == 4.0


def test_a_gradient_that_is_not_finite_is_named():
    state, _, failure = take_steps(infinite_slope, 10)
    assert failure is not None
    assert (failure.status, failure.step, failure.part) == (
        Status.NON_FINITE,
        3,
        "gradient",
    )
    assert float(state.params) == 2.0


def test_valid_steps_are_all_taken():
    state, monitor, failure = take_steps(breaks_at_four, 4)
    assert failure is None
    assert int(state.step) == 4
    assert float(state.first_loss) == 0.0
    np.testing.assert_array_equal(monitor.grad_norms[:4], np.ones(4))


def infos(losses, norms):
    losses = np.asarray(losses, np.float32)
    columns = {name: np.zeros_like(losses) for name in PARTS} | {"total": losses}
    norms = np.asarray(norms, np.float32)
    return StepInfo(LossParts(**columns), norms, np.ones(len(losses), bool))


def test_a_pass_is_summed_up_by_hand():
    monitor = init_monitor(2, 3)
    monitor, _ = record_steps(monitor, 0, infos([6, 3, 0], [3, 2, 1]), 3)
    monitor = record_epoch(monitor, 0, 0.25)
    monitor, _ = record_steps(monitor, 3, infos([1, 2, 9], [2, 4, 9]), 2)
    monitor, _ = record_steps(monitor, 5, infos([3], [0]), 1)
    monitor = record_epoch(monitor, 1, 0.125)
    first, second = (summarize_epoch(monitor, i, 6) for i in range(2))
    assert first["epoch"] == 1.0
    assert first["loss"] == 3.0
    assert first["grad_norm"] == 2.0
    assert first["changed"] == 0.25
    assert first["min_squared_grad"] == 1.0
    assert first["mean_squared_grad"] == pytest.approx(14 / 3)
    assert second["loss"] == 2.0
    assert second["min_squared_grad"] == 0.0
    assert second["mean_squared_grad"] == pytest.approx(34 / 6)
    assert "rate_exponent" not in second
    # Over the last three steps, wherever a pass begins.
    assert mean_loss(monitor, 4) == pytest.approx(4 / 3)
    assert mean_loss(monitor, 1) == 6.0


@pytest.fixture(scope="module")
def traces():
    """An entry for each time that the loss was traced."""
    return []


@pytest.fixture(scope="module")
def job(traces):
    key = jax.random.key(0)
    return key, make_trainer(traces), make_data(key)


def test_every_step_of_a_run_is_in_its_history(job):
    result = run(*job)
    assert result.failure is None
    assert result.status is Status.STEP_LIMIT
    last = result.history[-1]
    assert {"loss", "semantic", "changed", "min_squared_grad"} <= last.keys()
    # Twelve steps are enough to fit an exponent.
    assert last["rate_exponent"] == result.rate_exponent
    lowest = [row["min_squared_grad"] for row in result.history]
    assert lowest == sorted(lowest, reverse=True)


def test_a_run_that_fails_keeps_the_weights_of_the_pass_before(job):
    key, trainer, data = job
    bad = data._replace(noun_similarities=data.noun_similarities.at[0].set(jnp.nan))
    result = run(key, trainer, bad)
    assert result.status is Status.NON_FINITE
    assert result.failure is not None
    assert 1 <= result.failure.step <= NUM_STEPS // 4
    assert result.failure.part in PARTS
    fresh = trainer.init(key, data.images[::30]).params
    for ours, theirs in zip(
        jax.tree.leaves(result.params), jax.tree.leaves(fresh), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        result.assignments, trainer.assign(fresh, data.images)
    )


def test_how_a_pass_is_cut_changes_nothing(job, traces):
    key, trainer, data = job
    weights = LossWeights(*(jnp.float32(1.0) for _ in range(4)))
    prior = jnp.full(4, 0.25)

    def after(*counts):
        state = trainer.init(key, data.images[::30])
        losses = []
        for count in counts:
            state, info = trainer.epoch(state, data, weights, prior, count)
            losses += np.asarray(info.loss.total)[:count].tolist()
        return losses, jax.tree.leaves((state.params, state.opt_state))

    whole = after(3, 3)
    compiled = len(traces)
    cut = after(1, 2, 2, 1)
    assert len(traces) == compiled > 0
    assert whole[0] == cut[0]
    for ours, theirs in zip(whole[1], cut[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
