"""The stages as commands: in a row they are the main job, and they go on from it."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from command import run_command
from PIL import Image
from small_runs import small_run

from mca_jax.report.write import write_outputs

FILES = (
    *("assignments.csv", "clusters.json", "metrics.json", "config.json"),
    *("skipped.csv", "report.html", "model.json", "model.safetensors"),
    *("result.json", "result.safetensors"),
)


def succeed(stage, *arguments):
    done = run_command(stage, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Crops of two real photographs in two folders, and one broken file."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, picture in zip(
        ("china", "flower"), load_sample_images().images, strict=True
    ):
        (root / name).mkdir()
        for i in range(6):
            top, left = random.integers(0, 150, 2)
            crop = picture[top : top + 240, left : left + 240]
            Image.fromarray(crop).save(root / name / f"{i}.jpg")
    (root / "china" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return root


def options(photos, workdir):
    return (
        f"--images={photos}",
        "--num_clusters=2",
        f"--workdir={workdir}",
        "--labels=folders",
        "--set=train.epochs=2",
    )


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    succeed("cluster", *options(photos, folder))
    return folder


def read_rows(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_stages_in_a_row_are_the_main_job(run, photos, tmp_path):
    out = tmp_path / "out"
    said = succeed("embed", f"--images={photos}", f"--workdir={out}")
    assert "12 images embedded, 12 of them now, 1 skipped" in said
    assert os.listdir(out) == ["embeddings"]
    said = succeed("train", *options(photos, out))
    assert "12 images in 2 clusters" in said
    assert "scores" not in json.loads((out / "metrics.json").read_text())
    said = succeed("evaluate", *options(photos, out))
    assert "mca: acc 1.000" in said
    for name in FILES:
        assert (out / name).read_bytes() == (run / name).read_bytes(), name


@pytest.mark.slow
def test_prediction_gives_the_answer_of_training(run, photos, tmp_path):
    arguments = (f"--run={run}", f"--images={photos}", f"--workdir={tmp_path}")
    assert "12 images, 0 none of these, 1 skipped" in succeed("predict", *arguments)
    known, placed = (read_rows(f / "assignments.csv") for f in (run, tmp_path))
    for old, new in zip(known, placed, strict=True):
        # Groups of the tree are those of a run's own images.
        own = {name for name in old if not name.startswith("level_")}
        assert {name: new[name] for name in own} == {name: old[name] for name in own}
    skipped = (tmp_path / "skipped.csv").read_bytes()
    assert skipped == (run / "skipped.csv").read_bytes()
    # Again the same, but not of other settings.
    before = (tmp_path / "assignments.csv").read_bytes()
    refused = run_command("predict", *arguments, "--outlier_quantile=0.1")
    assert refused.returncode == 2
    assert "outlier_quantile is 0.005 there and 0.1 now" in refused.stderr
    assert (tmp_path / "assignments.csv").read_bytes() == before


@pytest.mark.slow
def test_other_images_are_scored_apart(run, photos, tmp_path):
    shutil.copytree(photos / "china", tmp_path / "new" / "temple")
    shutil.copytree(photos / "flower", tmp_path / "new" / "plant")
    said = succeed(
        "evaluate",
        f"--run={run}",
        f"--images={tmp_path / 'new'}",
        "--labels=folders",
        f"--workdir={tmp_path / 'scores'}",
    )
    assert "mca: acc 1.000" in said
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert metrics["contingency"]["classes"] == ["plant", "temple"]
    assert np.sum(metrics["contingency"]["counts"]) == 12
    assert metrics["summary"] == {"images": 12, "none": 0, "skipped": 1}


def test_export_from_the_command_line(tmp_path):
    (tmp_path / "run").mkdir()
    write_outputs(small_run(), tmp_path / "run")
    said = succeed(
        "export",
        f"--run={tmp_path / 'run'}",
        f"--workdir={tmp_path / 'out'}",
        "--formats=csv,npz,labelstudio,fiftyone",
    )
    assert "npz: " in said
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("assignments.csv", "embeddings.npz", "label_studio.json", "labels.json")
    ]


@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        (
            "predict",
            ["--run=/no/run", "--images=x", "--workdir=y"],
            "No such folder: '/no/run'",
        ),
        (
            "predict",
            ["--run=.", "--images=x", "--workdir=."],
            "apart from --run",
        ),
        ("evaluate", ["--run=experiments"], "found no model.json"),
        (
            "export",
            ["--run=experiments", "--workdir=y", "--formats=cvs"],
            "did you mean 'csv'?",
        ),
    ],
)
def test_mistakes_are_one_line(stage, arguments, message):
    done = run_command(stage, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
