"""The cache survives damage, a full disk, Ctrl-C and a kill."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from small_encoder import (
    build_small_encoder,
    chunk_files,
    count_reads,
    write_images,
)

from mca_jax.core.errors import InputError
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


def flip(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[-3] ^= 16
    return bytes(changed)


damages = pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"\x93NUMPY",
        lambda content: content + b"\0",
        lambda content: pickle.dumps({"digest": 1}),
    ],
    ids=["bit", "half", "empty", "header", "longer", "pickle"],
)


@damages
def test_chunk(encoder, folder, tmp_path, small_chunks, later, damage):
    def run():
        return embed_images(
            encoder, find_images(folder), batch_size=4, cache_dir=tmp_path / "c"
        )

    first = run()
    files = {path.name: path.read_bytes() for path in chunk_files(tmp_path / "c")}
    target = chunk_files(tmp_path / "c")[2]
    count = len(np.load(target))
    target.write_bytes(damage(target.read_bytes()))
    second = run()
    (warning,) = second.warnings
    assert target.name in warning
    assert "\n" not in warning
    assert second.num_computed == count
    np.testing.assert_array_equal(second.embeddings, first.embeddings)
    third = run()
    assert third.warnings == ()
    assert third.num_computed == 0
    again = {path.name: path.read_bytes() for path in chunk_files(tmp_path / "c")}
    assert again == files


@damages
def test_index(encoder, folder, tmp_path, later, damage):
    first = embed_images(encoder, find_images(folder), cache_dir=tmp_path / "c")
    (index,) = tmp_path.glob("c/*/files.index")
    index.write_bytes(damage(index.read_bytes()))
    source, reads = count_reads(folder)
    second = embed_images(encoder, source, cache_dir=tmp_path / "c")
    (warning,) = second.warnings
    assert "files.index was removed; all files are read again" in warning
    assert len(reads) == 21
    assert second.num_computed == 0
    np.testing.assert_array_equal(second.embeddings, first.embeddings)
    source, reads = count_reads(folder)
    assert embed_images(encoder, source, cache_dir=tmp_path / "c").warnings == ()
    assert reads == []


def test_pickle_under_the_right_name_is_not_run(encoder, folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    embed_images(encoder, find_images(folder), cache_dir=tmp_path / "c")
    (sub,) = (tmp_path / "c").iterdir()
    path = sub / "x.npy"
    np.save(path, np.asarray([Bomb()], object), allow_pickle=True)
    name = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    path.rename(sub / f"chunk-{name}.npy")
    found = embed_images(encoder, find_images(folder), cache_dir=tmp_path / "c")
    assert len(found.warnings) == 1
    assert not (tmp_path / "exploded").exists()


def run(encoder, folder, cache_dir, **options):
    return embed_images(
        encoder, find_images(folder), batch_size=4, cache_dir=cache_dir, **options
    )


@pytest.mark.parametrize("chunk_size", [4, 512])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_what_is_done_is_kept(encoder, folder, tmp_path, monkeypatch, kind, chunk_size):
    monkeypatch.setattr(cache_module, "CHUNK_SIZE", chunk_size)
    done = 0

    def stop(count):
        nonlocal done
        done += count
        if done >= 12:
            raise kind

    with pytest.raises(kind) as caught:
        run(encoder, folder, tmp_path / "c", progress=stop)
    (note,) = caught.value.__notes__
    assert note.startswith("12 embeddings are kept in ")
    rest = run(encoder, folder, tmp_path / "c")
    assert rest.num_computed == 9
    plain = embed_images(encoder, find_images(folder), batch_size=4)
    assert rest.embeddings.tobytes() == plain.embeddings.tobytes()


@pytest.mark.parametrize("target", ["fsync", "replace"])
def test_full_disk(encoder, folder, tmp_path, small_chunks, monkeypatch, target):
    original = getattr(os, target)
    calls = []

    def fill_up(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(os, target, fill_up)
    expected = (
        r"^Can't write the embedding cache .*: no space left on device; make room "
        r"and run it again, 12 embeddings are kept there$"
    )
    with pytest.raises(InputError, match=expected):
        run(encoder, folder, tmp_path / "c")
    monkeypatch.setattr(os, target, original)
    assert not list(tmp_path.glob("c/*/.*"))
    rest = run(encoder, folder, tmp_path / "c")
    assert rest.warnings == ()
    assert rest.num_computed == 9


def test_full_disk_while_interrupted(encoder, folder, tmp_path, monkeypatch):
    def refuse(path, *, shared):
        raise OSError(errno.ENOSPC, "No space left on device")

    def stop(count):
        if count:
            raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "open_atomic", refuse)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(encoder, folder, tmp_path / "c", progress=stop)
    assert "no space left on device" in caught.value.__notes__[0]


@pytest.mark.parametrize("where", ["cache", "cache/sub"])
def test_cache_that_is_a_file(encoder, folder, tmp_path, where):
    (tmp_path / "cache").touch()
    expected = r"^Can't use the embedding cache [^\n]*; choose a folder that can be"
    with pytest.raises(InputError, match=expected):
        run(encoder, folder, tmp_path / where)


def test_chunk_that_may_not_be_read(encoder, folder, tmp_path, monkeypatch):
    run(encoder, folder, tmp_path / "c")

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(InputError, match=r"^Can't read .*: permission denied;"):
        run(encoder, folder, tmp_path / "c")
    monkeypatch.undo()
    assert len(chunk_files(tmp_path / "c")) == 1
