"""What a checkpoint, a resume and eight devices in place of one cost training.

python -m benchmarks.checkpoint_cost --runs=3

Each run is a process of its own, on made-up embeddings. Printed are medians over runs:
how long a checkpoint keeps training waiting, what a resume adds to the start, and the
time of a step on one device and on eight virtual ones that share the same cores, at the
same global batch. Where the difference goes is measured by parts: the eight shares of a
batch one after the other on one device have all that each device repeats (nouns,
optimiser) but no exchange, and the mean of the gradients over the devices is timed by
itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mca_jax.alignment.losses import LossWeights, uniform_prior
from mca_jax.core.parallel import DATA_AXIS, data_mesh, default_mesh, over_devices
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.stages import TrainingSetup, build_setup
from mca_jax.training import TrainingData, fit
from mca_jax.training.checkpoints import Checkpointer
from mca_jax.training.epochs import shard_data

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent
_DEVICES = 8
_WIDTH, _CLUSTERS, _NOUNS, _NEAR = 256, 512, 2000, 20
_BATCH, _STEPS = 1024, 16
_SAVE_EVERY, _EPOCHS = 8, 4


class _Task(NamedTuple):
    """A training that is ready to go: a sharded made-up set, centres ``[k, d]``."""

    data: TrainingData
    centers: jax.Array
    config: Config
    setup: TrainingSetup


def _unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, _WIDTH), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _make_task(shares: int = 1) -> _Task:
    """Make a set of ``_STEPS`` batches, or of as many shares of batches."""
    rng = np.random.default_rng(0)
    batch = _BATCH // shares
    images = batch * _STEPS
    near = rng.random((images, _NEAR), np.float32)
    data = TrainingData(
        images=jnp.asarray(_unit(rng, images)),
        nouns=jnp.asarray(_unit(rng, _NOUNS)),
        image_neighbors=jnp.asarray(rng.integers(0, images, (images, _NEAR), np.int32)),
        noun_neighbors=jnp.asarray(rng.integers(0, _NOUNS, (images, _NEAR), np.int32)),
        noun_similarities=jnp.asarray(near),
    )
    settings = [f"train.batch_size={batch}", f"train.epochs={_EPOCHS}"]
    config = apply_overrides(Config(num_clusters=_CLUSTERS), settings)
    data = shard_data(data, default_mesh())
    centers = jnp.asarray(_unit(rng, _CLUSTERS))
    return _Task(data, centers, config, build_setup(data, config))


def _train(task: _Task, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Train with checkpoints, or resume; return the events of both."""
    events: list[tuple[str, dict[str, Any]]] = []
    losses = task.config.losses
    checkpoints = Checkpointer(
        folder,
        identity={},
        every_steps=_SAVE_EVERY,
        on_event=lambda event, values: events.append((event, values)),
    )
    fit(
        jax.random.key(0),
        task.setup.trainer,
        task.data,
        task.centers,
        weights=LossWeights(
            losses.instance, losses.prototype, losses.semantic, losses.balance
        ),
        prior=uniform_prior(_CLUSTERS),
        num_epochs=_EPOCHS,
        loss_tolerance=0.0,
        changed_tolerance=0.0,
        checkpointer=checkpoints,
    )
    return events


def _save_job(folder: Path) -> dict[str, float]:
    events = _train(_make_task(), folder)
    blocked = [values["blocked"] for event, values in events if event == "checkpoint"]
    last = max(path for path in folder.iterdir() if path.name.isdigit())
    files = [path.stat().st_size for path in last.rglob("*") if path.is_file()]
    # The first has to import Orbax.
    return {
        "first_blocked": blocked[0],
        "blocked": median(blocked[1:]),
        "most_blocked": max(blocked[1:]),
        "megabytes": sum(files) / 1e6,
    }


def _resume_job(folder: Path) -> dict[str, float]:
    events = _train(_make_task(), folder)
    (values,) = [values for event, values in events if event == "resume"]
    return {"resume": values["seconds"]}


def _step_job(shares: int) -> dict[str, float]:
    """Time a step, and the mean of the gradients where there are several devices."""
    task = _make_task(shares)
    trainer, losses = task.setup.trainer, task.config.losses
    data = trainer.shard(task.data)
    weights = LossWeights(
        *map(
            jnp.float32,
            (losses.instance, losses.prototype, losses.semantic, losses.balance),
        )
    )
    state = trainer.init(jax.random.key(0), task.centers)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        state, info = trainer.epoch(
            state, data, weights, uniform_prior(_CLUSTERS), _STEPS
        )
        jax.block_until_ready((state, info))
        seconds.append((time.perf_counter() - started) / _STEPS)
    found = {"step": shares * median(seconds[1:])}
    if jax.device_count() > 1:
        found["mean_of_gradients"] = _time_mean(state.params)
    return found


def _time_mean(params: Any) -> float:
    """Seconds that the devices take to average what has the shape of the weights."""

    def repeat(tree: Any) -> Any:
        return jax.lax.fori_loop(
            0, _STEPS, lambda _, each: jax.lax.pmean(each, DATA_AXIS), tree
        )

    run = over_devices(repeat, data_mesh(), split=(False,))
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        jax.block_until_ready(run(params))
        seconds.append((time.perf_counter() - started) / _STEPS)
    return median(seconds[1:])


def _run(job: str, folder: Path, devices: int = 1) -> dict[str, float]:
    """Run a job in a process of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.checkpoint_cost", job, f"--folder={folder}"],
        cwd=_ROOT,
        # XLA's pool of threads deadlocks with fewer threads than devices.
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags,
            "PJRT_NPROC": "16",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure() -> dict[str, float]:
    """Run every job once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoints"
        found = {**_run("save", folder), **_run("resume", folder)}
        found["step_1"] = _run("steps", folder)["step"]
        found["step_shares"] = _run("shares", folder)["step"]
        spread = _run("steps", folder, _DEVICES)
    found["step_8"], found["mean_of_gradients"] = (
        spread["step"],
        spread["mean_of_gradients"],
    )
    return found


def main() -> int:
    """Read the command line, run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    jobs = ("all", "save", "resume", "steps", "shares")
    parser.add_argument("job", nargs="?", default="all", choices=jobs)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job != "all":
        own = {
            "save": lambda: _save_job(options.folder),
            "resume": lambda: _resume_job(options.folder),
            "steps": lambda: _step_job(1),
            "shares": lambda: _step_job(_DEVICES),
        }
        print(json.dumps(own[options.job]()))
        return 0
    runs = [_measure() for _ in range(options.runs)]
    found = {name: median(run[name] for run in runs) for name in runs[0]}
    print(f"Medians of {options.runs} runs; checkpoint of {found['megabytes']:.1f} MB")
    for name, what in (
        ("blocked", "a checkpoint keeps training waiting"),
        ("most_blocked", "  the longest of a run"),
        ("first_blocked", "  the first, which imports Orbax"),
        ("resume", "a resume adds to the start"),
        ("step_1", f"a step of {_BATCH} images on one device"),
        ("step_shares", f"  in {_DEVICES} shares one after the other"),
        ("step_8", f"  on {_DEVICES} virtual devices"),
        ("mean_of_gradients", "    of it the mean of the gradients"),
    ):
        print(f"{1000 * found[name]:9.1f} ms  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
