"""Batches: order, padding, bounded memory, and threads that end."""

from __future__ import annotations

import hashlib
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.data import Batch, find_images, load_batches, load_image, open_source
from mca_jax.data.prefetch import map_ahead

SIZE = (2, 3)


def preprocess(image: Image.Image) -> np.ndarray:
    """Two rows of three pixels."""
    return np.asarray(image.resize((3, 2), Image.Resampling.BOX))


def load(source, **options) -> list[Batch]:
    return list(
        load_batches(open_source(source), preprocess, image_size=SIZE, **options)
    )


def reading_threads() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("mca-jax-read")
    ]


@pytest.fixture
def folder(tmp_path):
    """Ten images, each of one grey level: 0, 10, ... 90."""
    for index in range(10):
        image = Image.new("RGB", (8 + index, 6), (10 * index,) * 3)
        image.save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 16])
def test_order_padding_and_mask(folder, batch_size, threads):
    batches = load(find_images(folder), batch_size=batch_size, threads=threads)
    assert len(batches) == -(-10 // batch_size)
    rows = np.concatenate([batch.rows for batch in batches])
    mask = np.concatenate([batch.mask for batch in batches])
    pixels = np.concatenate([batch.pixels for batch in batches])
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < 10)
    np.testing.assert_array_equal(rows[:10], np.arange(10))
    np.testing.assert_array_equal(rows[10:], -1)
    for row in range(10):
        np.testing.assert_array_equal(pixels[row], 10 * row)
    np.testing.assert_array_equal(pixels[10:], 0)
    for batch in batches:
        assert batch.pixels.shape == (batch_size, 2, 3, 3)
        assert batch.pixels.dtype == np.uint8
        assert [image.row for image in batch.images] == list(batch.rows[batch.mask])


def test_some_rows_in_their_order(folder):
    (batch,) = load(find_images(folder), batch_size=4, rows=[7, 2, 5])
    np.testing.assert_array_equal(batch.rows, [7, 2, 5, -1])
    np.testing.assert_array_equal(batch.pixels[:3, 0, 0, 0], [70, 20, 50])


def test_digest_is_that_of_the_content(folder):
    (batch,) = load(find_images(folder), batch_size=10)
    content = (folder / "3.png").read_bytes()
    expected = hashlib.sha256(b"file 1\n" + content).digest()
    assert batch.images[3].digest == expected


def test_unreadable_files_are_told(folder):
    (folder / "2.png").write_bytes(b"nothing")
    (folder / "4.png").write_bytes((folder / "5.png").read_bytes()[:40])
    found = find_images(folder)
    (folder / "6.png").unlink()
    batches = load(found, batch_size=4)
    rows = [image.row for batch in batches for image in batch.images]
    assert rows == [0, 1, 3, 5, 7, 8, 9]
    others = [image for batch in batches for image in batch.others]
    assert [(image.row, image.reason) for image in others] == [
        (2, "not an image of a known format"),
        (4, "truncated PNG file"),
        (6, "no such file any more"),
    ]
    assert others[2].digest == b""


def test_each_file_is_read_once(folder):
    source = open_source(find_images(folder))
    reads = []

    def read(row):
        reads.append(row)
        return source.read(row)

    load(source._replace(read=read), batch_size=4, threads=3)
    assert sorted(reads) == list(range(10))


@pytest.mark.parametrize("threads", [1, 4])
def test_repeated_content_comes_once(folder, threads):
    for index in (1, 8, 9):
        (folder / f"{index}.png").write_bytes((folder / "0.png").read_bytes())
    for _ in range(5):
        batches = load(find_images(folder), batch_size=4, threads=threads)
        rows = [image.row for batch in batches for image in batch.images]
        others = [image for batch in batches for image in batch.others]
        assert rows == [0, 2, 3, 4, 5, 6, 7]
        assert [image.row for image in others] == [1, 8, 9]
        assert {image.digest for image in others} == {batches[0].images[0].digest}


def test_known_content_is_not_decoded(folder):
    source = open_source(find_images(folder))
    (batch,) = load(source, batch_size=10)
    known = {image.digest for image in batch.images[:6]}
    decoded = []

    def decode(content, min_side):
        decoded.append(content)
        return source.decode(content, min_side)

    (rest,) = load(source._replace(decode=decode), batch_size=10, known=known)
    assert len(decoded) == 4
    assert [image.row for image in rest.images] == [6, 7, 8, 9]
    assert [image.row for image in rest.others] == [0, 1, 2, 3, 4, 5]


