"""Pixels of every colour mode, checked by hand."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pictures import NOISE, WHITE, encode, grey, make_png, pixels
from PIL import Image

from mca_jax.data import DecodeError, decode_image
from mca_jax.data.colour import to_rgb


def test_rgba_over_white():
    # (128 * (255, 0, 10) + 127 * 255) / 255 = (255, 127, 132.02)
    image = Image.new("RGBA", (1, 1), (255, 0, 10, 128))
    for kind in ("PNG", "TIFF"):
        assert pixels(encode(image, kind)) == [[255, 127, 132]]


def test_fully_transparent_is_white():
    image = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    assert pixels(encode(image, "WEBP", lossless=True)) == [WHITE] * 4


def test_opaque_alpha_changes_nothing():
    image = NOISE.copy()
    image.putalpha(255)
    np.testing.assert_array_equal(decode_image(encode(image, "PNG")), NOISE)


def test_grey_with_alpha():
    image = Image.new("LA", (1, 1), (0, 128))
    assert pixels(encode(image, "PNG")) == grey(127)
    assert pixels(encode(image, "TIFF")) == grey(127)


def test_wide_grey_with_alpha():
    rows = b"\0" + struct.pack(">4H", 0, 0xFFFF, 0, 0x8080)
    assert pixels(make_png((2, 1), 16, 4, rows)) == grey(0, 127)


@pytest.mark.parametrize(
    ("transparency", "expected"),
    [
        (1, [[10, 20, 30], WHITE]),
        # (128 * (10, 20, 30) + 127 * 255) / 255 = (132.02, 137.04, 142.06)
        (bytes([128, 0]), [[132, 137, 142], WHITE]),
        (bytes([255, 255]), [[10, 20, 30], [40, 50, 60]]),
    ],
)
def test_palette_with_transparency(transparency, expected):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, "PNG")) == [[10, 20, 30], [40, 50, 60]]
    assert pixels(encode(image, "PNG", transparency=transparency)) == expected


def test_palette_with_alpha_channel():
    image = Image.new("PA", (1, 1))
    image.putpalette([10, 20, 30])
    image.putpixel((0, 0), (0, 128))
    found = to_rgb(image)
    assert found.getpixel((0, 0)) == (132, 137, 142)


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied(mode):
    image = Image.new("LA", (1, 1), (0, 128)).convert("RGBA").convert("RGBa")
    if mode == "La":
        image = Image.new("LA", (1, 1), (0, 128)).convert("La")
    assert to_rgb(image).getpixel((0, 0)) == (127, 127, 127)


def test_transparent_colour_of_png():
    grey8 = make_png((2, 1), 8, 0, b"\0\7\11", (b"tRNS", b"\0\7"))
    assert pixels(grey8) == [WHITE, [9, 9, 9]]
    bits = make_png((2, 1), 1, 0, b"\0\x80", (b"tRNS", b"\0\0"))
    assert pixels(bits) == [WHITE, WHITE]
    colour = make_png((2, 1), 8, 2, b"\0\1\2\3\4\5\6", (b"tRNS", b"\0\1\0\2\0\3"))
    assert pixels(colour) == [WHITE, [4, 5, 6]]


def test_transparent_colour_of_wide_png():
    rows = b"\0" + struct.pack(">2H", 30000, 65535 // 3)
    hidden = (b"tRNS", struct.pack(">H", 30000))
    assert pixels(make_png((2, 1), 16, 0, rows, hidden)) == [WHITE, [85] * 3]
    rows = b"\0" + struct.pack(">6H", 1, 128, 255, 0xFF00, 0x8000, 0)
    hidden = (b"tRNS", struct.pack(">3H", 1, 128, 255))
    found = pixels(make_png((2, 1), 16, 2, rows, hidden))
    assert found == [WHITE, [255, 128, 0]]


def test_gif():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = pixels(encode(image, "GIF", transparency=0))
    assert found == [WHITE, [40, 50, 60]]


# 65535 is white: 257 is 1, 32768 is 127.5 rounded up.
SAMPLES = np.asarray([[0, 257, 32768, 65535]], np.uint16)
EXPECTED = grey(0, 1, 128, 255)


def test_16_bit():
    image = Image.fromarray(SAMPLES)
    assert pixels(encode(image, "PNG")) == EXPECTED
    assert pixels(encode(image, "TIFF")) == EXPECTED


def test_16_bit_big_endian():
    swapped = SAMPLES.astype(">u2").tobytes()
    image = Image.frombytes("I;16B", (4, 1), swapped)
    assert pixels(encode(image, "TIFF")) == EXPECTED


def test_32_bit_integers_in_the_range_of_16():
    image = Image.fromarray(SAMPLES.astype(np.int32))
    assert pixels(encode(image, "TIFF")) == EXPECTED


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([0, 819, 4095], (0, 51, 255)), ([0, 51, 255], (0, 51, 255))],
)
def test_12_and_8_bit_samples_in_16_bit_words(samples, expected):
    image = Image.fromarray(np.asarray([samples], np.uint16))
    assert pixels(encode(image, "TIFF")) == grey(*expected)


def test_black_stays_black():
    image = Image.fromarray(np.zeros((1, 2), np.uint16))
    assert pixels(encode(image, "PNG")) == grey(0, 0)


def test_other_integers_are_stretched():
    image = Image.fromarray(np.asarray([[-100, 0, 50, 100]], np.int32))
    # 255 * (0, 100, 150, 200) / 200 = 0, 127.5 (to even), 191.25, 255
    assert pixels(encode(image, "TIFF")) == grey(0, 128, 191, 255)


def test_16_bit_colour_keeps_the_high_byte():
    rows = b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0x1234)
    assert pixels(make_png((1, 1), 16, 2, rows)) == [[255, 128, 18]]
    rows = b"\0" + struct.pack(">4H", 0xFFFF, 0, 0, 0x8080)
    assert pixels(make_png((1, 1), 16, 6, rows)) == [[255, 127, 127]]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0, 0.25, 1], (0, 64, 255)),
        ([0, 64, 255], (0, 64, 255)),
        ([-1, 0, 3], (0, 64, 255)),
        ([0, 500, 1000], (0, 128, 255)),
        ([-np.inf, np.nan, 0, 1], (0, 0, 0, 255)),
        ([-3e38, 0, 3e38], (0, 128, 255)),
        ([7000, 7000], (0, 0)),
    ],
)
def test_floats(samples, expected):
    image = Image.fromarray(np.asarray([samples], np.float32))
    assert pixels(encode(image, "TIFF")) == grey(*expected)


def test_floats_without_a_number():
    image = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(DecodeError, match=r"^damaged TIFF file: no finite sample$"):
        decode_image(encode(image, "TIFF"))


def test_bits_and_few_grey_levels():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        assert pixels(encode(image, kind)) == grey(0, 255)
    four = make_png((4, 1), 2, 0, bytes([0, 0b00011011]))
    assert pixels(four) == grey(0, 85, 170, 255)


def test_cmyk():
    # No cyan, full magenta and yellow: red.
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    half_black = Image.new("CMYK", (16, 16), (0, 0, 0, 128))
    assert pixels(encode(red, "TIFF"))[0] == [255, 0, 0]
    assert pixels(encode(half_black, "TIFF"))[0] == [127] * 3


def test_cmyk_jpeg_is_stored_inverted():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    content = encode(red, "JPEG", quality=100)
    # Adobe's marker, and the samples in the file are the complement.
    assert b"Adobe" in content
    np.testing.assert_allclose(pixels(content), [[255, 0, 0]] * 256, atol=2)


def test_ycbcr():
    # R = Y + 1.402 (Cr - 128), B = Y + 1.772 (Cb - 128)
    red = Image.new("YCbCr", (16, 16), (76, 85, 255))
    assert to_rgb(red).getpixel((0, 0)) == (254, 0, 0)
    content = encode(red, "TIFF", compression="jpeg")
    np.testing.assert_allclose(pixels(content), [[254, 0, 0]] * 256, atol=2)


def test_lab():
    # sRGB's red is L* 54.29, a* 80.81, b* 69.89 under D50; grey has no a, b.
    image = Image.new("LAB", (2, 1))
    image.putpixel((0, 0), (138, 128 + 81, 128 + 70))
    image.putpixel((1, 0), (round(53.59 * 2.55), 128, 128))
    found = np.asarray(pixels(encode(image, "TIFF")))
    np.testing.assert_allclose(found, [[255, 0, 0], [128] * 3], atol=6)


def test_profile_is_not_applied():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    content = encode(NOISE, "PNG", icc_profile=profile)
    np.testing.assert_array_equal(decode_image(content), NOISE)
