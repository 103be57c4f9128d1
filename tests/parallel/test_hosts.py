"""Two processes over loopback do the whole job and give what one gives."""

import csv
import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.core.parallel import hosts, is_first_host, join_hosts, on_first_host
from mca_jax.core.parallel.shares import share_of

SCRIPT = Path(__file__).with_name("one_host.py")
WORK = Path(__file__).with_name("work_of_host.py")
SETTINGS = ("train.epochs=2", "train.batch_size=50", "retrieval.kmeans_restarts=2")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def run(folder, num_processes, devices, *settings, script=SCRIPT):
    """Run all processes of a job; their folders of results."""
    port = free_port()
    root = SCRIPT.parents[2]
    if script is SCRIPT:
        settings = (*SETTINGS, *settings)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    children = [
        subprocess.Popen(
            [sys.executable, str(script)]
            + [str(x) for x in (process, num_processes, port, folder, devices)]
            + [*settings],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(num_processes)
    ]
    try:
        outputs = [child.communicate(timeout=600)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    for child, output in zip(children, outputs, strict=True):
        assert child.returncode == 0, output[-3000:]
    return [folder / f"out-{num_processes}-{i}" for i in range(num_processes)]


@pytest.fixture
def embeddings(tmp_path):
    """203 images in four groups, a few nouns near each, and noise."""
    random = np.random.default_rng(0)
    axes = np.eye(16)[:4]
    images = np.repeat(axes, 51, axis=0)[:203] + 0.2 * random.normal(size=(203, 16))
    near = np.repeat(axes, 5, axis=0) + 0.1 * random.normal(size=(20, 16))
    nouns = np.concatenate([near, random.normal(size=(21, 16))])
    for name, rows in (("images", images), ("nouns", nouns)):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(tmp_path / f"{name}.npy", rows.astype(np.float32))
    return tmp_path


def read_table(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def identity(folder):
    """What a run's newest checkpoint belongs to."""
    path = max(folder.glob("*/train/*/manifest.json"))
    return json.loads(path.read_text())["identity"]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(embeddings):
    (alone,) = run(embeddings, 1, 1)
    # The second has no more of the file than the rows of its devices: 51 for each of
    # four. The first has all, for it writes them with the results.
    images = np.load(embeddings / "images.npy")
    images[:102] = np.nan
    np.save(embeddings / "images-1.npy", images)
    first, second = run(embeddings, 2, 2)
    assert identity(embeddings / "checkpoints-2") == identity(
        embeddings / "checkpoints-1"
    )
    assert os.listdir(second) == ["assignments.npy"]
    for one, other in zip(
        read_table(alone / "assignments.csv"),
        read_table(first / "assignments.csv"),
        strict=True,
    ):
        assert one["cluster_name"] == other["cluster_name"]
        assert float(one["confidence"]) == pytest.approx(
            float(other["confidence"]), abs=1e-5
        )
    metrics, expected = (
        json.loads((folder / "metrics.json").read_text())["label_free"]
        for folder in (first, alone)
    )
    # The exponent is the slope of a few points and magnifies their rounding.
    metrics.pop("rate_exponent"), expected.pop("rate_exponent")
    assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-5)
    found, weights = (np.load(folder / "weights.npz") for folder in (first, alone))
    for name in weights.files:
        np.testing.assert_allclose(found[name], weights[name], rtol=1e-4, atol=2e-5)
    np.testing.assert_array_equal(
        np.load(second / "assignments.npy"), np.load(first / "assignments.npy")
    )
    assert (first / "report.html").stat().st_size > 1000


@pytest.mark.slow
def test_a_set_on_two_hosts_that_fits_no_device(embeddings):
    settings = "train.memory_budget_gib=1e-9", "retrieval.exact_up_to=100"
    (alone,) = run(embeddings, 1, 1, *settings)
    first, _ = run(embeddings, 2, 2, *settings)
    metrics, expected = (
        json.loads((folder / "metrics.json").read_text())["label_free"]
        for folder in (first, alone)
    )
    assert metrics["neighbor_recall"] == expected["neighbor_recall"]
    np.testing.assert_array_equal(
        np.load(first / "assignments.npy"), np.load(alone / "assignments.npy")
    )
    found, weights = (np.load(folder / "weights.npz") for folder in (first, alone))
    for name in weights.files:
        np.testing.assert_allclose(found[name], weights[name], rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_two_processes_share_the_work_on_a_set_of_the_host(embeddings):
    os.rename(embeddings / "images.npy", embeddings / "table.npy")
    (alone,) = run(embeddings, 1, 1, script=WORK)
    for folder in run(embeddings, 2, 2, script=WORK):
        with (
            np.load(alone / "found.npz") as expected,
            np.load(folder / "found.npz") as found,
        ):
            np.testing.assert_array_equal(
                found["back"], np.load(embeddings / "table.npy")
            )
            np.testing.assert_array_equal(
                found["picked"], found["back"][[202, 0, 7, 7]]
            )
            # Of both, in their order, and no rounding to float32 on the way.
            np.testing.assert_array_equal(
                found["sum"], expected["sum"] + 2 * expected["sum"]
            )
            for name in ("hash", "near", "groups", "probed", "assigned", "recall"):
                np.testing.assert_array_equal(found[name], expected[name], name)
            for name in ("axes", "cosines", "objective"):
                np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.parametrize(
    ("hosts", "devices"), [(1, 1), (2, 2), (2, 8), (3, 12), (2, 3)]
)
@pytest.mark.parametrize("count", [0, 1, 10, 203, 1000])
def test_every_row_is_one_host_s(count, hosts, devices):
    found = [share_of(count, host, hosts, devices) for host in range(hosts)]
    assert [row for share in found for row in share] == list(range(count))
    if devices % hosts == 0:
        # What the devices get of a table that is filled up to a multiple of them.
        size = -(-count // devices) * devices // hosts
        assert all(len(share) <= size for share in found)


def test_a_process_alone_joins_nobody(monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES", raising=False)
    join_hosts()
    assert is_first_host()
    assert on_first_host(lambda: 7) == 7


@pytest.fixture
def joined(monkeypatch):
    """What jax is asked to join, in an environment of nobody's."""
    given = []
    for name in (*os.environ,):
        if name.startswith(("SLURM", "TPU", "JAX_PLATFORMS", "JAX_LOCAL_DEVICE_IDS")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda *args, **more: given.append(more["local_device_ids"]),
    )
    return given


@pytest.mark.parametrize(
    ("tasks", "gpus", "devices"),
    [
        # Under SLURM jax takes one GPU a process, unless it is told which.
        ("1(x2)", "8", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("1,2", "4", [None]),
        ("8(x2)", "8", [None]),
        ("1(x2)", "", [None]),
    ],
)
def test_the_one_process_of_a_slurm_node_takes_its_gpus(
    joined, monkeypatch, tasks, gpus, devices
):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", gpus)
    join_hosts()
    assert joined == devices


def test_workers_of_a_tpu_slice_are_joined(joined, monkeypatch):
    # Kubernetes names them all; on a TPU VM it takes jax to ask.
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    join_hosts()
    assert joined == []
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    join_hosts()
    assert joined == [None]
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES")
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY")
    found = types.SimpleNamespace(find_spec=lambda name: name == "libtpu" or None)
    monkeypatch.setattr(hosts.importlib, "util", found)
    join_hosts()
    assert joined == [None, None]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    join_hosts()
    assert joined == [None, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:1", 2, None), "together, found no --process_id$"),
        ((None, None, 0), "found no --coordinator and no --num_processes"),
        (("a", 2, 0), "--coordinator as host:port, found 'a'"),
        (("a:1", 0, 0), "--num_processes at least 1, found 0"),
        (("a:1", 2, 2), "--process_id between 0 and 1, found 2"),
    ],
)
def test_half_a_group_of_processes_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        join_hosts(*given)
