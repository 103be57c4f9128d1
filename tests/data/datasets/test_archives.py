"""Archives that want out of their folder, are damaged, or are too large."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile

import pytest

from mca_jax.core.errors import InputError
from mca_jax.data.datasets.archives import unpack

LIMITS = {"top": "set", "max_bytes": 10_000, "max_files": 10}


def tar_entry(name, content=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def write_tar(path, *entries, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, *entries, unix_type=stat.S_IFREG):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (unix_type | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def refused(archive, message, **limits):
    """Unpack beside a canary; return nothing, since nothing may be left."""
    folder = archive.parent / "in" / "here"
    folder.mkdir(parents=True)
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(InputError, match=message) as caught:
        unpack(archive, folder, **{**LIMITS, **limits})
    assert sorted(archive.parent.rglob("*")) == before
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_a_tar_archive(mode, tmp_path):
    entries = [
        tar_entry("set", kind=tarfile.DIRTYPE),
        tar_entry("set/a/b.txt", b"one"),
        tar_entry("./set/c.txt", b""),
        tar_entry("beside.txt"),
    ]
    archive = write_tar(tmp_path / "set.tar", *entries, mode=mode)
    folder = unpack(archive, tmp_path, **LIMITS)
    assert folder == tmp_path / "set"
    assert (folder / "a" / "b.txt").read_bytes() == b"one"
    assert (folder / "c.txt").read_bytes() == b""
    assert {path.name for path in tmp_path.iterdir()} == {"set", "set.tar"}


def test_a_zip_archive(tmp_path):
    archive = write_zip(tmp_path / "set.zip", ("set/a/b.txt", b"one"), ("set/e/", b""))
    assert (unpack(archive, tmp_path, **LIMITS) / "a" / "b.txt").read_bytes() == b"one"


def test_special_modes_of_an_archive_do_not_count(tmp_path):
    info, content = tar_entry("set/run.sh", b"#!/bin/sh\n")
    info.mode = 0o6777
    folder = unpack(
        write_tar(tmp_path / "set.tar", (info, content)), tmp_path, **LIMITS
    )
    assert not (folder / "run.sh").stat().st_mode & 0o7022


@pytest.mark.parametrize("name", ["set/../../x", "set/a/../../../x"])
def test_a_path_of_a_tar_archive_out_of_the_folder(name, tmp_path):
    archive = write_tar(tmp_path / "set.tar", tar_entry("set/a"), tar_entry(name))
    refused(archive, "outside the destination; nothing is unpacked")


@pytest.mark.parametrize("name", ["/etc/x", "../x", "..\\x", "C:/x"])
@pytest.mark.parametrize("write", ["tar", "zip"])
def test_paths_beside_the_folder_are_left_out(name, write, tmp_path):
    here = tmp_path / "in" / "here"
    here.mkdir(parents=True)
    if write == "tar":
        archive = write_tar(tmp_path / "set.tar", tar_entry("set/a"), tar_entry(name))
    else:
        archive = write_zip(tmp_path / "set.zip", ("set/a", b"x"), (name, b"x"))
    unpack(archive, here, **LIMITS)
    assert files_below(tmp_path) == {archive, here / "set" / "a"}


def files_below(folder):
    return {path for path in folder.rglob("*") if not path.is_dir()}


def test_a_path_of_a_zip_archive_stays_in_the_folder(tmp_path):
    here = tmp_path / "in" / "here"
    here.mkdir(parents=True)
    archive = write_zip(tmp_path / "set.zip", ("set/../../x", b"x"), ("set/a", b"x"))
    folder = unpack(archive, here, **LIMITS)
    assert files_below(tmp_path) == {archive, folder / "x", folder / "a"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../../.."])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_of_a_tar_archive(kind, target, tmp_path):
    link = tar_entry("set/link", kind=kind, link=target)
    inside = tar_entry("set/link/x")
    archive = write_tar(tmp_path / "set.tar", tar_entry("set/a"), link, inside)
    refused(archive, "link")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(kind, tmp_path):
    archive = write_tar(tmp_path / "set.tar", tar_entry("set/null", kind=kind))
    refused(archive, "special file")


def test_a_link_of_a_zip_archive_is_a_file(tmp_path):
    archive = write_zip(
        tmp_path / "set.zip", ("set/x", b"/etc"), unix_type=stat.S_IFLNK
    )
    path = unpack(archive, tmp_path, **LIMITS) / "x"
    assert not path.is_symlink()
    assert path.read_bytes() == b"/etc"


@pytest.mark.parametrize("write", ["tar", "zip"])
def test_bombs(write, tmp_path):
    # A million zeros pack into a thousand bytes.
    content = bytes(1_000_000)
    if write == "tar":
        archive = write_tar(tmp_path / "set.tar", tar_entry("set/zeros", content))
    else:
        archive = write_zip(tmp_path / "set.zip", ("set/zeros", content))
    assert archive.stat().st_size < 10_000
    refused(archive, "unpacks to more than")


def test_a_bomb_outside_of_the_folder_that_is_wanted(tmp_path):
    entries = [tar_entry("other/zeros", bytes(20_000)), tar_entry("set/a")]
    refused(write_tar(tmp_path / "set.tar", *entries), "unpacks to more than")


def test_too_many_files(tmp_path):
    entries = [tar_entry(f"set/{number}", b"") for number in range(11)]
    refused(write_tar(tmp_path / "set.tar", *entries), "or 10 files")


def test_a_zip_archive_that_lies_about_its_size(tmp_path):
    archive = write_zip(tmp_path / "set.zip", ("set/zeros", bytes(9_000)))
    content = bytearray(archive.read_bytes())
    size = (9_000).to_bytes(4, "little")
    assert content.count(size) == 2
    archive.write_bytes(bytes(content).replace(size, (9).to_bytes(4, "little")))
    refused(archive, "damaged or truncated")


def test_a_file_that_is_a_folder_as_well(tmp_path):
    entries = [tar_entry("set/a", b"one"), tar_entry("set/a/b", b"two")]
    refused(write_tar(tmp_path / "set.tar", *entries), "set.tar")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("write", ["tar", "zip"])
def test_truncated_archives(write, keep, tmp_path):
    content = bytes(range(256)) * 30
    if write == "tar":
        archive = write_tar(tmp_path / "set.tar", tar_entry("set/a", content))
    else:
        archive = write_zip(tmp_path / "set.zip", ("set/a", content))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * keep)])
    refused(archive, "damaged or truncated")


def test_a_changed_byte(tmp_path):
    import random

    content = random.Random(0).randbytes(5_000)
    archive = write_zip(tmp_path / "set.zip", ("set/a", content))
    damaged = bytearray(archive.read_bytes())
    damaged[2_000] ^= 1
    archive.write_bytes(damaged)
    refused(archive, "damaged or truncated")


def test_a_changed_byte_of_an_xz(tmp_path):
    archive = write_tar(
        tmp_path / "set.tar", tar_entry("set/a", bytes(3000)), mode="w:xz"
    )
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    archive.write_bytes(damaged)
    refused(archive, "damaged or truncated")


def test_a_name_of_a_zip_archive_that_is_no_text(tmp_path):
    archive = write_zip(tmp_path / "set.zip", ("set/é", b"x"))
    # The name is said to be UTF-8.
    archive.write_bytes(archive.read_bytes().replace("é".encode(), b"\xff\xfe"))
    refused(archive, "damaged or truncated")


def test_another_file_under_the_name_of_an_archive(tmp_path):
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(b"<html>Not found</html>" * 100)
    refused(archive, "damaged or truncated")


def test_another_archive(tmp_path):
    archive = write_tar(tmp_path / "set.tar", tar_entry("other/a"))
    refused(archive, "Expected a folder 'set'")


def test_a_locked_zip_archive(tmp_path):
    archive = write_zip(tmp_path / "set.zip", ("set/a", b"x"))
    content = bytearray(archive.read_bytes())
    # The bit that says "encrypted", in both headers of the entry.
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + place] |= 1
    archive.write_bytes(content)
    refused(archive, "damaged or truncated.*password")


def test_a_folder_that_takes_no_files(tmp_path):
    archive = write_tar(tmp_path / "set.tar", tar_entry("set/a"))
    with pytest.raises(InputError, match="Can't unpack .*--data_dir"):
        unpack(archive, tmp_path / "nowhere", **LIMITS)
