"""Training that survives: resumed bit for bit, damage named, nothing lost."""

import os
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small_training import (
    NUM_STEPS,
    assert_same_run,
    make_data,
    make_trainer,
    run,
)

from mca_jax import training
from mca_jax.core.errors import InputError
from mca_jax.core.interrupts import Interrupted
from mca_jax.training.checkpoints import Checkpointer
from mca_jax.training.manifest import MANIFEST_FILE

IDENTITY = {"settings": {"seed": 0, "losses": {"instance": 1.0}}, "data": "abc"}


@pytest.fixture(scope="module")
def job():
    """Key, compiled trainer and data, and the run without a break."""
    key = jax.random.key(0)
    trainer, data = make_trainer(), make_data(key)
    return key, trainer, data, run(key, trainer, data)


class Events(list):
    """Events in their order; may send a signal at one of them."""

    def __init__(self, signum=None, at_step=None):
        super().__init__()
        self.signum, self.at_step = signum, at_step

    def __call__(self, event, values):
        self.append((event, values))
        if event == "checkpoint" and values["step"] == self.at_step:
            os.kill(os.getpid(), self.signum)

    def texts(self):
        return [values["text"] for event, values in self if event == "warning"]

    def resumed(self):
        return [values["step"] for event, values in self if event == "resume"]


def checkpoints(folder, events, **options):
    options = {"identity": IDENTITY, "every_steps": 2, **options}
    return Checkpointer(folder, on_event=events, **options)


def stopped(job, folder, at_step=8, signum=signal.SIGTERM, **options):
    """Run until a signal comes with the checkpoint of a step."""
    key, trainer, data, *_ = job
    kept = checkpoints(folder, Events(signum, at_step), **options)
    with pytest.raises(Interrupted) as caught:
        run(key, trainer, data, checkpointer=kept)
    return caught.value


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.mark.parametrize(
    ("signum", "at_step"),
    [(signal.SIGTERM, 4), (signal.SIGINT, 6)],
    ids=["in an epoch", "after an epoch"],
)
def test_a_run_resumes_bit_for_bit(job, tmp_path, signum, at_step):
    key, trainer, data, whole = job
    error = stopped(job, tmp_path / "kept", at_step, signum)
    assert error.signum == signum
    assert error.__notes__ == [f"training up to step {at_step} is kept"]
    events, rows = Events(), []
    again = run(
        key,
        trainer,
        data,
        checkpointer=checkpoints(tmp_path / "kept", events),
        on_epoch=rows.append,
    )
    assert events.resumed() == [at_step]
    assert events.texts() == []
    assert_same_run(again, whole)
    # Only epochs of this process are reported.
    assert rows == list(whole.history[at_step // 3 :])


def test_a_finished_run_is_not_run_again(job, tmp_path):
    key, trainer, data, whole = job
    first = run(key, trainer, data, checkpointer=checkpoints(tmp_path, Events()))
    assert_same_run(first, whole)
    events = Events()
    second = run(key, trainer, data, checkpointer=checkpoints(tmp_path, events))
    assert events.resumed() == [NUM_STEPS]
    assert [event for event, _ in events] == ["resume"]
    assert_same_run(second, whole)


def test_an_unhandled_signal_is_python_s_again(job, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    stopped(job, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def largest(folder):
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / MANIFEST_FILE).unlink(), "is half-written"),
        (lambda folder: flip(folder / MANIFEST_FILE), "is damaged: manifest.json"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("[]"), "is damaged"),
        (lambda folder: flip(largest(folder)), "is not what was written"),
        (lambda folder: largest(folder).write_bytes(b""), "is not what was written"),
        (lambda folder: largest(folder).unlink(), "is missing"),
    ],
    ids=["unsealed", "manifest", "no manifest", "flipped bit", "empty", "gone"],
)
def test_damage_is_named_and_the_one_before_is_used(job, tmp_path, damage, words):
    key, trainer, data, whole = job
    stopped(job, tmp_path)
    assert steps(tmp_path)[-2:] == [6, 8]
    damage(tmp_path / "00000008")
    events = Events()
    again = run(key, trainer, data, checkpointer=checkpoints(tmp_path, events))
    (text,) = events.texts()
    assert "00000008" in text
    assert words in text
    assert text.endswith("; step 6 is used")
    assert events.resumed() == [6]
    assert_same_run(again, whole)


def test_when_all_are_damaged_training_starts_anew(job, tmp_path):
    key, trainer, data, whole = job
    stopped(job, tmp_path)
    for folder in list(tmp_path.iterdir()):
        shutil.rmtree(folder / "state")
    events = Events()
    again = run(key, trainer, data, checkpointer=checkpoints(tmp_path, events))
    assert len(events.texts()) == 2 + (0 not in (6, 8))
    assert all(text.endswith("; training starts anew") for text in events.texts())
    assert events.resumed() == []
    assert_same_run(again, whole)


def test_another_configuration_is_refused_with_what_differs(job, tmp_path):
    key, trainer, data, _ = job
    stopped(job, tmp_path)
    other = {**IDENTITY, "settings": {"seed": 1, "losses": {"instance": 1.0}}}
    kept = checkpoints(tmp_path, Events(), identity=other)
    with pytest.raises(InputError, match=r"settings\.seed is 0 there and 1 now"):
        run(key, trainer, data, checkpointer=kept)
    assert 8 in steps(tmp_path)


def test_how_often_and_how_many_may_change(job, tmp_path):
    key, trainer, data, whole = job
    stopped(job, tmp_path)
    events = Events()
    kept = checkpoints(tmp_path, events, every_steps=0, every_epochs=1, keep=5)
    assert_same_run(run(key, trainer, data, checkpointer=kept), whole)
    assert events.resumed() == [8]
    assert [v["step"] for event, v in events if event == "checkpoint"] == [9, 12]


