"""Which files of a folder are images, and what is said when none is."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import NOISE, encode

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data import find_images, folder_labels
from mca_jax.data.files import HIDDEN, SkippedImage, describe_unread
from mca_jax.data.formats import IMAGE_SUFFIXES


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_recursive_sorted_by_suffix(tmp_path):
    touch(tmp_path, "b.jpg", "a/z.PNG", "a/b/c.JpEg", "B.tiff", "notes.txt", "jpg")
    found = find_images(tmp_path)
    assert found.paths == ("B.tiff", "a/b/c.JpEg", "a/z.PNG", "b.jpg")
    assert found.root == str(tmp_path)
    assert [(each.path, each.kind) for each in found.skipped] == [
        ("jpg", "other"),
        ("notes.txt", "other"),
    ]
    assert find_images(str(tmp_path)) == found


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_each_suffix(tmp_path, suffix):
    touch(tmp_path, "a" + suffix, "b" + suffix.upper())
    assert len(find_images(tmp_path).paths) == 2


def test_hidden_is_left_out(tmp_path):
    touch(tmp_path, "a.jpg", ".b.jpg", ".hidden/c.jpg", "__MACOSX/._a.jpg")
    touch(tmp_path, "sub/Thumbs.db", "sub/@eaDir/a.jpg/thumb.jpg", "sub/.DS_Store")
    found = find_images(tmp_path)
    assert found.paths == ("a.jpg",)
    assert {each.kind for each in found.skipped} == {"left_out"}
    # No alarm, and not passed over in silence either.
    assert describe_unread(found.skipped) == "6 hidden or system files left out"


def test_root_may_be_hidden_or_at_home(tmp_path, monkeypatch):
    touch(tmp_path, ".photos/a.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_images("~/.photos").paths == ("a.jpg",)


def test_deep_folders(tmp_path):
    deep = tmp_path.joinpath(*"d" * 400)
    deep.mkdir(parents=True)
    touch(deep, "a.jpg")
    assert find_images(tmp_path).paths == ("d/" * 400 + "a.jpg",)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_names_that_are_not_utf8(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"x")
    found = find_images(tmp_path)
    (path,) = found.paths
    assert printable(path) == "caf\\xe9.jpg"
    with open(os.path.join(found.root, path), "rb") as file:
        assert file.read() == b"x"


def test_loops_end(tmp_path):
    touch(tmp_path, "a/x.jpg", "b/y.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "across").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "across").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found = find_images(tmp_path)
    assert found.paths == ("a/x.jpg", "b/y.jpg")
    assert [each.reason for each in found.skipped] == ["link to nothing"]


def test_many_links_to_each_other_stay_cheap(tmp_path):
    # Without memory of what was visited there are 12! ways through these.
    names = [f"f{index:02d}" for index in range(12)]
    touch(tmp_path, *(f"{name}/x.jpg" for name in names))
    for name in names:
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    assert len(find_images(tmp_path).paths) == 12


def test_out_of_the_folder(tmp_path):
    touch(tmp_path, "elsewhere/inner/x.jpg", "elsewhere/y.jpg", "here/a.jpg")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "y.jpg").symlink_to(tmp_path / "elsewhere" / "y.jpg")
    found = find_images(tmp_path / "here")
    assert found.paths == (
        "a.jpg",
        "linked/inner/x.jpg",
        "linked/y.jpg",
        "y.jpg",
    )


def test_a_folder_keeps_its_own_name(tmp_path):
    touch(tmp_path, "zebra/x.jpg")
    (tmp_path / "alias").symlink_to(tmp_path / "zebra")
    assert find_images(tmp_path).paths == ("zebra/x.jpg",)


def test_root_may_be_a_link(tmp_path):
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_images(tmp_path / "link").paths == ("a.jpg",)


def test_broken_links_are_listed(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find_images(tmp_path)
    assert found.paths == ("a.jpg",)
    assert [(each.path, each.reason) for each in found.skipped] == [
        ("b.jpg", "link to nothing")
    ]


def test_pipe_is_listed_not_opened(tmp_path):
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    found = find_images(tmp_path)
    assert found.paths == ("a.jpg",)
    assert found.skipped[0].reason == "not a regular file"


def test_folder_is_listed(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "locked/b.jpg", "also/c.jpg")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(tmp_path)
    assert found.paths == ("a.jpg", "also/c.jpg")
    assert [(each.path, each.reason) for each in found.skipped] == [
        ("locked", "folder can't be read: permission denied")
    ]


def test_root(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"^Can't read the folder .*: permission"):
        find_images(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "a/b", "nul\0byte", "new\nline"])
def test_no_such_folder(tmp_path, name):
    with pytest.raises(InputError, match=r"^No such folder: [^\n]*$"):
        find_images(f"{tmp_path}/{name}")


def test_empty_name():
    with pytest.raises(InputError, match=r"^No such folder: ''$"):
        find_images("")


def test_file(tmp_path):
    touch(tmp_path, "a.jpg", "set.tar.gz")
    expected = r"^Expected a folder of images, found a file: .*a\.jpg; name its"
    with pytest.raises(InputError, match=expected):
        find_images(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"set\.tar\.gz; unpack it"):
        find_images(tmp_path / "set.tar.gz")


def test_empty(tmp_path):
    (tmp_path / "sub" / "sub").mkdir(parents=True)
    with pytest.raises(InputError, match=r"^Empty folder: [^;]*; expected images"):
        find_images(tmp_path)
    touch(tmp_path, ".hidden.jpg")
    with pytest.raises(InputError, match=r"^Empty folder: .*\(1 hidden or system"):
        find_images(tmp_path)


def test_no_image(tmp_path):
    touch(tmp_path, "a.txt", "b/c.txt", "d.HEIC", "README")
    (tmp_path / "d.HEIC").unlink()
    expected = r"^No image in .*: 3 files not read: 2 \.txt, 1 without a suffix$"
    with pytest.raises(InputError, match=expected):
        find_images(tmp_path)


def test_only_unreadable(tmp_path):
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match=r"^No readable image in .*: b\.jpg: link"):
        find_images(tmp_path)


def test_content_decides(tmp_path):
    jpeg = encode(NOISE, "JPEG")
    for name in ("no_suffix", "tweet.jpg_large", "scan.dat", "photo.JPG~"):
        (tmp_path / name).write_bytes(jpeg)
    video = b"\0\0\0\x18ftypqt  " + bytes(4000)
    for name in ("a.mov", "b.MOV", "c.heic"):
        (tmp_path / name).write_bytes(video)
    (tmp_path / "notes.txt").write_bytes(b"BM is not a bitmap")
    found = find_images(tmp_path)
    # What is named as an image is left to whoever decodes it.
    assert found.paths == (
        *("c.heic", "no_suffix", "photo.JPG~", "scan.dat", "tweet.jpg_large"),
    )
    assert describe_unread(found.skipped) == "3 files not read: 2 .mov, 1 .txt"
    assert found.skipped[0].reason == "a video, not an image"


def test_pages_are_told(tmp_path):
    pages = [NOISE, NOISE.rotate(90)]
    for name in ("a.tif", "b.tiff", "scan"):
        content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
        (tmp_path / name).write_bytes(content)
    (tmp_path / "one.tif").write_bytes(encode(NOISE, "TIFF"))
    (tmp_path / "cut.tif").write_bytes(content[:6])
    found = find_images(tmp_path)
    assert found.notes == (
        "3 TIFF files have several pages, of which the first is read: a.tif and "
        "others.",
    )
    assert found.paths == ("a.tif", "b.tiff", "cut.tif", "one.tif", "scan")


def test_what_was_not_read_in_one_line():
    assert describe_unread([]) == ""
    skipped = [SkippedImage(f"{n}.jpg", "empty file") for n in range(2)]
    skipped += [SkippedImage("9.JPG", "truncated JPEG file")]
    skipped += [SkippedImage(f"{n}.mov", "a video", "other") for n in range(1200)]
    skipped += [SkippedImage(".DS_Store", HIDDEN, "left_out")]
    skipped += [SkippedImage(f"a.x{n}", "text", "other") for n in range(9)]
    assert describe_unread(skipped) == (
        "1,212 files not read: 1,200 .mov, 3 .jpg (most often: empty file), 1 .x0, "
        "1 .x1, 1 .x2, 1 .x3, 5 others; 1 hidden or system files left out"
    )


def test_first_folder_is_the_class():
    labels, names = folder_labels(["b/1.jpg", "a/x/2.jpg", "b/a/3.jpg", "B/4.jpg"])
    assert names == ("B", "a", "b")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [2, 1, 2, 0])


def test_image_in_the_root():
    with pytest.raises(InputError, match=r"class, found 1\.jpg and 1 more in none"):
        folder_labels(["a/0.jpg", "1.jpg", "2.jpg"])
    with pytest.raises(InputError, match=r"found 1\.jpg in none$"):
        folder_labels(["1.jpg"])
