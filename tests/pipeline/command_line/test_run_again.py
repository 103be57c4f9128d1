"""The same command over a folder that has changed since."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from command import run_command
from encoders.small_encoder import write_images
from PIL import Image
from small_reviews import open_desk
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


def test_new_images_go_to_the_groups_that_are_there(workdir, photos, tmp_path):
    before = mca_jax.load_result(workdir)
    renamed = mca_jax.rename_cluster(before, before.clusters[1].id, "my own")
    guessed = (replace(renamed.clusters[0], guess=True), *renamed.clusters[1:])
    model = replace(renamed.model, clusters=guessed)
    renamed = replace(renamed, clusters=guessed, model=model)
    mca_jax.save_version(renamed, tmp_path / "run")
    images = tmp_path / "photos"
    shutil.copytree(photos, images, ignore=shutil.ignore_patterns("run"))
    arguments = ("update", f"--run={tmp_path / 'run'}", f"--images={images}")
    done = run_command(*arguments)
    assert done.stdout == (
        "All images are as they were in the last run: nothing to do\n"
    )
    (images / "004.png").rename(images / "below/004.png")
    (images / "005.png").unlink()
    (images / "zzz.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_images(images, 2, start=40)
    for number in range(4):
        Image.new("RGB", (10, 8), (255, 20 * number, 0)).save(images / f"r{number}.png")
    done = run_command(*arguments, "--outlier_quantile=1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Since the last run 7 images were added, 1 moved, 1 del")
    assert lines[1].startswith("6 put into the groups that are there: ")
    # Above the threshold of one only the closest image of all would be.
    assert lines[2].startswith("6 of them fit none of the groups")
    assert lines[4].startswith("mca-jax cluster --images=")
    after = mca_jax.load_result(tmp_path / "run")
    assert after.paths == find_images(images).paths[:-1]
    assert [each.path for each in after.skipped] == ["zzz.png"]
    # Groups, names, ids and the model are those of before.
    assert [(c.id, c.name, c.guess) for c in after.clusters] == [
        (c.id, c.name, c.guess) for c in renamed.clusters
    ]
    assert after.clusters[1].name == "my own"
    assert sum(c.size for c in after.clusters) == len(after.paths) == 25
    old = dict(zip(before.paths, before.assignments.tolist(), strict=True))
    for path, cluster in zip(after.paths, after.assignments.tolist(), strict=True):
        was = {"below/004.png": "004.png"}.get(path, path)
        assert cluster == old.get(was, cluster)
    placed = mca_jax.load(tmp_path / "run").predict(images)
    assert (placed.nearest == after.assignments).all()
    for cluster in after.clusters:
        assert {int(after.assignments[row]) for row in cluster.exemplars} <= {
            cluster.index
        }
    text = (tmp_path / "run/update.csv").read_text("utf-8-sig")
    assert "below/004.png,renamed,004.png," in text
    assert "005.png,deleted," in text
    assert "6 images were put into groups" in after.warnings[-1]
    assert "fit none of the 2" in (tmp_path / "run/report.html").read_text()


def test_a_review_goes_on_after_an_update(workdir, photos, tmp_path):
    run, images = tmp_path / "run", tmp_path / "photos"
    before = mca_jax.load_result(workdir)
    mca_jax.save_version(before, run)
    shutil.copytree(photos, images, ignore=shutil.ignore_patterns("run"))
    names = [each.id for each in before.clusters]
    with open_desk(run) as (_, review):
        review.add({"action": "rename", "group": names[0], "name": "mine"})
        review.add({"action": "mark", "rows": [3], "mark": "outlier"})
        move = {"rows": [5, 6], "into": review.history.next_id, "name": "new"}
        review.add({"action": "move", **move})
    write_images(images, 2, start=40)
    done = run_command("update", f"--run={run}", f"--images={images}")
    assert done.returncode == 0, done.stderr
    assert "their file in " + str(run / "review-1") in done.stdout
    # The groups as they were edited, with new pictures among them, and none undone.
    with open_desk(run) as (desk, review):
        state = desk.state()
        assert {each["name"] for each in state["groups"]} >= {"mine", "new"}
        assert (state["images"], state["nowhere"], state["undo"]) == (22, 1, "")
        of, result = review.history.groups.of, mca_jax.load_result(run)
        assert of[result.paths.index(before.paths[3])] == -1
        assert of[result.paths.index(before.paths[5])] == move["into"]
        fresh = result.paths.index("040.png")
        assert of[fresh] in names
        assert desk.pictures.jpeg(fresh, "small").startswith(b"\xff\xd8")
        review.add({"action": "move", "rows": [fresh], "into": move["into"]})
    assert len(mca_jax.load_result(run).paths) == 22


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
    # Four pictures, and four views of each.
    assert len(encoded) == 4 + 16
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