def snapshot(step, shard=lambda tree: tree):
    """A small snapshot whose numbers follow from its step."""
    params = {"w": jnp.full((4, 3), 0.1 * step), "b": jnp.arange(8.0)}
    state = training.TrainState(
        step=jnp.int32(step),
        key=jax.random.key(step),
        params=params,
        opt_state=training.build_optimizer(learning_rate=1e-3, total_steps=9).init(
            params
        ),
        prototypes=jnp.ones((2, 3)),
        first_loss=jnp.float32(1.5),
    )
    monitor = training.Monitor(
        np.full((6, 8), step, np.float32),
        np.ones(6, np.float32),
        np.ones(2),
        np.zeros(2),
    )
    state, params = shard((state, jax.tree.map(jnp.copy, params)))
    return training.Snapshot(state, params, monitor)


def values(tree):
    return [
        np.asarray(jax.random.key_data(x))
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        else np.asarray(x)
        for x in jax.tree.leaves(tree)
    ]


def assert_same_values(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(values(one), values(other), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_the_last_few_and_the_best_are_kept(tmp_path):
    kept = checkpoints(tmp_path, Events(), keep=2)
    for step, score in [(1, 3.0), (2, 0.5), (3, 1.0), (4, 2.0), (5, 0.7)]:
        kept.save(snapshot(step), score)
    assert kept.wait() == 5
    assert steps(tmp_path) == [2, 4, 5]
    assert kept.kept == {2: 0.5, 4: 2.0, 5: 0.7}
    reopened = checkpoints(tmp_path, Events(), keep=2)
    assert_same_values(reopened.restore(snapshot(0)), snapshot(5))
    assert reopened.kept == kept.kept


def replicated(num_devices):
    mesh = jax.make_mesh(
        (num_devices,),
        ("data",),
        axis_types=(AxisType.Auto,),
        devices=jax.devices()[:num_devices],
    )
    return NamedSharding(mesh, PartitionSpec())


def test_from_four_devices_to_one_to_eight(tmp_path):
    places = [replicated(count) for count in (4, 1, 8)]
    found = snapshot(3, lambda tree: jax.device_put(tree, places[0]))
    for number, place in enumerate(places):
        kept = checkpoints(tmp_path / str(number), Events())
        kept.save(found, 1.0)
        kept.wait()
        follow = places[(number + 1) % 3]
        template = snapshot(0, lambda tree, to=follow: jax.device_put(tree, to))
        found = kept.restore(template)
        assert_same_values(found, snapshot(3))
        for leaf in jax.tree.leaves(found.state):
            assert leaf.sharding.is_equivalent_to(follow, leaf.ndim)
        del place


@pytest.mark.slow
def test_a_run_moves_from_four_devices_to_one_to_eight(job, tmp_path):
    key, _, data, whole = job
    stopped((key, make_trainer(num_devices=4), data), tmp_path, 4)
    stopped(job, tmp_path, 8)
    events = Events()
    eight = make_trainer(num_devices=8)
    moved = run(key, eight, data, checkpointer=checkpoints(tmp_path, events))
    assert events.resumed() == [8]
    assert events.texts() == []
    # Sums over devices are added in another order. Where a gradient is next to
    # nothing Adam makes a step of the last bits: allowed is a tenth of one step,
    # while a moment that got lost would cost several.
    for ours, theirs in zip(
        jax.tree.leaves(moved.params), jax.tree.leaves(whole.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(moved.assignments, whole.assignments)
    losses = [[row["loss"] for row in run.history] for run in (moved, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_full_disk_loses_nothing_earlier_and_is_reported(tmp_path):
    events = Events()
    kept = checkpoints(tmp_path, events)
    kept.save(snapshot(2), 1.0)
    kept.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to write on, as it does where a disk is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        kept.save(snapshot(4), 0.5)
        assert kept.wait() == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (text,) = events.texts()
    assert "00000004" in text
    assert "File too large" in text
    assert text.endswith("; step 2 is kept, and training continues")
    assert "\n" not in text
    assert steps(tmp_path) == [2]
    # And with room again it works again.
    kept.save(snapshot(6), 0.5)
    assert kept.wait() == 6
    assert_same_values(checkpoints(tmp_path, events).restore(snapshot(0)), snapshot(6))


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path):
    kept = checkpoints(tmp_path, Events())
    kept.save(snapshot(2), 1.0)
    kept.wait()
    other = snapshot(0)
    params = {**other.pass_params, "w": jnp.ones((5, 3))}
    differs = r"arrays\.pass_params\.w is \"float32\[4, 3\]\" there and \"float32\[5, 3"
    with pytest.raises(InputError, match=differs):
        kept.restore(other._replace(pass_params=params))


@pytest.mark.parametrize("setting", ["every_steps", "every_epochs", "keep"])
def test_numbers_out_of_range(tmp_path, setting):
    with pytest.raises(InputError, match=rf"checkpoint\.{setting}"):
        Checkpointer(tmp_path, identity={}, **{setting: -1})


def test_when_a_checkpoint_is_due(tmp_path):
    kept = Checkpointer(tmp_path, identity={}, every_steps=4, every_epochs=2)
    due = [step for step in range(1, 13) if kept.due(step, 3)]
    assert due == [4, 6, 8, 12]
    assert [kept.steps_until_due(step, 3) for step in range(7)] == [4, 3, 2, 1, 2, 1, 2]
    never = Checkpointer(tmp_path, identity={}, every_steps=0)
    assert not never.due(4, 3)
    assert never.steps_until_due(4, 3) > 10**9
