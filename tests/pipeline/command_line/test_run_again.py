"""The same command over a folder that has changed since."""

import json
import os
import shutil

import pytest
from command import run_command
from encoders.small_encoder import write_images
from small_runs import small_encoder, small_vocabulary

import mca_jax
from mca_jax.data import find_images
from mca_jax.encoders import ENCODERS


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("again") / "photos"
    (folder / "below").mkdir(parents=True)
    write_images(folder, 20)
    for path in folder.glob("*.png"):
        # Else they were written too short a time ago to be known by their times.
        os.utime(path, (1e9, 1e9))
    return folder


def start(folder, workdir, *more):
    return run_command(
        "cluster",
        f"--images={folder}",
        "--num_clusters=2",
        f"--workdir={workdir}",
        "--encoder=small",
        "--set=train.epochs=2",
        f"--set={small_vocabulary(folder.absolute().parent)}",
        *more,
    )


@pytest.fixture(scope="module")
def workdir(photos):
    """A run inside of its own images, begun with a relative path."""
    with small_encoder(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(photos.parent)
        done = start(photos.relative_to(photos.parent), "photos/run")
        assert done.returncode == 0, done.stderr
        yield photos / "run"


def test_more_clusters_than_files_claim_no_folder(workdir, photos, tmp_path):
    refused = start(photos, tmp_path / "out", "--num_clusters=200")
    assert refused.returncode == 2
    assert "num_clusters between 2 and 20, found 200" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_is_exported_from_elsewhere(workdir, photos, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    # Parquet is refused wherever pyarrow is there or not.
    (tmp_path / "export/assignments.parquet").mkdir(parents=True)
    arguments = ("export", f"--run={workdir}", f"--workdir={tmp_path / 'export'}")
    done = run_command(*arguments, "--formats=copies,parquet,fiftyone,links,copies")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: parquet: ")
    assert len(done.stderr.splitlines()) == 1
    for kind in ("copies", "clusters"):
        assert len(list((tmp_path / "export" / kind).glob("*/*.png"))) == 20
    assert (tmp_path / "export/labels.json").exists()


def test_the_same_command_goes_on_over_a_changed_folder(workdir, photos, monkeypatch):
    write_images(photos, 3, start=20)
    write_images(photos, 1, start=100)
    (photos / "100.png").replace(photos / "000.png")
    (photos / "001.png").rename(photos / "below/001.png")
    (photos / "003.png").unlink()
    encoded = []
    small = ENCODERS["small"]()
    counting = small._replace(
        preprocess=lambda image: encoded.append(1) or small.preprocess(image)
    )
    monkeypatch.setitem(ENCODERS, "small", lambda: counting)
    done = start(photos, workdir)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "Since the last run 3 images were added, 1 changed, 1 moved, 1 deleted; 17 are "
        "as they were and are not embedded again"
    )
    assert len(encoded) == 4
    # The checkpoints of before belong to other images, and are still there.
    assert "resumes from" not in done.stderr
    assert len(list((workdir / "checkpoints").iterdir())) == 2
    # The run's own files are none of the images, and that is said.
    assert "run: files of a run of mca_jax, left out" in done.stderr
    result = mca_jax.load_result(workdir)
    assert result.paths == find_images(photos).paths
    assert [each.path for each in result.skipped] == ["run"]
    events = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    (told,) = [event for event in events if event["event"] == "images"]
    assert (told["same"], told["added"], told["moved"]) == (17, 3, 1)


def test_no_image_left_is_an_error(workdir, photos, tmp_path):
    gone = tmp_path / "run"
    shutil.copytree(workdir, gone)
    photos.rename(photos.parent / "elsewhere")
    arguments = ("export", f"--run={gone}", f"--workdir={tmp_path / 'gone'}")
    done = run_command(*arguments, "--formats=copies,csv")
    assert done.returncode == 2
    assert "copies: No image of the run is in" in done.stderr
    assert [path.name for path in (tmp_path / "gone").iterdir()] == ["assignments.csv"]
    images = f"--images={photos.parent / 'elsewhere'}"
    assert run_command(*arguments, "--formats=copies", images).returncode == 0
