"""Files that are whole or not there, whatever breaks their writing off."""

import os
import resource
import stat

import pytest

from mca_jax.core.atomic_files import open_atomic, write_file, write_parts
from mca_jax.core.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_files_are_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "one\r\ntwo ü\n")
    assert path.read_bytes() == "one\r\ntwo ü\n".encode()
    write_parts(path, iter([b"\0", "é", memoryview(b"x")]))
    assert path.read_bytes() == b"\0\xc3\xa9x"
    assert names(tmp_path) == ["a.txt"]
    # As any program would make it, so that others may read what they may.
    other = tmp_path / "b.txt"
    other.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_without_room_the_old_file_stays(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to write on, as it does where a disk is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a\.txt': File too large; .* make room"):
            write_file(path, "new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_in_the_way_is_named_with_what_to_do(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match=r"a\.txt': Is a directory; choose another"):
        write_file(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


def test_an_interrupt_leaves_no_half_file(tmp_path):
    def parts():
        yield "half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path / "a.txt", parts())
    assert names(tmp_path) == []


def test_two_processes_may_write_one_file(tmp_path):
    path = tmp_path / "a.txt"
    with open_atomic(path, shared=True) as ours, open_atomic(path) as theirs:
        theirs.write(b"theirs")
        ours.write(b"ours")
        assert names(tmp_path) == sorted([".a.txt.tmp", f".a.txt.{os.getpid()}.tmp"])
    assert path.read_bytes() == b"ours"
    assert names(tmp_path) == ["a.txt"]
