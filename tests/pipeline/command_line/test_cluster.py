"""The command as a user runs it: files, repeatability, and every mistake."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command import run_command
from PIL import Image

import mca_jax

FILES = (
    "assignments.csv",
    "clusters.json",
    "metrics.json",
    "config.json",
    "skipped.csv",
    "report.html",
)


def launch(*arguments):
    return run_command("cluster", *arguments)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Crops of two real photographs in two folders, and one broken file."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, picture in zip(
        ("china", "flower"), load_sample_images().images, strict=True
    ):
        (root / name).mkdir()
        for i in range(8):
            top, left = rng.integers(0, 150, 2)
            crop = picture[top : top + 240, left : left + 240]
            Image.fromarray(crop).save(root / name / f"{i}.jpg")
    (root / "china" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return root


def options(photos, workdir, *more):
    return (
        f"--images={photos}",
        "--num_clusters=2",
        f"--workdir={workdir}",
        "--set=train.epochs=4",
        *more,
    )


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Two runs with one seed, from nothing."""
    folders = [tmp_path_factory.mktemp("run") / "out" for _ in range(2)]
    for folder in folders:
        done = launch(*options(photos, folder, "--labels=folders", "--seed=3"))
        assert done.returncode == 0, done.stderr
        assert "report.html" in done.stdout
    return folders


@pytest.mark.slow
def test_two_runs_with_one_seed_write_identical_files(runs):
    for name in FILES:
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name


