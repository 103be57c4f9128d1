import json

import numpy as np
import pytest
from PIL import Image

from mca_jax.data import find_images
from mca_jax.data.own_folders import EXPORT_MARK, RUN_FILES
from mca_jax.report import PICTURE_FOLDER
from mca_jax.report.workdir import CONFIG_FILE
from mca_jax.report.write import OUTPUT_FILES, PREDICTION_FILES

SETTINGS = {"num_clusters": 2, "encoder": {"name": "lite"}}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def run_in(folder, settings=SETTINGS):
    for name in ("report_files/0000001.jpg", "mine.jpg", "below/mine.jpg"):
        picture(folder / name)
    (folder / "config.json").write_text(json.dumps({"settings": settings}))


def test_every_file_of_a_run_is_known():
    assert {*OUTPUT_FILES, *PREDICTION_FILES, CONFIG_FILE, PICTURE_FOLDER} <= RUN_FILES


@pytest.mark.parametrize("where", ["", "run", "a/b"])
def test_what_a_run_wrote_is_left_out_and_nothing_else(tmp_path, where):
    picture(tmp_path / "own.jpg")
    run_in(tmp_path / where)
    found = find_images(tmp_path)
    prefix = f"{where}/" if where else ""
    assert set(found.paths) == {
        *("own.jpg", f"{prefix}mine.jpg", f"{prefix}below/mine.jpg")
    }
    (left,) = found.skipped
    assert left.path == (where or ".")
    assert "files of a run" in left.reason


@pytest.mark.parametrize(
    "settings", [{}, {"num_clusters": 3}, {"theme": "dark"}, [1], None, "run"]
)
def test_settings_of_other_programs_hide_nothing(tmp_path, settings):
    run_in(tmp_path / "app", settings)
    found = find_images(tmp_path)
    assert "app/report_files/0000001.jpg" in found.paths
    assert [each.kind for each in found.skipped] == ["other"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_json_hides_nothing(tmp_path, content):
    run_in(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    assert len(find_images(tmp_path).paths) == 3


def test_an_export_is_left_out_whole(tmp_path):
    picture(tmp_path / "own.jpg")
    picture(tmp_path / "out/copies/0000-cat/a.jpg")
    (tmp_path / "out/copies" / EXPORT_MARK).touch()
    found = find_images(tmp_path)
    assert found.paths == ("own.jpg",)
    assert [(each.path, each.reason[:9]) for each in found.skipped] == [
        ("out/copies", "an export")
    ]
