"""Checkpoints of the whole job: what they belong to, kills, the launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mca_jax
from mca_jax.pipeline.config import config_to_dict, settings_of_result
from mca_jax.training.manifest import seal


class Events:
    def __init__(self):
        self.events = []

    def start(self, stage, total):
        pass

    def advance(self, count):
        self.events.append(("advance", count))

    def log(self, event, values):
        self.events.append((event, values))


def cluster(folder, *settings, callback=None):
    axes = np.eye(4, dtype=np.float32)
    return mca_jax.cluster(
        image_embeddings=np.repeat(axes[:2], 20, axis=0),
        noun_embeddings=axes,
        nouns=["cat", "boat", "tree", "lamp"],
        num_clusters=2,
        config=mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=3", *settings]),
        checkpoint_dir=folder,
        callback=callback,
    )


def test_settings_without_effect_are_left_out():
    settings = config_to_dict(mca_jax.Config())
    kept = settings_of_result(settings)
    assert "checkpoint" not in kept
    assert "threads" not in kept["encoder"]
    assert kept["losses"] == settings["losses"]
    assert settings["train"] == {**kept["train"], "driver": "jit"}


def test_a_second_call_takes_the_first_one_s_training(tmp_path):
    first = cluster(tmp_path)
    events = Events()
    second = cluster(
        tmp_path, "checkpoint.keep=5", "retrieval.block_size=7", callback=events
    )
    (resumed,) = [values for event, values in events.events if event == "resume"]
    assert (resumed["run"], resumed["step"], resumed["epoch"]) == ("train", 3, 3)
    # progress shows the epochs that need not be made again.
    assert ("advance", 3) in events.events
    assert "epoch" not in [event for event, _ in events.events]
    assert first.history == second.history
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    (kept,) = tmp_path.glob("*/train/00000003")
    manifest = json.loads((kept / "manifest.json").read_text())
    assert manifest["identity"]["nouns"]["count"] == 4
    assert len(manifest["provenance"]["semantic_space"]["fingerprint"]) == 16


def test_other_settings_begin_beside_what_is_there(tmp_path):
    first = cluster(tmp_path)
    events = Events()
    cluster(tmp_path, "losses.instance=2", callback=events)
    again = cluster(tmp_path, callback=events)
    resumed = [values["step"] for event, values in events.events if event == "resume"]
    assert resumed == [3]
    np.testing.assert_array_equal(first.probabilities, again.probabilities)


def test_damage_is_a_warning_without_a_callback(tmp_path):
    first = cluster(tmp_path)
    (manifest,) = tmp_path.glob("*/train/00000003/manifest.json")
    manifest.unlink()
    with pytest.warns(UserWarning, match="00000003' is half-written; training starts"):
        second = cluster(tmp_path)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


@pytest.mark.slow
def test_a_killed_job_ends_as_if_nobody_had_killed_it():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill_resume", "--kills=1", "--seed=6"],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Kill 1 at" in done.stdout
    assert done.stdout.endswith("All equal\n")


def launch(folder, workdir):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.cluster"),
            *(f"--images={folder}", f"--workdir={workdir}", "--num_clusters=2"),
            *("--set=train.epochs=60", "--set=train.loss_tolerance=0"),
        ],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_launcher_goes_on_after_sigterm(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 99, (64, 64, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"photos/{number}.png")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    first = launch(tmp_path / "photos", whole)
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 0, errors
    job, log = launch(tmp_path / "photos", broken), broken / "log.jsonl"
    while job.poll() is None and not (log.exists() and '"epoch": 2' in log.read_text()):
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 128 + signal.SIGTERM, errors
    assert "Interrupted: training up to step " in errors
    assert "Traceback" not in errors
    again = launch(tmp_path / "photos", broken)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "Training (train) resumes from step " in errors
    for path in whole.iterdir():
        if path.is_file() and path.name != "log.jsonl":
            assert path.read_bytes() == (broken / path.name).read_bytes(), path.name


def test_the_best_checkpoint_is_used_without_training(tmp_path):
    cluster(tmp_path, "checkpoint.every_steps=1", "checkpoint.keep=5")
    manifests = {
        int(path.parent.name): json.loads(path.read_text())
        for path in tmp_path.glob("*/train/*/manifest.json")
    }
    assert sorted(manifests) == [1, 2, 3]
    # The first is made the best: its manifest is sealed anew with the lowest score.
    for step, manifest in manifests.items():
        body = {k: v for k, v in manifest.items() if k not in ("files", "checksum")}
        (folder,) = tmp_path.glob(f"*/train/{step:08d}")
        seal(folder, {**body, "score": float(step)})
    events = Events()
    best = cluster(tmp_path, "checkpoint.use=best", callback=events)
    (resumed,) = [values for event, values in events.events if event == "resume"]
    assert resumed["step"] == 1
    assert not [event for event, _ in events.events if event in ("epoch", "checkpoint")]
    assert best.status == "best_checkpoint"
    assert [row["epoch"] for row in best.history] == [1.0]
    # One epoch from the start gives the same weights.
    one = cluster(tmp_path / "one", "train.epochs=1")
    np.testing.assert_array_equal(best.probabilities, one.probabilities)
    # It stays as it was, to go on from.
    again = cluster(tmp_path)
    assert again.status != "best_checkpoint"
    assert len(again.history) == 3


def test_without_a_checkpoint_there_is_no_best(tmp_path):
    with pytest.raises(
        mca_jax.InputError, match=r"No checkpoint in '.*train' for checkpoint\.use=best"
    ):
        cluster(tmp_path, "checkpoint.use=best")
    with pytest.raises(mca_jax.InputError, match=r"Unknown checkpoint\.use 'last'"):
        cluster(tmp_path, "checkpoint.use=last")