def test_news_comes_without_pixels_too():
    pixels = np.zeros((1000, 4, 4, 3), np.uint8)
    batches = load(pixels, batch_size=8)
    assert sum(len(batch.others) for batch in batches) == 999
    assert len(batches) == 4
    assert max(len(batch.others) for batch in batches) == 256
    for batch in batches[:-1]:
        assert not batch.mask.any()
    # The one image waits for a full batch and is not lost.
    assert [len(batch.images) for batch in batches] == [0, 0, 0, 1]


def test_min_side_reaches_the_decoder(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.jpg")
    sizes = []

    def note(image):
        sizes.append(image.size)
        return preprocess(image)

    source = open_source(find_images(tmp_path))
    list(load_batches(source, note, image_size=SIZE, batch_size=1, min_side=100))
    assert sizes == [(160, 120)]
    assert load_image(source, 0).size == (640, 480)
    assert load_image(source, 0, min_side=100).size == (160, 120)


def test_image_that_cannot_be_prepared(folder):
    def fussy(image):
        if image.width == 10:
            raise ValueError("too narrow\nby far")
        if image.width == 11:
            raise MemoryError
        return preprocess(image)

    source = open_source(find_images(folder))
    (batch,) = load_batches(source, fussy, image_size=SIZE, batch_size=10)
    assert [(image.row, image.reason) for image in batch.others] == [
        (2, "can't be prepared: too narrow"),
        (3, "not enough memory to prepare it"),
    ]


def test_wrong_preprocess_is_an_error(folder):
    source = open_source(find_images(folder))
    for wrong in (
        lambda image: np.zeros((4, 4, 3), np.uint8),
        lambda image: np.zeros((2, 3, 3), np.float32),
    ):
        with pytest.raises(ValueError, match=r"^Expected preprocess to return"):
            list(load_batches(source, wrong, image_size=SIZE, batch_size=2))
    assert not reading_threads()


@pytest.mark.parametrize("name", ["batch_size", "threads"])
def test_bad_numbers(folder, name):
    options = {"batch_size": 2, name: 0}
    with pytest.raises(InputError, match=f"^Expected {name} at least 1, found 0$"):
        load(find_images(folder), **options)


def test_bounded_look_ahead():
    started = []
    results = map_ahead(started.append, range(100), threads=2, ahead=7)
    next(results)
    time.sleep(0.05)
    assert len(started) == 7
    next(results)
    time.sleep(0.05)
    assert len(started) == 8
    results.close()
    assert len(started) == 8


def test_order_does_not_depend_on_timing():
    def slow_when_even(item):
        time.sleep(0.004 * (item % 2 == 0))
        return item

    found = list(map_ahead(slow_when_even, range(40), threads=4, ahead=8))
    assert found == list(range(40))


def test_an_exception_comes_in_its_place_and_ends_the_threads():
    def fail_at_5(item):
        if item == 5:
            raise RuntimeError("five")
        return item

    results = map_ahead(fail_at_5, range(100), threads=3, ahead=10)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="five"):
        next(results)
    assert not reading_threads()


def test_closing_batches_ends_the_threads(folder):
    source = open_source(find_images(folder))
    batches = load_batches(source, preprocess, image_size=SIZE, batch_size=2)
    next(batches)
    assert reading_threads()
    batches.close()
    assert not reading_threads()


def test_memory_is_bounded():
    # Content that exists only while it is being read: 200 times 4 MB.
    alive, most = [0], [0]
    lock = threading.Lock()

    class Content(bytes):
        def __del__(self):
            with lock:
                alive[0] -= 1

    def read(row):
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        return Content(row.to_bytes(2, "big") + bytes(2_000_000)), None

    source = open_source(np.zeros((1, 2, 2, 3), np.uint8))._replace(
        names=tuple(map(str, range(200))),
        read=read,
        decode=lambda content, min_side: Image.new("RGB", (4, 4)),
    )
    batches = load(source, batch_size=16, threads=2)
    assert sum(len(batch.images) for batch in batches) == 200
    # One in each thread, and one that a thread has just returned from.
    assert most[0] <= 4


def test_ctrl_c_ends_the_program_at_once(tmp_path):
    Image.new("RGB", (2000, 2000)).save(tmp_path / "a.png")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            from mca_jax.data import find_images, load_batches, open_source
            source = open_source(find_images(sys.argv[1]))
            source = source._replace(names=source.names * 100_000)
            one = source.read(0)[0]
            # Bytes after the image: every row has another digest.
            source = source._replace(
                read=lambda row: (one + row.to_bytes(8, "big"), None)
            )
            for batch in load_batches(
                source,
                lambda image: np.asarray(image.resize((8, 8))),
                image_size=(8, 8),
                batch_size=4,
            ):
                print(batch.rows[0], flush=True)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