@pytest.mark.slow
def test_the_files_say_what_happened(runs):
    with (runs[0] / "assignments.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {row["path"].split("/")[0] for row in rows} == {"china", "flower"}
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    assert set(metrics["scores"]) == {"mca", "kmeans", "consistency_only"}
    assert metrics["scores"]["mca"]["acc"] == 1.0
    assert "broken.jpg" in (runs[0] / "skipped.csv").read_text()
    clusters = json.loads((runs[0] / "clusters.json").read_text())["clusters"]
    assert [c["size"] for c in clusters] == [8, 8]
    events = [
        json.loads(line)["event"]
        for line in (runs[0] / "log.jsonl").read_text().splitlines()
    ]
    assert "epoch" in events
    assert events[-1] == "end"


@pytest.mark.slow
def test_another_configuration_is_refused_and_the_second_run_reads_the_cache(
    runs, photos
):
    refused = launch(*options(photos, runs[0], "--labels=folders", "--seed=4"))
    assert refused.returncode == 2
    assert "seed is 3 there and 4 now" in refused.stderr
    again = launch(*options(photos, runs[0], "--labels=folders", "--seed=3"))
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_baselines_are_added_to_a_finished_run(runs, photos):
    was = (runs[1] / "assignments.csv").read_bytes()
    done = launch(
        *options(photos, runs[1], "--seed=3", "--labels=folders", "--baselines")
    )
    assert done.returncode == 0, done.stderr
    assert "Training (train) resumes from step 4, epoch 4" in done.stderr
    assert "neighbours agree" in done.stdout
    assert "kmeans_image_text: acc" in done.stdout
    assert (runs[1] / "assignments.csv").read_bytes() == was
    with (runs[1] / "baselines.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {"path", "cluster", "kmeans_raw", "sic_style"} <= rows[0].keys()
    assert "Beside simpler methods" in (runs[1] / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--images=/no/such/folder"], "/no/such/folder"),
        (["--num_clusters=1"], "num_clusters at least 2, found 1"),
        (["--num_clusters=auto:60-5"], "LOW at most HIGH, found 'auto:60-5'"),
        (["--num_clusters=auto:2-99"], "found a range up to 99"),
        (["--encoder=light"], "did you mean 'lite'?"),
        (["--set=train.epoch=3"], "did you mean 'train.epochs'?"),
        (["--labels=csv"], "--labels 'csv'"),
        (["--nonsense=1"], "Unknown flag '--nonsense'; mca-jax cluster --help"),
        (["--config=none.py"], "No such config file: 'none.py'"),
        (["--workdir=/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_mistakes_are_one_line(photos, tmp_path, change, message):
    done = launch(*options(photos, tmp_path / "out", *change))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_an_estimated_number_of_clusters(photos, tmp_path):
    arguments = options(photos, tmp_path / "out", "--num_clusters=auto:2-4")
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    found = metrics["cluster_count"]["num_clusters"]
    assert f"{found} clusters, estimated without labels" in done.stdout
    assert metrics["summary"]["num_clusters"] == found
    settings = json.loads((tmp_path / "out/config.json").read_text())["settings"]
    assert settings["num_clusters"] == found
    report = (tmp_path / "out/report.html").read_text()
    assert "Score by number of clusters" in report
    assert "--num_clusters=auto:2-4" in report
    # Typed again it is the same run, which has nothing left to train.
    again = launch(*arguments)
    assert again.returncode == 0, again.stderr
    assert "resumes from" in again.stderr
    assert (tmp_path / "out/report.html").read_text() == report


def test_more_clusters_than_images(photos, tmp_path):
    done = launch(*options(photos, tmp_path / "out", "--num_clusters=17"))
    assert done.returncode == 2
    assert (
        "Only 16 of 17 images could be read, fewer than num_clusters=17" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_vocabulary_without_nouns(photos, tmp_path):
    (tmp_path / "nouns.txt").write_text("# nothing\n\n")
    setting = f"--set=semantics.vocabulary={tmp_path / 'nouns.txt'}"
    done = launch(*options(photos, tmp_path / "out", setting))
    assert done.returncode == 2
    assert "nouns.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_config_is_the_default():
    from experiments.configs.default import get_config

    assert get_config() == mca_jax.Config()


def test_pixels_and_files_give_the_same_clusters(photos):
    config = mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=3"])
    paths = sorted(Path(photos).glob("*/[0-9].jpg"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    from_files = mca_jax.cluster(photos, num_clusters=2, config=config)
    from_pixels = mca_jax.cluster(pixels, num_clusters=2, config=config)
    np.testing.assert_array_equal(from_files.assignments, from_pixels.assignments)
    assert len(from_files.skipped) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_embeddings": None}, "found neither"),
        ({"nouns": None}, "noun_embeddings and nouns"),
        ({"nouns": ["a", "b"]}, r"noun_embeddings of shape \[2, 4\]"),
        ({"image_embeddings": np.full((4, 4), np.nan)}, "finite image_embeddings"),
        ({"nouns": "catb"}, "as a list of names, found 'catb' alone"),
        ({"nouns": [1, 2, 3, 4]}, "names, found 1 in row 0"),
        ({"nouns": ["a", "b\n<b>", "c", "d"]}, r"one line .*<b>' in row 1"),
        ({"nouns": ["a", " ", "c", "d"]}, "found ' ' in row 1"),
        ({"nouns": ["a", "b", "A", "d"]}, "without repeats, found 4 entries for 3"),
        ({"noun_embeddings": np.eye(4) * np.nan}, "finite noun_embeddings"),
        ({"noun_embeddings": np.eye(4) * [[1], [0], [1], [1]]}, "zeros in row 1;"),
        ({"image_embeddings": np.zeros((4, 4))}, "zeros in row 0 and 3 more;"),
        ({"image_embeddings": np.eye(4)[0]}, r"shape \[n, d\], found \[4\]"),
        ({"image_embeddings": np.zeros((0, 4))}, r"found \[0, 4\]"),
        ({"image_embeddings": [[1, 2], [3]]}, "rows of several lengths"),
        ({"image_embeddings": np.eye(4) + 1j}, "type complex128"),
        ({"num_clusters": 2.5}, "num_clusters as a whole number, found 2.5"),
        ({"num_clusters": True}, "whole number, found True"),
        ({"num_clusters": 7}, "num_clusters between 2 and 4, found 7"),
        ({"image_embeddings": np.eye(4)[:1]}, "at least 2 images to cluster, found 1"),
        ({"nouns": 5}, "as a list of names, found 5 alone"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    fitting = {
        "image_embeddings": np.eye(4),
        "noun_embeddings": np.eye(4),
        "nouns": ["a", "b", "c", "d"],
    }
    with pytest.raises(mca_jax.InputError, match=message) as caught:
        mca_jax.cluster(**{"num_clusters": 2, **fitting, **arguments})
    assert "\n" not in str(caught.value)
