import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sample_results import build_result, crop

from mca_jax.report import images
from mca_jax.report.images import (
    SHEET_COLUMNS,
    ImageReader,
    affordable_rows,
    encode_sheets,
    encode_thumbnails,
    read_small,
    read_tiles,
    thumbnail_size,
    tile_edge,
)


def encode_thumbnail(image, size):
    return encode_thumbnails([0], lambda _: image, size=size)[0]


def decode(content):
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG"
    image.load()
    return image


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (100, 100), (98, 49)])
def test_the_middle_square_is_shown(size):
    width, height = size
    square = min(size)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = 255
    top, left = (height - square) // 2, (width - square) // 2
    pixels[top : top + square, left : left + square] = (0, 200, 0)
    shown = decode(encode_thumbnail(Image.fromarray(pixels), 48))
    assert (shown.size, shown.mode) == ((48, 48), "RGB")
    inner = np.asarray(shown)[4:-4, 4:-4].reshape(-1, 3)
    np.testing.assert_allclose(inner.mean(axis=0), (0, 200, 0), atol=8)


def test_a_photograph_looks_like_itself():
    photo = crop(3, 200)
    shown = np.asarray(decode(encode_thumbnail(photo, 50)), float)
    # Every pixel stands for a block of 4 x 4.
    blocks = np.asarray(photo, float).reshape(50, 4, 50, 4, 3).mean(axis=(1, 3))
    assert np.abs(shown - blocks).mean() < 8


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_other_modes(mode):
    assert decode(encode_thumbnail(crop(1).convert(mode), 40)).mode == "RGB"


def test_no_metadata_goes_along():
    photo = crop(1)
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", exif=exif, comment=b"SecretPlace", dpi=(72, 72))
    jpeg = encode_thumbnail(Image.open(buffer), 40)
    assert b"Secret" in buffer.getvalue()
    assert b"Secret" not in jpeg
    assert not decode(jpeg).getexif()


def test_each_row_is_read_once_and_bad_ones_are_absent():
    seen = Counter()

    def load(row):
        seen[row] += 1
        if row == 4:
            raise FileNotFoundError("gone")
        if row == 5:
            raise ValueError("damaged")
        return crop(row)

    files = encode_thumbnails([3, 1, 3, 4, 5, 1], load, size=32)
    assert list(files) == [1, 3]
    assert seen == {1: 1, 3: 1, 4: 1, 5: 1}
    assert files[1] == encode_thumbnail(crop(1), 32)


def test_a_bug_of_the_caller_is_not_hidden():
    def load(row):
        raise KeyError(row)

    with pytest.raises(KeyError):
        encode_thumbnails([1], load, size=32)


def test_more_pictures_are_smaller():
    sizes = [thumbnail_size(count) for count in (0, 1000, 1001, 1900, 3600, 9999)]
    assert sizes == [192, 192, 160, 160, 112, 88]
    assert [tile_edge(n) for n in (0, 1000, 1001, 2500, 5000, 5001, 10**6)] == [
        *(96, 96, 80, 80, 64, 56, 56)
    ]


def test_each_tile_is_where_the_script_looks_for_it():
    shades = {row: row % 251 for row in range(0, 900, 3)}
    found = {row: np.full((8, 8, 3), shade, np.uint8) for row, shade in shades.items()}
    sheets = [Image.open(io.BytesIO(each)) for each in encode_sheets(found, edge=8)]
    assert [sheet.size for sheet in sheets] == [(128, 128), (128, 24)]
    for slot, shade in enumerate(shades.values()):
        sheet, inside = divmod(slot, SHEET_COLUMNS**2)
        row, column = divmod(inside, SHEET_COLUMNS)
        colour = sheets[sheet].getpixel((8 * column + 4, 8 * row + 4))
        np.testing.assert_allclose(colour, shade, atol=6)
    assert encode_sheets({}, edge=8) == []


def test_tiles_have_three_channels_whatever_the_picture_has():
    found = read_tiles([3, 2, 2], lambda row: crop(row).convert("L"), edge=24)
    assert list(found) == [2, 3]
    assert {tile.shape for tile in found.values()} == {(24, 24, 3)}


@pytest.mark.parametrize(("limit", "stride"), [(10**9, 1), (10**6, 2), (250_000, 6)])
def test_large_files_get_fewer_tiles(tmp_path, monkeypatch, limit, stride):
    monkeypatch.setattr(images, "_MOST_BYTES", limit)
    monkeypatch.setattr(images, "_BYTES_OF_OPENING", 10_000)
    for row in range(12):
        (tmp_path / f"{row}.jpg").write_bytes(b"x" * 90_000)
    rows = affordable_rows(range(12), lambda row: str(tmp_path / f"{row}.jpg"))
    # Twelve files of 100 kB each as it counts.
    assert rows == list(range(0, 12, stride))
    gone = affordable_rows(range(5), lambda row: str(tmp_path / "none"))
    assert gone == list(range(5))


def test_small_pictures_are_read_once(tmp_path):
    result = build_result(tmp_path, num_images=6)
    (tmp_path / result.paths[4]).unlink()
    counts = []
    small = read_small(result, ImageReader(result), progress=counts.append)
    assert small is not None
    assert small.shape == (6, 16, 16, 3)
    assert small.any(axis=(1, 2, 3)).tolist() == [True] * 4 + [False, True]
    assert sum(counts) == 6
    # What is there is not read again, what is not there is tried.
    again = replace(result, pictures=small)
    (tmp_path / result.paths[0]).write_bytes(b"")
    np.testing.assert_array_equal(read_small(again, ImageReader(again)), small)
    assert read_small(build_result(), ImageReader(build_result())) is None


def test_a_picture_is_measured_without_decoding_it(tmp_path):
    result = build_result(tmp_path, num_images=3)
    reader = ImageReader(result)
    path = tmp_path / result.paths[0]
    with Image.open(path) as picture:
        size = picture.size
    assert reader.measure(0) == (*size, path.stat().st_size)
    path.write_bytes(b"nothing")
    assert reader.measure(0) == (0, 0, 0)
    pixels = ImageReader(result, lambda row: Image.new("RGB", (30, 20)))
    assert pixels.measure(1) == (30, 20, 0)
