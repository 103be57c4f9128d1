"""The cache: what is kept, what is read again, what is recomputed."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from small_encoder import (
    build_small_encoder,
    chunk_files,
    count_reads,
    expected_embeddings,
    write_images,
)

from mca_jax.data import find_images
from mca_jax.encoders.cache import embedding_cache as cache_module
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.encoder import Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_small_encoder()


@pytest.fixture
def folder(tmp_path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    write_images(images, 21)
    return images


@pytest.fixture
def later(monkeypatch):
    """Makes the test's files old enough for the index to trust."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 5 * 10**9)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK_SIZE", 4)


@pytest.fixture
def cache_dir(tmp_path) -> Path:
    return tmp_path / "cache"


def test_same_bits_with_and_without(encoder, folder, cache_dir):
    plain = embed_images(encoder, find_images(folder), batch_size=4)
    for computed in (21, 0):
        found = embed_images(
            encoder, find_images(folder), batch_size=4, cache_dir=cache_dir
        )
        assert found.num_computed == computed
        assert found.embeddings.tobytes() == plain.embeddings.tobytes()
        np.testing.assert_array_equal(found.rows, plain.rows)
        assert found[2:5] == plain[2:5]


def test_unchanged_files_are_not_read(encoder, folder, cache_dir, later):
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    source, reads = count_reads(folder)
    found = embed_images(encoder, source, cache_dir=cache_dir)
    assert reads == []
    assert found.num_computed == 0


def test_fresh_files_are_read_again(encoder, folder, cache_dir):
    # They might change again without a new time.
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    source, reads = count_reads(folder)
    found = embed_images(encoder, source, cache_dir=cache_dir)
    assert len(reads) == 21
    assert found.num_computed == 0


def test_renamed_moved_changed_and_new(encoder, folder, cache_dir, later):
    embed_images(encoder, find_images(folder), batch_size=4, cache_dir=cache_dir)
    (folder / "000.png").rename(folder / "renamed.png")
    (folder / "sub").mkdir()
    (folder / "001.png").rename(folder / "sub" / "moved.png")
    write_images(folder, 2, start=100)
    (folder / "101.png").rename(folder / "002.png")
    (folder / "003.png").unlink()
    os.utime(folder / "004.png")
    source, reads = count_reads(folder)
    found = embed_images(encoder, source, batch_size=4, cache_dir=cache_dir)
    names = [source.names[row] for row in sorted(reads)]
    assert names == [
        "002.png",
        "004.png",
        "100.png",
        "renamed.png",
        "sub/moved.png",
    ]
    assert found.num_computed == 2
    paths = [folder / path for path in found.paths]
    np.testing.assert_allclose(
        found.embeddings, expected_embeddings(encoder, paths), atol=2e-6
    )


def test_folder_moved_as_a_whole(encoder, folder, cache_dir, later):
    before = embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    moved = folder.rename(folder.with_name("elsewhere"))
    after = embed_images(encoder, find_images(moved), cache_dir=cache_dir)
    assert after.num_computed == 0
    np.testing.assert_array_equal(after.embeddings, before.embeddings)


def test_change_that_sets_back_the_time(encoder, folder, cache_dir, later):
    path = folder / "000.png"
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    before = path.stat()
    changed = bytearray(path.read_bytes())
    # After the image: another content of the same length, still readable.
    changed[-1] ^= 1
    time.sleep(0.02)
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    source, reads = count_reads(folder)
    embed_images(encoder, source, cache_dir=cache_dir)
    assert reads == [0]


def test_relative_root_from_another_place(
    encoder, folder, cache_dir, later, monkeypatch
):
    monkeypatch.chdir(folder.parent)
    embed_images(encoder, find_images(folder.name), cache_dir=cache_dir)
    monkeypatch.chdir(folder)
    source, reads = count_reads(Path("../images"))
    embed_images(encoder, source, cache_dir=cache_dir)
    assert reads == []


def test_encoders_do_not_mix(encoder, folder, cache_dir):
    first = embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    other = build_small_encoder("second")
    other.params["matrix"] = -other.params["matrix"]
    second = embed_images(other, find_images(folder), cache_dir=cache_dir)
    assert second.num_computed == 21
    np.testing.assert_array_equal(second.embeddings, -first.embeddings)
    assert len(list(cache_dir.iterdir())) == 2
    assert all(path.name.startswith("small-one-") for path in cache_dir.iterdir())


def test_arrays_cached(encoder, cache_dir):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    first = embed_images(encoder, pixels, cache_dir=cache_dir)
    second = embed_images(encoder, pixels[::-1], cache_dir=cache_dir)
    assert second.num_computed == 0
    np.testing.assert_array_equal(second.embeddings, first.embeddings[::-1])


def test_chunks(encoder, folder, cache_dir, small_chunks):
    embed_images(encoder, find_images(folder), batch_size=3, cache_dir=cache_dir)
    chunks = [np.load(path, allow_pickle=False) for path in chunk_files(cache_dir)]
    # A chunk ends where a batch ends.
    assert sorted(len(chunk) for chunk in chunks) == [3, 6, 6, 6]
    digests = {digest.tobytes() for chunk in chunks for digest in chunk["digest"]}
    expected = {
        hashlib.sha256(b"file 1\n" + path.read_bytes()).digest()
        for path in folder.iterdir()
    }
    assert digests == expected


def test_bad_files_are_tried_again(encoder, folder, cache_dir, later):
    good = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(good[:60])
    found = embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    assert [each.path for each in found.skipped] == ["003.png"]
    (folder / "003.png").write_bytes(good)
    found = embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    assert found.skipped == ()
    assert found.num_computed == 1


def test_two_folders_share_a_cache(encoder, folder, cache_dir, later):
    other = folder.with_name("other")
    other.mkdir()
    write_images(other, 3, start=19)
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    found = embed_images(encoder, find_images(other), cache_dir=cache_dir)
    assert found.num_computed == 1
    for each in (folder, other):
        source, reads = count_reads(each)
        embed_images(encoder, source, cache_dir=cache_dir)
        assert reads == []


def test_writes_nothing_when_nothing_is_new(
    encoder, folder, cache_dir, later, monkeypatch
):
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)

    def refuse(path, *, shared):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cache_module, "open_atomic", refuse)
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)


def test_leftovers(encoder, folder, cache_dir):
    embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    (sub,) = cache_dir.iterdir()
    old, new = sub / ".chunk-old.npy.tmp", sub / ".chunk-new.npy.tmp"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    found = embed_images(encoder, find_images(folder), cache_dir=cache_dir)
    assert found.warnings == ()
    # Another run may be writing the new one.
    assert not old.exists()
    assert new.exists()
