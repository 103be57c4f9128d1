"""Whole jobs that are killed or lose their disk, file handles or memory."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

__all__ = ["LIMITS", "Report", "run_kills", "run_limits"]

_IMAGES = 40
_NOUNS = "cat boat tree lamp rose car dog hat house bird fish chair table horse sheep"
# Half a minute on a quiet machine, and machines are not always quiet.
_MOST_SECONDS = 900.0
_MOST_KILLS = 4
_POLL_SECONDS = 0.02
_PRELOAD = ("mca_jax.pipeline.command_line.runs", "mca_jax.pipeline.cluster")
# What a run doesn't promise to write again byte for byte.
_APART = {"log.jsonl", "checkpoints", "embeddings"}


class Report(NamedTuple):
    """What was tried and what came of it.

    Attributes:
      tried: Number of faults.
      outcomes: How many ended how.
      defects: What should not have been, a line each.
    """

    tried: int
    outcomes: Counter[str]
    defects: list[str]


class _Bench(NamedTuple):
    """Where jobs run.

    Attributes:
      folder: Holds the pictures, and a folder for each job.
      expected: Digestible content of each file of a job that nobody disturbed.
      seconds: Processor time of such a job.
    """

    folder: Path
    expected: dict[str, bytes]
    seconds: float


class _Ended(NamedTuple):
    """How a process ended.

    Attributes:
      status: Exit status, below 0 for a signal, None if it hung and was ended.
      text: What it printed.
      seconds: Processor time that it took.
      peak_mib: Most memory that it held.
    """

    status: int | None
    text: str
    seconds: float
    peak_mib: int


def _make_pictures(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "in").mkdir()
    for row in range(_IMAGES):
        pixels = random.normal(0, 20, (48, 48, 3))
        pixels[..., row % 3] += 200
        pixels[:: row % 4 + 2] += 60
        content = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        content.save(folder / "in" / f"p{row:02}.png")
    (folder / "nouns.txt").write_text("\n".join(_NOUNS.split()))
    # A folder that was made this second may change again without a new time.
    time.sleep(2.1)


def _arguments(folder: Path, job: Path) -> list[str]:
    settings = (
        *("train.epochs=12", "train.batch_size=20", "checkpoint.every_steps=4"),
        *("train.loss_tolerance=0", "train.changed_tolerance=0"),
        f"semantics.vocabulary={folder / 'nouns.txt'}",
    )
    return [
        *("cluster", f"--images={folder / 'in'}", "--num_clusters=3"),
        *(f"--workdir={job / 'out'}", *(f"--set={each}" for each in settings)),
    ]


def _run(arguments: Sequence[str], job: str) -> None:
    """Be the command, in a process of its own that has imported it already."""
    # A pipe: a file could not grow either on a full disk.
    pipe = os.open(f"{job}/printed", os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(pipe, descriptor)
    os.close(pipe)
    os.environ["MCA_JAX_CACHE"] = f"{job}/cache"
    from mca_jax.pipeline.command_line.main import main

    sys.exit(main(arguments))


class _Job(NamedTuple):
    """A process, and the end of a pipe on which its words come."""

    process: BaseProcess
    printed: int


def _start(folder: Path, job: Path) -> _Job:
    job.mkdir(exist_ok=True)
    if not (job / "printed").exists():
        os.mkfifo(job / "printed")
    printed = os.open(job / "printed", os.O_RDONLY | os.O_NONBLOCK)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    process = context.Process(target=_run, args=(_arguments(folder, job), str(job)))
    process.start()
    return _Job(process, printed)


def _processor_seconds(pid: int) -> float:
    """Processor time of a process so far, which other load doesn't stretch."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _memory_mib(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) >> 10
    return 0


def _read(pipe: int) -> bytes:
    """What has come since the last call."""
    with contextlib.suppress(BlockingIOError):
        return os.read(pipe, 2**20)
    return b""


