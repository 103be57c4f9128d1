import csv
import errno
import json
import os

import numpy as np
import pytest
from sample_results import build_result, crop
from small_runs import small_run

from mca_jax.core.errors import InputError
from mca_jax.data.files import SkippedImage
from mca_jax.model.files import MODEL_FILES
from mca_jax.report.workdir import prepare_workdir
from mca_jax.report.write import OUTPUT_FILES, write_outputs


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return build_result(tmp_path_factory.mktemp("images"), labels=np.arange(40) % 5)


def read_rows(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def read_json(path):
    def refuse(name):
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_every_file_is_there(tmp_path):
    written = write_outputs(small_run(), tmp_path)
    # baselines.csv is for runs that were compared, update.csv for updated ones.
    others = {"log.jsonl", "baselines.csv", "update.csv"}
    assert set(written) == {"config.json", *OUTPUT_FILES} - others
    assert set(written.values()) == set(tmp_path.iterdir())


def test_a_result_without_a_model_has_its_other_files(result, tmp_path):
    written = write_outputs(result, tmp_path)
    others = {"log.jsonl", "baselines.csv", "update.csv", *MODEL_FILES}
    assert set(written) == {"config.json", *OUTPUT_FILES} - others
    assert set(written.values()) == set(tmp_path.iterdir())


def test_assignments_have_a_row_an_image(result, tmp_path):
    write_outputs(result, tmp_path)
    header, *rows = read_rows(tmp_path / "assignments.csv")
    assert header == ["path", "cluster", "confidence", "cluster_name"]
    assert [row[0] for row in rows] == list(result.paths)
    np.testing.assert_array_equal([int(row[1]) for row in rows], result.assignments)
    np.testing.assert_allclose(
        [float(row[2]) for row in rows], result.confidences, atol=5e-7
    )
    assert rows[5] == [rows[5][0], "1", rows[5][2], "noun 1"]


def test_outliers_and_duplicates_are_listed(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "run"
    folder.mkdir()
    result = build_result(images, num_images=12, num_clusters=3)
    first, second = result.paths[2], result.paths[9]
    (images / second).write_bytes((images / first).read_bytes())
    result.embeddings[9] = result.embeddings[2]
    write_outputs(result, folder)
    header, *rows = read_rows(folder / "duplicates.csv")
    assert header == [
        *("group", "kind", "path", "cluster", "keep", "width", "height", "bytes")
    ]
    size = str((images / first).stat().st_size)
    assert rows[:2] == [
        ["0", "identical", first, "2", "best", "96", "96", size],
        ["0", "identical", second, "0", "", "96", "96", size],
    ]
    header, *rows = read_rows(folder / "outliers.csv")
    assert header == ["path", "distance", "cluster"]
    assert len(rows) == 8
    distances = [float(row[1]) for row in rows]
    assert distances == sorted(distances, reverse=True)
    for path, _, cluster in rows:
        assert result.assignments[result.paths.index(path)] == int(cluster)


def test_pictures_beside_the_report_are_written(result, tmp_path):
    written = write_outputs(result, tmp_path, thumbnails="beside")
    pictures = {f"report_files/{path.name}" for path in tmp_path.glob("*/*.jpg")}
    assert pictures == {name for name in written if "/" in name}
    assert len(pictures) == 41
    assert "data:image/jpeg" not in (tmp_path / "report.html").read_text("utf-8")


def test_a_file_where_the_pictures_should_go(result, tmp_path):
    (tmp_path / "report_files").write_text("mine")
    with pytest.raises(InputError, match="report_files.*thumbnails=embed"):
        write_outputs(result, tmp_path, thumbnails="beside")
    assert (tmp_path / "report_files").read_text() == "mine"


def test_clusters_hold_what_a_program_wants(result, tmp_path):
    write_outputs(result, tmp_path)
    stored = read_json(tmp_path / "clusters.json")
    assert (stored["num_images"], stored["num_clusters"]) == (40, 4)
    assert sum(cluster["size"] for cluster in stored["clusters"]) == 40
    second = stored["clusters"][1]
    assert (second["index"], second["name"], second["size"]) == (1, "noun 1", 10)
    assert second["confidence"] == pytest.approx(result.clusters[1].confidence, 1e-5)
    assert second["nouns"][0] == {
        "name": "dahlia",
        "score": 0.5,
        "synset": "n11960673",
        "gloss": "any of several plants of the genus Dahlia",
    }
    rows = result.clusters[1].exemplars
    assert second["exemplars"] == [result.paths[row] for row in rows]


def test_metrics_and_config(result, tmp_path):
    write_outputs(result, tmp_path, command="python -m experiments.cluster")
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["summary"] == {
        "num_images": 40,
        "num_skipped": 1,
        "num_clusters": 4,
        "num_empty_clusters": 0,
        "mean_confidence": pytest.approx(float(result.confidences.mean()), 1e-5),
        "status": "converged",
    }
    assert metrics["label_free"]["imbalance"] == 0.52
    assert metrics["scores"]["kmeans"]["nmi"] == 0.912
    assert np.sum(metrics["contingency"]["counts"]) == 40
    assert list(metrics["audit"])[-1] == "kept"
    config = read_json(tmp_path / "config.json")
    assert config["settings"] == result.config
    assert config["provenance"] == result.provenance
    assert config["command"] == "python -m experiments.cluster"


def test_two_equal_runs_write_equal_files(tmp_path):
    for name, seconds in (("one", 12.3), ("two", 99.0)):
        # Equal folders in two places, as two machines would have them.
        result = build_result(
            tmp_path / name / "photos",
            labels=np.arange(40) % 5,
            seconds={"embed": seconds},
        )
        (tmp_path / name / "out").mkdir()
        write_outputs(result, tmp_path / name / "out")
    for path in (tmp_path / "one" / "out").iterdir():
        other = tmp_path / "two" / "out" / path.name
        assert path.read_bytes() == other.read_bytes(), path.name


def test_writing_again_settles_a_prepared_folder(result, tmp_path):
    prepare_workdir(tmp_path, result.config, outputs=OUTPUT_FILES)
    write_outputs(result, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    prepared = prepare_workdir(tmp_path, result.config, outputs=OUTPUT_FILES)
    assert prepared == "same"
    write_outputs(result, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


FORMULAS = ["=1+1.jpg", "+a.jpg", "-b.jpg", "@c.jpg", "\td.jpg", "\re.jpg"]


def test_no_cell_is_a_formula(tmp_path):
    result = build_result(
        None,
        paths=FORMULAS,
        names=["=HYPERLINK(0)", "fine", "-"],
        num_clusters=3,
        num_images=6,
        skipped=(SkippedImage("=x.jpg", "+bad"),),
    )
    write_outputs(result, tmp_path)
    for name in ("assignments.csv", "skipped.csv"):
        for row in read_rows(tmp_path / name):
            for cell in row:
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    rows = read_rows(tmp_path / "assignments.csv")[1:]
    # The path still names the same file.
    assert [os.path.normpath(row[0]) for row in rows][:4] == FORMULAS[:4]
    assert rows[0][3] == "'=HYPERLINK(0)"
    assert read_rows(tmp_path / "skipped.csv")[1] == ["./=x.jpg", "'+bad"]
    # JSON is for programs, which take no cell for a formula.
    stored = read_json(tmp_path / "clusters.json")
    assert stored["clusters"][0]["name"] == "=HYPERLINK(0)"


def test_any_file_name_is_one_line_of_utf8(tmp_path):
    raw = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    paths = [raw, "two\nlines.jpg", 'with "quotes", commas.jpg', "ملف 🐶.jpg"]
    result = build_result(None, paths=paths, num_clusters=2, num_images=4)
    write_outputs(result, tmp_path)
    text = (tmp_path / "assignments.csv").read_bytes().decode("utf-8-sig")
    assert len(text.splitlines()) == 5
    shown = [row[0] for row in read_rows(tmp_path / "assignments.csv")[1:]]
    assert shown == ["caf\\xe9.jpg", "two\\x0alines.jpg", *paths[2:]]
    clusters = read_json(tmp_path / "clusters.json")["clusters"]
    listed = [path for cluster in clusters for path in cluster["exemplars"]]
    assert sorted(listed) == sorted(paths)
    uris = [row[-1] for row in read_rows(tmp_path / "assignments.csv")]
    assert uris[:2] == ["uri", f"file://{os.getcwd()}/caf%E9.jpg"]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    result = build_result(
        None,
        metrics={"label_free": {"rate_exponent": float("nan"), "x": float("inf")}},
        config={"num_clusters": 4, "limit": float("inf")},
    )
    write_outputs(result, tmp_path)
    stored = read_json(tmp_path / "metrics.json")["label_free"]
    assert stored == {"rate_exponent": None, "x": None}
    assert read_json(tmp_path / "config.json")["settings"]["limit"] is None


def test_all_skipped_files_are_listed(tmp_path):
    skipped = tuple(SkippedImage(f"{i}.jpg", "truncated") for i in range(1000))
    write_outputs(build_result(None, skipped=skipped), tmp_path)
    assert len(read_rows(tmp_path / "skipped.csv")) == 1001
    write_outputs(build_result(None, skipped=()), tmp_path)
    assert read_rows(tmp_path / "skipped.csv") == [["path", "reason"]]


def test_without_room_earlier_files_are_whole(result, tmp_path, monkeypatch):
    write_outputs(result, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fsync, calls = os.fsync, []

    def full_after_three(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr("mca_jax.report.workdir.os.fsync", full_after_three)
    other = build_result(None, num_clusters=2)
    with pytest.raises(InputError, match=r"clusters\.json': No space left on device"):
        write_outputs(other, tmp_path)
    assert len(read_rows(tmp_path / "assignments.csv")) == 41
    assert read_json(tmp_path / "config.json")["settings"]["num_clusters"] == 2
    for name in ("clusters.json", "metrics.json", "report.html"):
        assert (tmp_path / name).read_bytes() == before[name]
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def test_a_folder_that_is_gone(result, tmp_path):
    with pytest.raises(InputError, match=r"Can't write .*config\.json': No such file"):
        write_outputs(result, tmp_path / "gone")


def test_pictures_of_arrays_come_from_the_caller(tmp_path):
    result = build_result(None)
    write_outputs(result, tmp_path)
    assert "data:image/jpeg" not in (tmp_path / "report.html").read_text("utf-8")
    write_outputs(result, tmp_path, load_image=crop)
    assert "data:image/jpeg" in (tmp_path / "report.html").read_text("utf-8")
