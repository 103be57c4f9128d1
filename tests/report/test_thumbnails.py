import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sample_results import crop

from mca_jax.report.images.thumbnails import (
    encode_thumbnail,
    encode_thumbnails,
    thumbnail_size,
)


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

    files = encode_thumbnails([3, 1, 3, 4, 5, 1], load, size=32, workers=2)
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
