"""Large sets, several devices and several hosts."""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from small_encoder import (
    WIDTH,
    build_small_encoder,
    chunk_files,
    expected_embeddings,
    write_images,
)

from mca_jax.core.errors import InputError
from mca_jax.data import find_images, open_source
from mca_jax.encoders import embed_images as store_module
from mca_jax.encoders.cache import embedding_cache as cache_module
from mca_jax.encoders.embed_images import embed_images, even_shares
from mca_jax.encoders.encoder import compile_encoder


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_images(images, 21)
    return images


@pytest.mark.parametrize(
    ("batch_size", "devices"),
    [(8, 8), (4, 4), (6, 6), (20, 5), (7, 7), (1, 1), (11, 1)],
)
def test_a_batch_is_split_over_the_devices_that_divide_it(batch_size, devices):
    encoder = build_small_encoder()
    pixels = np.zeros((batch_size, 8, 8, 3), np.uint8) + 7
    with jax.default_device(None):
        run = compile_encoder(encoder.encode_images, encoder.params, batch_size)
        found = run(pixels)
    assert len(found.sharding.device_set) == devices
    shapes = {shard.data.shape for shard in found.addressable_shards}
    assert shapes == {(batch_size // devices, WIDTH)}
    plain = encoder.encode_images(encoder.params, pixels)
    np.testing.assert_allclose(found, plain, atol=2e-6)


def test_a_chosen_device_is_the_only_one():
    encoder = build_small_encoder()
    with jax.default_device(jax.devices()[3]):
        run = compile_encoder(encoder.encode_images, encoder.params, 8)
        assert run(np.zeros((8, 8, 8, 3), np.uint8)).devices() == {jax.devices()[3]}


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 21, 1000])
def test_hosts_share_all_rows_evenly(count, hosts):
    shares = even_shares(count, hosts)
    assert [row for share in shares for row in share] == list(range(count))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_large_sets_are_mapped_from_a_file_that_goes_away(
    folder, tmp_path, monkeypatch, dtype
):
    (folder / "003.png").write_bytes(b"")
    encoder = build_small_encoder()
    plain = embed_images(encoder, find_images(folder), batch_size=4, dtype=dtype)
    monkeypatch.setattr(store_module, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(store_module, "_BLOCK", 4)
    for _ in range(2):
        found = embed_images(
            encoder,
            find_images(folder),
            batch_size=4,
            cache_dir=tmp_path / "c",
            dtype=dtype,
        )
        assert isinstance(found.embeddings, np.memmap)
        assert found.embeddings.dtype == dtype
        np.testing.assert_array_equal(found.embeddings, plain.embeddings)
        np.testing.assert_array_equal(found.rows, [r for r in range(21) if r != 3])
    names = {path.name for path in (tmp_path / "c").glob("*/*")}
    assert all(name.startswith(("chunk-", "files")) for name in names)


def test_no_room_for_the_mapped_file(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_IN_MEMORY_BYTES", 0)

    def refuse(**options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="no space left on device; make room"):
        embed_images(
            build_small_encoder(), find_images(folder), cache_dir=tmp_path / "c"
        )


def test_half_precision_is_rounded_once(folder, tmp_path):
    encoder = build_small_encoder()
    images = find_images(folder)
    whole = embed_images(encoder, images, cache_dir=tmp_path / "c")
    for computed in (21, 0):
        found = embed_images(encoder, images, cache_dir=tmp_path / "c", dtype="float16")
        assert found.num_computed == computed
        np.testing.assert_array_equal(
            found.embeddings, whole.embeddings.astype(np.float16)
        )
    sizes = [np.load(path).itemsize for path in chunk_files(tmp_path / "c")]
    assert sorted(sizes) == [32 + 2 * WIDTH, 32 + 4 * WIDTH]
    with pytest.raises(InputError, match="Unknown dtype 'int8'"):
        embed_images(encoder, images, dtype="int8")


def test_more_chunks_than_a_program_may_open_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK_SIZE", 1)
    monkeypatch.setattr(cache_module, "_MOST_MAPPED", 4)
    encoder = build_small_encoder()
    count = 200
    write_images(folder, count)
    images = find_images(folder)
    first = embed_images(encoder, images, batch_size=1, cache_dir=tmp_path / "c")
    assert len(chunk_files(tmp_path / "c")) == count
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 40, limits[1]))
    try:
        found = embed_images(encoder, images, batch_size=1, cache_dir=tmp_path / "c")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found.num_computed == 0
    np.testing.assert_array_equal(found.embeddings, first.embeddings)


def test_the_index_is_written_on_the_way(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_INDEX_EVERY", 8)
    monkeypatch.setattr(cache_module, "CHUNK_SIZE", 4)
    # Files of the last seconds may still change, and aren't listed.
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    source = open_source(find_images(folder))
    identities = [source.identify(row) for row in range(21)]

    def read(row):
        return source.read(row)[0], identities[row]

    settled = source._replace(read=read)
    seen = []

    def look(count):
        seen.append(len(list(tmp_path.glob("c/*/files.index"))))

    embed_images(
        build_small_encoder(),
        settled,
        batch_size=4,
        cache_dir=tmp_path / "c",
        progress=look,
    )
    assert seen[0] == 0
    assert seen[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "kept", ["nowhere", "in memory", "in a file", "in folders of their own"]
)
def test_two_hosts_embed_half_each_and_have_all(folder, tmp_path, kept):
    (folder / "003.png").write_bytes(b"")
    (folder / "015.png").write_bytes(b"<html>")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cached = kept != "nowhere"
    apart = kept == "in folders of their own"
    caches = [str(tmp_path / f"c{index * apart}") if cached else "" for index in (0, 1)]
    script = Path(__file__).with_name("two_hosts.py")
    environment = {**os.environ, "PJRT_NPROC": "16", "JAX_PLATFORMS": "cpu"}
    hosts = [
        subprocess.Popen(
            [
                *(sys.executable, str(script), str(index), str(port)),
                *(str(folder), str(tmp_path), caches[index]),
                "mapped" if kept != "in memory" else "",
            ],
            env=environment,
        )
        for index in range(2)
    ]
    assert [host.wait(timeout=120) for host in hosts] == [0, 0]
    said = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    assert [each.pop("own") for each in said] == [10, 11]
    # One file for both, where both see it; nothing is left of it.
    shared = kept == "in a file"
    assert [each.pop("file") for each in said] == [".shared" if shared else ""] * 2
    tables = [each.pop("tables") for each in said]
    assert tables[0] == tables[1]
    assert len(tables[0]) == shared
    assert not list(tmp_path.glob("c*/*/*.shared"))
    assert said[0] == said[1]
    assert said[0]["computed"] == 19
    reasons = ["empty file", "text such as HTML, SVG or AAE, not an image"]
    assert said[0]["skipped"] == [["003.png", reasons[0]], ["015.png", reasons[1]]]
    arrays = [np.load(tmp_path / f"{i}.npy") for i in range(2)]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    paths = [folder / path for path in said[0]["paths"]]
    expected = expected_embeddings(build_small_encoder(), paths)
    np.testing.assert_allclose(arrays[0], expected, atol=2e-6)
    if cached and not apart:
        indices = {path.name for path in tmp_path.glob("c0/*/files-*.index")}
        assert indices <= {"files-0.index", "files-1.index"}
        assert sum(len(np.load(path)) for path in chunk_files(tmp_path / "c0")) == 19
