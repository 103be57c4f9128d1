"""Embedding a set: right rows, once each, bounded and in one compilation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_encoder import (
    WIDTH,
    build_small_encoder,
    expected_embeddings,
    write_images,
)

from mca_jax.core.errors import InputError
from mca_jax.data import find_images
from mca_jax.encoders import embed_images as store_module
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


@pytest.mark.parametrize("batch_size", [1, 4, 7, 32])
def test_each_row_is_its_image(encoder, folder, batch_size):
    found = embed_images(encoder, find_images(folder), batch_size=batch_size)
    paths = [folder / path for path in found.paths]
    assert found.embeddings.dtype == np.float32
    assert found.embeddings.shape == (21, WIDTH)
    # Summation order differs between batch sizes: some units in the last
    # of float32's 24 bits.
    np.testing.assert_allclose(
        found.embeddings, expected_embeddings(encoder, paths), atol=2e-6
    )
    np.testing.assert_array_equal(found.rows, np.arange(21))
    assert found.root == str(folder)
    assert found.num_computed == 21
    assert found.skipped == ()
    assert found.warnings == ()


def test_threads_change_nothing(encoder, folder):
    found = [
        embed_images(encoder, find_images(folder), batch_size=4, threads=threads)
        for threads in (1, 2, 7)
    ]
    for each in found[1:]:
        np.testing.assert_array_equal(each.embeddings, found[0].embeddings)


def test_arrays(encoder):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    found = embed_images(encoder, pixels, batch_size=4)
    direct = np.asarray(encoder.encode_images(encoder.params, pixels))
    np.testing.assert_allclose(found.embeddings, direct, atol=2e-6)
    assert found.paths[8] == "row-000008"
    assert found.root == ""


@pytest.mark.parametrize("form", ["folder", "paths", "pictures"])
def test_folders_and_lists_embed_alike(encoder, folder, tmp_path, form):
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    files = sorted(folder.iterdir())
    expected = embed_images(encoder, find_images(folder), batch_size=4)
    images = {
        "folder": lambda: folder,
        "paths": lambda: files,
        "pictures": lambda: map(Image.open, files),
    }[form]
    for computed in (21, 0):
        found = embed_images(encoder, images(), batch_size=4, cache_dir=tmp_path / "c")
        assert found.num_computed == computed
        assert found.embeddings.tobytes() == expected.embeddings.tobytes()
    if form == "paths":
        assert found.paths == tuple(map(str, files))


def test_one_compilation_for_all_batches_and_calls(folder):
    traces: list[int] = []
    encoder = build_small_encoder(traces=traces)
    for _ in range(2):
        embed_images(encoder, find_images(folder), batch_size=4)
    assert len(traces) == 1


def test_unreadable_files_are_skipped_and_listed(encoder, folder):
    (folder / "003.png").write_bytes(b"")
    (folder / "007.png").write_bytes(b"<html>")
    (folder / "zzz.jpg").symlink_to(folder / "nowhere")
    found = embed_images(encoder, find_images(folder), batch_size=4)
    assert [(each.path, each.reason) for each in found.skipped] == [
        ("zzz.jpg", "link to nothing"),
        ("003.png", "empty file"),
        ("007.png", "text such as HTML, SVG or AAE, not an image"),
    ]
    kept = [row for row in range(21) if row not in (3, 7)]
    np.testing.assert_array_equal(found.rows, kept)
    assert found.paths == tuple(f"{row:03d}.png" for row in kept)
    paths = [folder / path for path in found.paths]
    np.testing.assert_allclose(
        found.embeddings, expected_embeddings(encoder, paths), atol=2e-6
    )


@pytest.mark.parametrize("cached", [False, True])
def test_repeated_images_are_embedded_once(encoder, folder, tmp_path, cached):
    shutil.copy(folder / "000.png", folder / "500.png")
    shutil.copy(folder / "020.png", folder / "010.png")
    cache_dir = tmp_path / "cache" if cached else None
    found = embed_images(
        encoder, find_images(folder), batch_size=4, cache_dir=cache_dir
    )
    assert found.num_computed == 20
    assert len(found.paths) == 22
    np.testing.assert_array_equal(found.embeddings[0], found.embeddings[21])
    np.testing.assert_array_equal(found.embeddings[10], found.embeddings[20])


@pytest.mark.parametrize("cached", [False, True])
def test_progress_counts_every_image_once(encoder, folder, tmp_path, cached):
    (folder / "003.png").write_bytes(b"")
    shutil.copy(folder / "000.png", folder / "500.png")
    cache_dir = tmp_path / "cache" if cached else None
    for _ in range(2):
        counts: list[int] = []
        embed_images(
            encoder,
            find_images(folder),
            batch_size=4,
            cache_dir=cache_dir,
            progress=counts.append,
        )
        assert sum(counts) == 22


def test_nothing_readable(encoder, folder):
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    expected = (
        r"^No readable image in .*images among 21; the first, 000\.png: not an image"
    )
    with pytest.raises(InputError, match=expected):
        embed_images(encoder, find_images(folder))


def test_embeddings_that_are_not_finite(encoder, folder, tmp_path):
    # A black image gives the zero vector, whose norm divides zero by zero.
    Image.new("RGB", (8, 8)).save(folder / "005.png")
    shutil.copy(folder / "005.png", folder / "006.png")
    for _ in range(2):
        found = embed_images(encoder, find_images(folder), cache_dir=tmp_path / "cache")
        reason = "the encoder gives no finite embedding"
        assert [(each.path, each.reason) for each in found.skipped] == [
            ("005.png", reason),
            ("006.png", reason),
        ]
        assert np.isfinite(found.embeddings).all()
        assert len(found.paths) == 19


def test_encoder_that_lies_about_its_width(encoder, folder):
    liar = encoder._replace(width=WIDTH + 1)
    with pytest.raises(ValueError, match=r"^Expected embeddings \(32, 7\) of small"):
        embed_images(liar, find_images(folder))


def test_bad_numbers(encoder, folder):
    images = find_images(folder)
    with pytest.raises(InputError, match=r"^Expected batch_size at least 1, found 0$"):
        embed_images(encoder, images, batch_size=0)
    with pytest.raises(InputError, match=r"^Expected threads at least 1, found 0$"):
        embed_images(encoder, images, threads=0)


def test_decoding_goes_on_while_the_encoder_computes(encoder, folder, monkeypatch):
    """The next batch is asked for before the last one is waited for."""
    events: list[str] = []
    original_batches = store_module.load_batches

    def batches(*arguments, **options):
        for batch in original_batches(*arguments, **options):
            events.append("decoded")
            yield batch

    def done(count):
        events.extend(["encoded"] * (count > 0))

    monkeypatch.setattr(store_module, "load_batches", batches)
    embed_images(encoder, find_images(folder), batch_size=7, progress=done)
    assert events == ["decoded"] * 2 + ["encoded", "decoded", "encoded", "encoded"]