def _follow(
    job: _Job,
    moment: float = float("inf"),
    act: Callable[[int], None] | None = None,
) -> _Ended:
    """Wait for a process; do something to it once it has used so much time."""
    process = job.process
    pid = process.pid or 0
    text, peak = b"", 0
    began, first, used = time.monotonic(), _processor_seconds(pid), 0.0
    while process.is_alive() and time.monotonic() - began < _MOST_SECONDS:
        used = max(used, _processor_seconds(pid) - first)
        peak = max(peak, _memory_mib(pid, "VmHWM"))
        text += _read(job.printed)
        if act is not None and used >= moment:
            act(pid)
            act = None
        time.sleep(_POLL_SECONDS)
    hung = process.is_alive()
    if hung:
        process.kill()
    process.join()
    text += _read(job.printed)
    os.close(job.printed)
    status = None if hung else process.exitcode
    return _Ended(status, text.decode(errors="replace"), used, peak)


def _outputs(job: Path) -> dict[str, bytes]:
    """Files of a job by their paths, but for those that tell the time."""
    out = job / "out"
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_file() and not _APART & set(name.parts):
            found[name.as_posix()] = path.read_bytes()
    return found


def _compare(bench: _Bench, job: Path) -> list[str]:
    """Say what is not as in a job that nobody disturbed."""
    found, wrong = _outputs(job), []
    for name in sorted({*found, *bench.expected}):
        if found.get(name) != bench.expected.get(name):
            state = "another" if name in found else "missing"
            state = state if name in bench.expected else "left over"
            wrong.append(f"{name} is {state}")
    strangers = {path.name for path in job.iterdir()} - {"out", "printed", "cache"}
    return wrong + [f"{name} lies outside the workdir" for name in sorted(strangers)]


def _prepare(folder: Path) -> _Bench:
    """Make the pictures, and the files that all jobs should write."""
    os.environ |= {
        # Compiled once for all jobs; threads of BLAS that wait use a processor.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore:os.fork() was called:RuntimeWarning",
    }
    _make_pictures(folder)
    bench = _Bench(folder, {}, 0.0)
    for name in ("first", "second"):
        ended = _follow(_start(folder, folder / name))
        if ended.status:
            raise RuntimeError(f"An undisturbed job failed: {ended.text}")
        if bench.expected and _compare(bench, folder / name):
            raise RuntimeError("Two undisturbed jobs write different files")
        # The first compiles.
        bench = _Bench(folder, _outputs(folder / name), ended.seconds)
    return bench


