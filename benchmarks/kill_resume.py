"""Kill training with SIGKILL at random moments, resume it, compare bit for bit.

python -m benchmarks.kill_resume --kills=10

Each kill has a job of its own: it is started, killed at a moment drawn evenly from
its training, and run again to the end. Weights, clusters and history must be those
of a job that nobody killed. Saving goes on most of the time, so that many kills hit
a checkpoint that is being written. Exit status 1 if any result differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["main", "run_kills"]

_ROOT = Path(__file__).resolve().parent.parent
_RESULT = "result.npz"


class _Events:
    """Prints what a job is doing, a line an event, for the parent to read."""

    def start(self, stage: str, total: int | None) -> None:
        print(f"stage {stage}", flush=True)

    def advance(self, count: int) -> None:
        pass

    def log(self, event: str, values: dict[str, Any]) -> None:
        if event in ("checkpoint", "resume"):
            print(f"{event} {values['step']}", flush=True)
        elif event == "warning":
            print(f"warning {values['text']}", flush=True)


def _run_job(folder: Path, *, checkpoints: bool) -> None:
    """Cluster made-up embeddings; write weights, clusters and history."""
    import jax

    import mca_jax

    rng = np.random.default_rng(7)
    axes = np.eye(16, dtype=np.float32)
    images = np.repeat(axes[:6], 60, axis=0)
    images += 0.2 * rng.standard_normal(images.shape, np.float32)
    nouns = np.concatenate([axes, rng.standard_normal((100, 16), np.float32)])
    images, nouns = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, nouns)
    )
    settings = [
        *("train.epochs=30", "train.batch_size=60", "checkpoint.every_steps=5"),
        *("train.loss_tolerance=0", "train.changed_tolerance=0"),
    ]
    result = mca_jax.cluster(
        image_embeddings=images,
        noun_embeddings=nouns,
        nouns=[f"noun {row}" for row in range(len(nouns))],
        num_clusters=6,
        config=mca_jax.apply_overrides(mca_jax.Config(), settings),
        checkpoint_dir=folder / "checkpoints" if checkpoints else None,
        callback=_Events(),
    )
    arrays = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(result.params)
    }
    rows = [list(row.items()) for row in result.history]
    arrays["assignments"] = result.assignments
    arrays["history"] = np.asarray([value for row in rows for _, value in row])
    np.savez(folder / _RESULT, **arrays)  # pyright: ignore[reportArgumentType]


class _Job(NamedTuple):
    """What a job printed, and how long it trained, to its end or to the kill."""

    lines: list[str]
    seconds: float


def _start(
    folder: Path, kill_after: float | None = None, *, checkpoints: bool = True
) -> _Job:
    """Run a job in a process of its own, to its end or to its kill."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.kill_resume", f"--job={folder}"]
    environment = {
        **os.environ,
        # Compiled once for all jobs, so that most of a job's time is training.
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    process = subprocess.Popen(
        command if checkpoints else [*command, "--no-checkpoints"],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    began = stopped = time.monotonic()
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == "stage Training":
            began = time.monotonic()
            if kill_after is not None:
                time.sleep(kill_after)
                process.kill()
        if lines[-1] == "stage Predicting":
            stopped = time.monotonic()
    _, errors = process.communicate()
    if kill_after is None and process.returncode != 0:
        raise RuntimeError(f"A job failed: {errors}")
    return _Job(lines, stopped - began)


def _differences(folder: Path, reference: Path) -> list[str]:
    """Names of the arrays that are not the same bit for bit."""
    with np.load(folder / _RESULT) as ours, np.load(reference / _RESULT) as theirs:
        return [
            name
            for name in sorted({*ours, *theirs})
            if name not in ours
            or name not in theirs
            or ours[name].dtype != theirs[name].dtype
            or ours[name].tobytes() != theirs[name].tobytes()
        ]


def _found(folder: Path) -> str:
    """What a kill left behind."""
    steps = sorted((folder / "checkpoints").glob("*/train/[0-9]*"))
    if not steps:
        return "before the first checkpoint"
    if not (steps[-1] / "manifest.json").exists():
        return f"during checkpoint {int(steps[-1].name)}"
    return f"after checkpoint {int(steps[-1].name)}"


def run_kills(folder: Path, kills: int, seed: int) -> int:
    """Kill and resume in an empty folder; print a line for each.

    Returns:
      How many jobs ended with another result than the one that was not killed.
    """
    rng = np.random.default_rng(seed)
    # The first compiles for the others.
    _start(folder / "warm", checkpoints=False)
    seconds = _start(folder / "whole").seconds
    print(f"Training takes {seconds:.1f} s; {kills} jobs are killed in it")
    failed = len(_differences(folder / "whole", folder / "warm"))
    if failed:
        print("A run with checkpoints differs from one without")
    for number in range(kills):
        job = folder / f"job-{number}"
        moment = float(rng.uniform(0, seconds))
        _start(job, moment)
        left = _found(job) if not (job / _RESULT).exists() else "after the end"
        again = _start(job)
        resumed = [line for line in again.lines if line.startswith("resume")]
        different = _differences(job, folder / "warm")
        failed += bool(different)
        print(
            f"Kill {number + 1} at {moment:.2f} s, {left}: "
            f"{resumed[0] if resumed else 'starts anew'}, "
            + (f"DIFFERENT: {', '.join(different)}" if different else "equal"),
            flush=True,
        )
    return failed


def main() -> int:
    """Read the command line and run; exit status 1 if results differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-checkpoints", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        _run_job(options.job, checkpoints=not options.no_checkpoints)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        failed = run_kills(Path(folder), options.kills, options.seed)
    print("All equal" if not failed else f"{failed} DIFFERENT")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
