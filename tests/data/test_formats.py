"""Kinds of files by their content, and the rarer formats."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from pictures import NOISE, encode, grey, make_png, pixels
from PIL import Image, features

from benchmarks.faults.images import make_dng
from mca_jax.data import DecodeError, decode_image
from mca_jax.data.formats import HEAD_BYTES, identify, is_system_file
from mca_jax.data.quiet import quiet_stderr
from mca_jax.data.repairs import jpeg_xl_size

YS, XS = np.mgrid[0:64, 0:96]
SMOOTH = np.stack([XS * 2, YS * 3, 255 - XS - YS], axis=-1).astype(np.uint8)
PICTURE = Image.fromarray(SMOOTH)


def heic(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    content = image.tobytes()
    pillow_heif.encode(image.mode, image.size, content, file, quality=95, **options)
    return file.getvalue()


def jpeg(**options) -> bytes:
    return encode(PICTURE, "JPEG", quality=95, subsampling=0, **options)


def test_heic_and_avif():
    assert features.check("avif")
    for content in (heic(PICTURE), encode(PICTURE, "AVIF", quality=95)):
        found = np.asarray(decode_image(content), float)
        assert np.abs(found - SMOOTH).mean() < 2
        assert decode_image(content, min_side=32).size == (48, 32)
        with pytest.raises(DecodeError, match="^truncated (HEIC|AVIF) file$"):
            decode_image(content[:-200])


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_turned_as_the_camera_says(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind == "AVIF":
        content = encode(PICTURE, "AVIF", quality=95, exif=exif)
    else:
        content = heic(PICTURE, exif=exif.tobytes())
    found = np.asarray(decode_image(content), float)
    assert found.shape == (96, 64, 3)
    assert np.abs(found - np.rot90(SMOOTH, -1)).mean() < 2


@pytest.mark.parametrize("kind", ["PPM", "TGA", "SGI", "QOI", "JPEG2000"])
def test_lossless_formats(kind):
    content = encode(PICTURE, kind)
    np.testing.assert_array_equal(decode_image(content), SMOOTH)
    with pytest.raises(DecodeError, match="^truncated .* file$"):
        decode_image(content[: len(content) * 3 // 4])


def test_jpeg_xl():
    pytest.importorskip("pillow_jxl")
    content = imagecodecs.jpegxl_encode(SMOOTH, lossless=True)
    np.testing.assert_array_equal(decode_image(content), SMOOTH)


def test_camera_raw():
    pytest.importorskip("rawpy")
    found = np.asarray(decode_image(make_dng()), float)
    assert found.shape == (64, 64, 3)
    # Brighter from left to right.
    assert (np.diff(found[:, ::8].mean(axis=(0, 2))) > 0).all()
    assert decode_image(make_dng(), min_side=16).size == (16, 16)


def test_a_raw_of_no_known_camera():
    pytest.importorskip("rawpy")
    unknown = r"^a kind of RAW that can't be read \(Unsupported file format"
    with pytest.raises(DecodeError, match=unknown):
        decode_image(b"II*\0\x10\0\0\0CR\2\0" + bytes(3000))


def test_damaged_raw_is_quiet(capfd):
    pytest.importorskip("rawpy")
    content = make_dng()
    for place in range(40, 400, 20):
        changed = content[:place] + b"\xff" + content[place + 1 :]
        with suppress(DecodeError):
            decode_image(changed[: len(changed) - place * 10])
    assert capfd.readouterr() == ("", "")


def test_others_still_write(capfd):
    with quiet_stderr(b"noise"):
        os.write(2, b"noise\nnews\n")
    assert capfd.readouterr().err == "news\n"


@pytest.mark.parametrize("size", [(96, 64), (64, 64), (300, 7), (1000, 31)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size, container):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    content = imagecodecs.jpegxl_encode(pixels, usecontainer=container)
    assert jpeg_xl_size(content) == size
    with pytest.raises(DecodeError, match=f"^{size[0]} x {size[1]} pixels, more than"):
        decode_image(content, max_pixels=100)


def test_extras_are_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.delitem(sys.modules, "pillow_jxl.JpegXLImagePlugin", raising=False)
    with pytest.raises(DecodeError, match=r"RAW file; pip install 'mca-jax\[raw\]'"):
        decode_image(make_dng())
    with pytest.raises(DecodeError, match=r"JPEG XL .*pip install 'mca-jax\[jxl\]'"):
        decode_image(b"\xff\x0a" + bytes(50))


def test_end_marker_is_missing():
    for options in ({}, {"progressive": True}, {"optimize": True}):
        content = jpeg(**options)
        whole = np.asarray(decode_image(content))
        for missing in (1, 2):
            found = decode_image(content[:-missing])
            np.testing.assert_array_equal(found, whole)
        for missing in (3, 40, 600):
            with pytest.raises(DecodeError, match="^truncated JPEG file$"):
                decode_image(content[:-missing])


def test_scan_is_missing():
    content = jpeg(progressive=True)
    ends = content.rfind(b"\xff\xda")
    tables = content.rfind(b"\xff\xc4", 0, ends)
    # Up to the last scan, or to the table in front of it.
    cut = tables if tables > content.rfind(b"\xff\xda", 0, ends) else ends
    with pytest.raises(DecodeError, match="^truncated JPEG file$"):
        decode_image(content[:cut])


def test_partial_jpegs_are_read_where_that_is_wanted():
    content = jpeg()
    half = content[: len(content) // 2]
    found = np.asarray(decode_image(half, partial_jpegs=True), float)
    assert np.abs(found[:8] - SMOOTH[:8]).mean() < 3
    assert np.ptp(found[-8:]) < 60


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            imagecodecs.jpeg8_encode(SMOOTH.astype(np.uint16) * 16, bitspersample=12),
            "JPEG .*12 bits",
        ),
        (imagecodecs.jpegls_encode(SMOOTH), "JPEG .*JPEG-LS"),
        (
            imagecodecs.jpeg2k_encode(SMOOTH.astype(np.uint16) * 257, reversible=True),
            "JPEG 2000 .*16 bits x 3",
        ),
        (
            b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 1, 2, 16, 3) + bytes(40),
            "PSD .*16 bits",
        ),
    ],
)
def test_sound_kinds_that_are_refused_by_name(content, expected):
    with pytest.raises(DecodeError, match=f"^a kind of {expected}"):
        decode_image(content)


def test_lossless_and_arithmetic_jpeg():
    lossless = imagecodecs.ljpeg_encode(SMOOTH[..., 0])
    np.testing.assert_array_equal(np.asarray(decode_image(lossless))[..., 0], XS * 2)


def test_text_of_a_png_may_be_huge_or_damaged():
    row = b"\0" + bytes(range(30))
    huge = b"Comment\0\0" + zlib.compress(bytes(2**22))
    profile = b"icc\0\0" + zlib.compress(bytes(2**24))
    plain = pixels(make_png((10, 1), 8, 2, row))
    for chunks in ([(b"zTXt", huge)], [(b"iCCP", profile)], [(b"zTXt", b"x")]):
        assert pixels(make_png((10, 1), 8, 2, row, *chunks)) == plain
    content = bytearray(make_png((10, 1), 8, 2, row, (b"tEXt", b"a\0text")))
    content[content.index(b"text")] ^= 255
    assert pixels(bytes(content)) == plain


def make_bmp(
    bits: int, rows: bytes, size: tuple[int, int], *, masks=(), table: bytes = b""
) -> bytes:
    header = 40 if len(masks) < 4 else 56
    fields = struct.pack(f"<{len(masks)}I", *masks)
    offset = 54 + len(fields) + len(table)
    start = struct.pack("<2sIII", b"BM", offset + len(rows), 0, offset)
    head = struct.pack(
        "<IiiHHIIiiII", header, *size, 1, bits, 3 if masks else 0, len(rows), 0, 0, 0, 0
    )
    return start + head + fields + table + rows


@pytest.mark.parametrize(
    ("masks", "order"),
    [
        ((), (10, 5, 0)),
        ((0xF800, 0x7E0, 0x1F), (11, 5, 0)),
        ((0xF, 0xF0, 0xF00), (0, 4, 8)),
        ((0x7000, 0x300, 0x7), (12, 8, 0)),
    ],
)
def test_bmp_of_16_bits(masks, order):
    known = masks or (0x7C00, 0x3E0, 0x1F)
    words = [known[0], known[1], known[2], sum(known)]
    content = make_bmp(16, struct.pack("<4H", *words), (4, 1), masks=masks)
    white = [255] * 3
    assert pixels(content) == [[255, 0, 0], [0, 255, 0], [0, 0, 255], white]
    largest = known[0] >> order[0]
    half = struct.pack("<2H", (largest // 2) << order[0], 0)
    red = pixels(make_bmp(16, half, (2, 1), masks=masks))[0][0]
    assert red == round(largest // 2 * 255 / largest)


def test_bmp_of_32_bits():
    masks = (0x3FF00000, 0xFFC00, 0x3FF)
    words = struct.pack("<2I", 0x3FF << 20, 512 << 10)
    assert pixels(make_bmp(32, words, (2, 1), masks=masks)) == [
        [255, 0, 0],
        [0, 128, 0],
    ]
    alpha = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    words = struct.pack("<2I", 0x800A00FF, 0xFF030201)
    assert pixels(make_bmp(32, words, (2, 1), masks=alpha)) == [
        [255, 127, 132],
        [1, 2, 3],
    ]
    # Nothing opaque is what writers leave who know of no opacity.
    words = struct.pack("<2I", 0x0A00FF, 0x030201)
    found = pixels(make_bmp(32, words, (2, 1), masks=alpha))
    assert found == [[255, 0, 10], [1, 2, 3]]


def test_bmp_of_2_bits_from_the_top():
    table = bytes([0, 0, 0, 0, 30, 20, 10, 0, 60, 50, 40, 0, 255, 255, 255, 0])
    rows = bytes([0b00011011, 0, 0, 0, 0b11000000, 0, 0, 0])
    found = pixels(make_bmp(2, rows, (4, -2), table=table))
    first = [[0] * 3, [10, 20, 30], [40, 50, 60], [255] * 3]
    assert found == [*first, [255] * 3, *grey(0, 0, 0)]
    assert pixels(make_bmp(2, rows, (4, 2), table=table))[4:] == first
    with pytest.raises(DecodeError, match="^truncated BMP file$"):
        decode_image(make_bmp(2, rows, (4, 2), table=table)[:-1])


def test_bmp_around_another_picture():
    inner = encode(NOISE, "PNG")
    start = struct.pack("<2sIII", b"BM", 54 + len(inner), 0, 54)
    head = struct.pack("<IiiHHIIiiII", 40, 48, 64, 1, 0, 5, len(inner), 0, 0, 0, 0)
    np.testing.assert_array_equal(decode_image(start + head + inner), NOISE)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "RAW"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0qt  ", ""),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (b"II*\0\x10\0\0\0\2\0\2\0", "TIFF"),
        (b"P6 # made by hand\n2 2 255\n", "PNM"),
        (b"P6 is a road", ""),
        (b"RIFF\x10\0\0\0AVI LIST", ""),
        (b"\0\1\0\0\0\x12\1\0\0\4\0\x20GDEF\0\0", ""),
        (b"", ""),
    ],
)
def test_identify(head, kind):
    assert identify(head[:HEAD_BYTES]) == kind


def test_system_files():
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._IMG_1.JPG"):
        assert is_system_file(name)
    assert is_system_file("@eaDir", folder=True)
    assert not is_system_file("@eaDir")
    assert not is_system_file("thumbs.jpg")
