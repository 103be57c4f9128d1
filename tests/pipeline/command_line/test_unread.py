"""What the commands say of files that are not read."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from command import run_command
from PIL import Image

MOVIE = b"\0\0\0\x18ftypqt  " + bytes(100)


def save(path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def phone(tmp_path):
    """A picture without a suffix, one cut short, two films and a hidden file."""
    folder = tmp_path / "phone"
    folder.mkdir()
    save(folder / "a.jpg", 0)
    (folder / "a.jpg").rename(folder / "a")
    save(folder / "b.jpg", 1)
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:500])
    (folder / "c.mov").write_bytes(MOVIE)
    (folder / "d.MOV").write_bytes(MOVIE)
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


SENTENCE = (
    "3 files not read: 2 .mov, 1 .jpg (truncated JPEG file); 1 hidden or system "
    "files left out"
)


def test_embed_counts_what_it_does_not_read(phone, tmp_path):
    done = run_command("embed", f"--images={phone}", f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1 images embedded, 1 of them now, 3 skipped",
        SENTENCE,
    ]
    assert "Skipped b.jpg: truncated JPEG file" in done.stderr
    assert ".mov" not in done.stderr


def test_too_few_are_readable(phone, tmp_path):
    out = tmp_path / "out"
    arguments = (f"--images={phone}", "--num_clusters=2", f"--workdir={out}")
    done = run_command("cluster", *arguments)
    assert done.returncode == 2
    error = (
        "Error: Only 1 of 2 images could be read, fewer than num_clusters=2: b.jpg: "
        "truncated JPEG file"
    )
    assert error in done.stderr
    assert SENTENCE in done.stderr
    assert f"All are in {out / 'skipped.csv'}" in done.stderr
    with (out / "skipped.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["b.jpg", "truncated JPEG file"]
    assert [row[0] for row in rows[2:]] == ["c.mov", "d.MOV", ".DS_Store"]


def test_nothing_is_an_image(tmp_path):
    folder, out = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mov").write_bytes(MOVIE)
    arguments = (f"--images={folder}", "--num_clusters=2", f"--workdir={out}")
    done = run_command("cluster", *arguments)
    assert done.returncode == 2
    assert f"No image in {folder}: 1 file not read: 1 .mov" in done.stderr
    assert done.stderr.count("1 .mov") == 1
    assert "a.mov" in (out / "skipped.csv").read_text()


def test_the_list_of_a_result_stays(tmp_path):
    folder, out = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mov").write_bytes(MOVIE)
    out.mkdir()
    (out / "assignments.csv").write_text("of an earlier run")
    (out / "skipped.csv").write_text("of an earlier run")
    run_command("embed", f"--images={folder}", f"--workdir={out}")
    assert (out / "skipped.csv").read_text() == "of an earlier run"
