"""When a file counts as the one that was read."""

from __future__ import annotations

import os
import time

from mca_jax.data.files import identify_file, read_file


def set_age(path, seconds):
    then = time.time_ns() - seconds * 10**9
    os.utime(path, ns=(then, then))


def test_none_for_what_is_new(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    set_age(path, 100)
    # The change time is now, whatever the modification time says.
    assert read_file(str(path)) == (b"x", None)


def test_identity_of_what_is_old(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    content, identity = read_file(str(path))
    assert content == b"x"
    assert identity is not None
    assert identity == identify_file(str(path))
    assert identity.size == 1


def test_set_back_times_are_seen(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = identify_file(str(path))
    assert before is not None
    time.sleep(0.02)
    path.write_bytes(b"y")
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    after = identify_file(str(path))
    assert after is not None
    assert after[:2] == before[:2]
    assert after != before


def test_nothing_there(tmp_path):
    assert identify_file(str(tmp_path / "gone")) is None
    assert identify_file(str(tmp_path)) is None
    assert identify_file("nul\0byte") is None
