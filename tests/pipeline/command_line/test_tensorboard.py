"""Event files for TensorBoard, read back; and what is said where they can't be."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_datasets import write_cifar10

from mca_jax.core.errors import InputError
from mca_jax.pipeline.command_line.tensorboard import TensorBoard

pytest.importorskip("tensorboardX")
from tensorboardX.proto import event_pb2


def read_scalars(folder):
    """Scalars of all event files of a folder, as ``{tag: {step: value}}``."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        content, start = path.read_bytes(), 0
        while start < len(content):
            # A record: its length, a checksum, the event, another checksum.
            (size,) = struct.unpack_from("<Q", content, start)
            event = event_pb2.Event.FromString(content[start + 12 : start + 12 + size])
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            start += 16 + size
    return found


def test_passes_and_the_end_are_kept(tmp_path):
    with TensorBoard(str(tmp_path / "board")) as board:
        board.write("stage", stage="Training", seconds=1.0)
        for epoch, loss in ((1.0, 0.5), (2.0, 0.25)):
            row = {"epoch": epoch, "loss": loss, "semantic": 2 * loss, "changed": 0.125}
            board.write("epoch", run="train", **row)
        board.write("epoch", run="consistency only", epoch=1.0, loss=4.0)
        board.write("end", status="converged", metrics={"label_free": {"risk": 0.75}})
    assert read_scalars(tmp_path / "board/train") == {
        "loss/total": {1: 0.5, 2: 0.25},
        "loss/semantic": {1: 1.0, 2: 0.5},
        "training/changed": {1: 0.125, 2: 0.125},
        "label_free/risk": {2: 0.75},
    }
    plain = read_scalars(tmp_path / "board/consistency_only")
    assert plain == {"loss/total": {1: 4.0}}


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="Can't write to --tensorboard '.*taken"):
        TensorBoard(str(tmp_path / "taken"))


def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"pip install 'mca-jax\[tensorboard\]'"):
        TensorBoard(str(tmp_path / "board"))
    assert not (tmp_path / "board").exists()


@pytest.mark.slow
def test_the_launcher_writes_what_the_log_says(tmp_path):
    write_cifar10(tmp_path / "data", batch=20)
    (tmp_path / "nouns.txt").write_text("dog\ncat\ntree\nboat\nhouse\nbird\nstone\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.cluster"),
            "--config=experiments/configs/cifar10.py:smoke",
            f"--set=semantics.vocabulary={tmp_path / 'nouns.txt'}",
            *(f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'out'}"),
            f"--tensorboard={tmp_path / 'board'}",
        ],
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out/log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    rows = [e for e in events if e["event"] == "epoch" and e["run"] == "train"]
    found = read_scalars(tmp_path / "board/train")
    for tag, name in (("loss/total", "loss"), ("training/grad_norm", "grad_norm")):
        assert found[tag] == pytest.approx({row["epoch"]: row[name] for row in rows})
    # The log has null for what is not a number.
    risk = {
        f"label_free/{name}": float("nan") if value is None else value
        for name, value in events[-1]["metrics"]["label_free"].items()
    }
    ends = {tag: found[tag][len(rows)] for tag in found if tag.startswith("label_free")}
    assert ends == pytest.approx(risk, nan_ok=True)
    assert (tmp_path / "board/consistency_only").is_dir()