def _last_stage(job: Path) -> str:
    """The stage that a job had finished last, by its log."""
    stage = "start"
    with contextlib.suppress(OSError):
        for line in (job / "out" / "log.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                named = {"stage": event.get("stage"), "epoch": "an epoch"}
                named |= {"checkpoint": "a checkpoint", "end": "the end"}
                stage = named.get(event["event"], stage)
    return f"after {stage}" if stage != "start" else "before any stage"


def _finish(bench: _Bench, job: Path, label: str) -> tuple[list[str], int]:
    """Run a job to its end, undisturbed; say what is wrong with what it leaves."""
    ended = _follow(_start(bench.folder, job))
    wrong = [] if ended.status == 0 else [f"ends with {ended.status}: {ended.text}"]
    wrong += ["shows a traceback"] * ("Traceback" in ended.text)
    wrong += _compare(bench, job) if ended.status == 0 else []
    shutil.rmtree(job, ignore_errors=not wrong)
    return [f"{label}: the next run {each}" for each in wrong], ended.peak_mib


def run_kills(folder: Path, kills: int, seed: int) -> Report:
    """Kill jobs with SIGKILL, each up to four times, and let each end in the end.

    Args:
      folder: An empty folder.
      kills: How often.
      seed: Draws the moments.
    """
    random = np.random.default_rng(seed)
    bench = _prepare(folder)
    print(f"A job takes {bench.seconds:.1f} s of a processor", flush=True)
    outcomes: Counter[str] = Counter()
    defects: list[str] = []
    done = number = peak = 0
    while done < kills:
        job = folder / f"killed-{number}"
        label = f"job {number}"
        number += 1
        for _ in range(min(int(random.integers(1, _MOST_KILLS + 1)), kills - done)):
            moment = float(random.uniform(0, bench.seconds))
            started = _start(folder, job)
            ended = _follow(started, moment, lambda pid: os.kill(pid, signal.SIGKILL))
            if ended.status != -signal.SIGKILL:
                # A job that goes on takes less time than a whole one.
                outcomes["ended before its kill"] += 1
                continue
            done += 1
            outcomes[_last_stage(job)] += 1
            label += f", {moment:.2f} s"
        wrong, used = _finish(bench, job, label)
        peak = max(peak, used)
        defects += wrong
        print(f"{done} kills, {len(defects)} defects, {peak} MiB", flush=True)
    return Report(done, outcomes, defects)


def _limit_files(random: np.random.Generator, pid: int) -> None:
    """No file may grow beyond some size, between nothing and a MiB."""
    most = int(2 ** random.uniform(0, 20))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def _limit_handles(random: np.random.Generator, pid: int) -> None:
    """A few more file handles than are open, or none at all."""
    most = len(os.listdir(f"/proc/{pid}/fd")) + int(random.integers(-4, 5))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def _limit_memory(random: np.random.Generator, pid: int) -> None:
    """Not much more addresses than are in use."""
    most = _memory_mib(pid, "VmSize") + int(random.integers(0, 256))
    resource.prlimit(pid, resource.RLIMIT_AS, (most << 20, most << 20))


LIMITS = {
    "disk": _limit_files,
    "file handles": _limit_handles,
    "memory": _limit_memory,
}
"""What takes a resource from a process, by the name of the resource."""


def _judge(ended: _Ended, resource_name: str) -> tuple[str, list[str]]:
    """Name an outcome, and what is wrong with it."""
    wrong = ["shows a traceback"] * ("Traceback" in ended.text)
    lines = ended.text.strip().splitlines() or [""]
    if ended.status is None:
        return "hangs", [*wrong, "hangs"]
    if ended.status == 0:
        return "ends well", wrong
    if ended.status == 2:
        told = any(line.startswith("Error: ") for line in lines)
        return "one line", [*wrong, *([] if told else [f"says {lines[-1]!r}"])]
    if ended.status < 0 and resource_name == "memory":
        # Below Python nobody asks: XLA ends the process.
        return "ended by a native library", wrong
    return f"status {ended.status}", [*wrong, f"ends with {ended.status}: {lines[-1]}"]


def run_limits(folder: Path, name: str, tries: int, seed: int) -> Report:
    """Take disk, file handles or memory from jobs at random moments; run them again.

    Args:
      folder: An empty folder.
      name: What is taken: ``"disk"``, ``"file handles"`` or ``"memory"``.
      tries: How often.
      seed: Draws the moments and how much is left.
    """
    random = np.random.default_rng(seed)
    bench = _prepare(folder)
    outcomes: Counter[str] = Counter()
    defects: list[str] = []
    for number in range(tries):
        job = folder / f"limited-{number}"
        moment = float(random.uniform(0, bench.seconds))
        label = f"{name} {number} at {moment:.2f} s"
        limit = LIMITS[name]

        def act(pid: int, limit: Callable[..., None] = limit) -> None:
            with contextlib.suppress(OSError):
                limit(random, pid)

        ended = _follow(_start(folder, job), moment, act)
        outcome, wrong = _judge(ended, name)
        outcomes[outcome] += 1
        if wrong:
            defects += [f"{label} {_last_stage(job)}: {each}" for each in wrong]
            (folder / f"said-{number}.txt").write_text(ended.text)
        wrong, _ = _finish(bench, job, label)
        defects += wrong
        print(f"{label}: {outcome}; {len(defects)} defects", flush=True)
    return Report(tries, outcomes, defects)
