"""Launchers as two processes over loopback: they end together, and resume together."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = (
    *("--num_clusters=2", "--set=train.epochs=150", "--set=train.loss_tolerance=0"),
    *("--set=train.changed_tolerance=0", "--set=checkpoint.every_steps=10"),
)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start(workdir, photos, *settings, images=None, port=None, timeout=120):
    """Start both processes of a run; ``images`` is what the second is told instead."""
    port = port or free_port()
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.cluster", *SETTINGS, *settings),
                f"--images={images if images and index else photos}",
                f"--workdir={workdir}",
                *(f"--coordinator=127.0.0.1:{port}", "--num_processes=2"),
                *(f"--process_id={index}", f"--join_timeout={timeout}"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "PJRT_NPROC": "16",
                # Much of a small run is compiling, and there are many.
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def finish(processes, timeout=300):
    """Wait for all; exit statuses and what each wrote to standard error."""
    try:
        told = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], told


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight small pictures, dark and bright, and a short vocabulary."""
    root = tmp_path_factory.mktemp("hosts")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 99, (48, 48, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"photos/{number}.png")
    (root / "nouns.txt").write_text("night\nday\nstone\nsnow\ncoal\nsky\n")
    return root


def options(photos):
    return photos / "photos", f"--set=semantics.vocabulary={photos / 'nouns.txt'}"


@pytest.mark.slow
def test_bad_input_on_one_host_ends_both(photos, tmp_path):
    folder, vocabulary = options(photos)
    missing = tmp_path / "elsewhere"
    began = time.monotonic()
    status, (first, second) = finish(
        start(tmp_path / "out", folder, vocabulary, images=missing)
    )
    assert status == [2, 2]
    reason = re.search(r"^Error: (.*elsewhere.*)$", second, re.MULTILINE)
    assert reason is not None, second
    line = f"Error: process 1 on {socket.gethostname()} failed: {reason[1]}"
    assert line in first.splitlines()
    # jax by itself notices after 100 seconds at the earliest.
    assert time.monotonic() - began < 90


def test_a_process_that_comes_alone_gives_up(photos, tmp_path):
    folder, vocabulary = options(photos)
    first, second = start(tmp_path / "out", folder, vocabulary, timeout=2)
    second.kill()
    second.communicate()
    status, (told,) = finish([first])
    assert status == [2]
    assert re.search(
        r"^Error: Can't join the other processes at 127\.0\.0\.1:\d+: not all of them "
        r"came within 2 s; start all",
        told,
        re.MULTILINE,
    )


def events(workdir, name):
    """Events of a kind in the log so far; the first process keeps it."""
    try:
        lines = (workdir / "log.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    # The last line may be half-written.
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in found if event["event"] == name]


def wait_for_checkpoints(workdir, processes, count):
    """Wait until so many more checkpoints were begun."""
    before = len(events(workdir, "checkpoint"))
    while len(events(workdir, "checkpoint")) < before + count:
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def results(workdir):
    """What a run has written but for its log, and what it keeps to go on from."""
    return {
        path.name: path.read_bytes()
        for path in workdir.iterdir()
        if path.is_file() and path.name != "log.jsonl"
    }


@pytest.mark.slow
def test_killed_and_stopped_processes_go_on_to_the_same_bits(photos, tmp_path):
    folder, vocabulary = options(photos)
    status, told = finish(start(tmp_path / "whole", folder, vocabulary))
    assert status == [0, 0], "\n".join(told)
    assert "Warning" not in "".join(told)

    workdir = tmp_path / "broken"
    processes = start(workdir, folder, vocabulary)
    wait_for_checkpoints(workdir, processes, 4)
    for process in processes:
        process.kill()
    assert finish(processes)[0] == [-signal.SIGKILL] * 2

    # A machine is about to be taken away: one process is told, both save and end.
    processes = start(workdir, folder, vocabulary)
    wait_for_checkpoints(workdir, processes, 2)
    processes[1].send_signal(signal.SIGTERM)
    status, told = finish(processes)
    assert status == [143, 143], "\n".join(told)
    kept = [re.search(r"training up to step (\d+) is kept", text) for text in told]
    assert all(kept), told
    assert kept[0][1] == kept[1][1]

    status, told = finish(start(workdir, folder, vocabulary))
    assert status == [0, 0], "\n".join(told)
    first, second = (event["step"] for event in events(workdir, "resume"))
    assert 10 <= first < second == int(kept[0][1])
    assert results(workdir) == results(tmp_path / "whole")
