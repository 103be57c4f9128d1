import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.demo import build_command, collect_stamps
from mca_jax.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
STAMPS = Path("/usr/share/tuxpaint/stamps")


def draw(folder: Path, count: int, name: str = "stamp{}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        # As many colours as a photograph has.
        pixels = np.random.default_rng(index).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name.format(index))


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    """Two kinds with seven pictures, one with six, and much that is none."""
    folder = tmp_path / "stamps"
    draw(folder / "animals/birds", 11)
    draw(folder / "animals/birds", 11, "stamp{}_mirror.png")
    draw(folder / "vehicles/cycle", 4)
    draw(folder / "vehicles/ship/cartoon", 6)
    draw(folder / "animals/fish", 6)
    Image.new("RGB", (99, 99), "red").save(folder / "animals/fish/drawn.png")
    draw(folder / "animals/fish", 9, "stamp{}_flip.png")
    draw(folder / "symbols/alphabets", 26)
    (folder / "animals/fish/drawing.svg").write_text("<svg/>")
    (folder / "animals/birds/stamp0.txt").write_text("A bird.")
    return folder


def test_kinds_with_seven_photographs_are_copied(stamps, tmp_path):
    target = tmp_path / "out" / "images"
    for _ in range(2):
        assert collect_stamps(stamps, target) == {"birds": 11, "vehicles": 10}
        files = {p.relative_to(target) for p in target.rglob("*") if p.is_file()}
        assert len(files) == 21
    assert Path("vehicles/ship/cartoon/stamp5.png") in files
    copy = target / "birds/stamp3.png"
    assert copy.read_bytes() == (stamps / "animals/birds/stamp3.png").read_bytes()


def test_files_of_others_are_left_alone(stamps, tmp_path):
    own = tmp_path / "images" / "holiday.jpg"
    draw(own.parent, 1, own.name)
    with pytest.raises(InputError, match=re.escape(str(own))):
        collect_stamps(stamps, tmp_path / "images")
    assert [own] == list(own.parent.iterdir())


def test_a_file_in_the_way_is_named(stamps, tmp_path):
    (tmp_path / "out").write_text("not a folder")
    with pytest.raises(InputError, match=r"Can't copy .*out/images: Not a directory"):
        collect_stamps(stamps, tmp_path / "out" / "images")


def test_missing_stamps_say_how_to_go_on(tmp_path):
    with pytest.raises(InputError, match=r"tuxpaint-stamps-default, or .*IMAGES="):
        collect_stamps(tmp_path / "nowhere", tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_sub_folders_are_labels_and_count_the_clusters(stamps, tmp_path):
    collect_stamps(stamps, tmp_path / "images")
    assert build_command(tmp_path / "images", None, tmp_path / "run") == [
        sys.executable,
        "-m",
        "experiments.cluster",
        f"--images={tmp_path / 'images'}",
        "--num_clusters=2",
        "--labels=folders",
        f"--workdir={tmp_path / 'run'}",
        "--overwrite",
    ]


def test_a_flat_folder_needs_a_number_and_has_no_labels(tmp_path):
    draw(tmp_path / "photos", 5)
    command = build_command(tmp_path / "photos", 3, tmp_path / "run")
    assert "--num_clusters=3" in command
    assert "--labels=folders" not in command
    with pytest.raises(InputError, match="or --num_clusters"):
        build_command(tmp_path / "photos", None, tmp_path / "run")
    with pytest.raises(InputError, match="No such folder"):
        build_command(tmp_path / "nowhere", 3, tmp_path / "run")


@pytest.mark.skipif(not STAMPS.is_dir(), reason="tuxpaint-stamps-default is missing")
def test_the_package_has_enough(tmp_path):
    counts = collect_stamps(STAMPS, tmp_path)
    assert sum(counts.values()) >= 150
    assert {"mammals", "birds", "fruit", "flowers", "vehicles", "tools"} <= set(counts)
    assert min(counts.values()) >= 7


def test_bad_input_is_one_line_without_traceback(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.demo",
            f"--stamps={tmp_path / 'nowhere'}",
            f"--workdir={tmp_path / 'out'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "tuxpaint-stamps-default" in done.stderr
