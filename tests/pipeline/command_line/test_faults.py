"""Faults on purpose, in a short form: bad command lines and damaged files of a run."""

import json
import shutil
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from command import run_command
from small_runs import small_run

import mca_jax
from mca_jax.encoders.cache.file_index import FileIndex
from mca_jax.pipeline.command_line import terminal
from mca_jax.pipeline.command_line.terminal import run_job


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "run"
    small_run().save(folder)
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "update",
        "update --run=none",
        "update --run={run} --images=none",
        "update --run={run} --num_clusters=3",
        "update --run={run} --outlier_quantile=many",
        "update {run}",
        "predict --run={run}",
        "predict --run={run} --images=none --workdir=out",
        "predict --run=none --images=none --workdir=out",
        "predict --run={run} --images={run} --workdir={run}",
        "export --run={run} --workdir=out --formats=",
        "export --run={run} --workdir=out --formats=csv,excel",
        "export --run={run} --workdir=out --formats=links",
        "export --run={run} --workdir={run}/model.json",
        "evaluate --run={run}",
        "evaluate --run={run} --labels=names",
        "cluster --images= --num_clusters=2 --workdir=out",
        "cluster --images={run} --num_clusters=2.5 --workdir=out",
        "cluster --images={run} --num_clusters=2",
        "cluster --images={run}/model.json --num_clusters=2 --workdir=out",
        "cluster --images={run} --num_clusters=2 --workdir=out --seed=-1",
        "cluster --images={run} --num_clusters=2 --workdir=out --seed=x",
        "cluster --images={run} --num_clusters=2 --workdir=out --set=a",
        "cluster --images={run} --num_clusters=2 --workdir=out --config={run}",
        "cluster --images={run} --dataset=cifar10 --num_clusters=2 --workdir=out",
        "train --num_clusters=2 --workdir=out",
        "embed --images=\\ud800 --workdir=out",
        "embed --workdir=out",
        "clutser",
        "--run={run}",
    ],
)
def test_a_bad_command_line_is_one_line(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        word.replace("{run}", str(run)).replace("\\ud800", "\ud800")
        for word in line.split()
    ]
    done = run_command(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out/*.csv"))


def mutations(content, random):
    """A file with one byte changed, cut off, doubled, emptied, or of another kind."""
    for _ in range(4):
        changed = bytearray(content)
        place = int(random.integers(len(content)))
        changed[place] ^= int(random.integers(1, 256))
        yield bytes(changed)
    yield content[: int(random.integers(len(content)))]
    yield content + content
    yield b""
    yield b"\0" * len(content)
    yield json.dumps({"format": [], "content": None}).encode()


@pytest.mark.parametrize(
    "name", ["model.json", "model.safetensors", "result.json", "result.safetensors"]
)
def test_a_damaged_run_is_refused_by_the_name_of_the_file(run, tmp_path, name):
    whole = (run / name).read_bytes()
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for content in mutations(whole, np.random.default_rng(0)):
        (folder / name).write_bytes(content)
        with pytest.raises(mca_jax.InputError) as caught:
            mca_jax.load_result(folder)
        assert "\n" not in str(caught.value)
    # Whatever the last run is like, a new one is not kept from the folder.
    (folder / name).write_bytes(whole)
    assert mca_jax.load_result(folder).paths == small_run().paths


def test_a_damaged_list_of_files_counts_as_none(tmp_path):
    path = tmp_path / "files.index"
    index = FileIndex(path)
    assert not index.damaged
    from mca_jax.data import FileIdentity

    index.record("/a.jpg", FileIdentity(1, 2, 3, 4), b"d" * 32)
    content = index.changed_content()
    for damaged in mutations(content, np.random.default_rng(1)):
        path.write_bytes(damaged)
        found = FileIndex(path)
        assert found.damaged
        assert len(found) == 0
    path.write_bytes(content)
    assert FileIndex(path).lookup("/a.jpg", FileIdentity(1, 2, 3, 4)) == b"d" * 32


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000])
def test_a_name_that_no_folder_can_have(name):
    with pytest.raises(mca_jax.InputError, match="No such folder|File name too long"):
        mca_jax.load_result(name)


def test_settings_nested_without_end_are_damaged(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for name in ("model.json", "result.json"):
        (folder / name).write_bytes(b"[" * 100_000)
        with pytest.raises(mca_jax.InputError, match="Damaged file"):
            mca_jax.load_result(folder)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "Not enough memory"),
        (RuntimeError("std::bad_alloc"), "Not enough memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9"), "Not enough"),
        (ImportError("x.so: cannot open: Too many open files"), "ulimit -n"),
    ],
)
def test_a_shortage_is_one_line(error, said, capsys):
    def job(values):
        error.add_note("3 embeddings are kept")
        raise ValueError("of some library") from error

    values = SimpleNamespace(
        coordinator=None, num_processes=None, process_id=None, join_timeout=1
    )
    assert run_job(job, values) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("Error: ")
    assert said in told[0]


def test_other_errors_are_not_hidden():
    def job(values):
        raise ZeroDivisionError

    values = SimpleNamespace(
        coordinator=None, num_processes=None, process_id=None, join_timeout=1
    )
    with pytest.raises(ZeroDivisionError):
        run_job(job, values)


def test_left_overs_of_a_checkpoint_are_quiet_and_nothing_else(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "excepthook", lambda *about: shown.append(about[1]))
    monkeypatch.setattr(sys, "unraisablehook", lambda about: shown.append(about.object))
    terminal._quiet_event_loops.cache_clear()
    with warnings.catch_warnings():
        terminal._quiet_event_loops()
        loop = type("Loop", (), {"__module__": "asyncio.base_events"})()
        for each in (loop, "another"):
            sys.unraisablehook(SimpleNamespace(object=each))
        for error in (RuntimeError("Event loop is closed"), KeyError("b")):
            sys.excepthook(type(error), error, None)
    terminal._quiet_event_loops.cache_clear()
    assert shown[0] == "another"
    assert [repr(each) for each in shown[1:]] == ["KeyError('b')"]
