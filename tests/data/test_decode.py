"""Formats, frames, orientation, size, and what is said of bad files."""

from __future__ import annotations

import struct
import threading
import zlib

import numpy as np
import pytest
from pictures import NOISE, encode, grey, make_png, pixels
from PIL import Image

from mca_jax.data import DecodeError, decode_image
from mca_jax.data import decode as decode_module


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_formats_give_the_colour_that_was_put_in(kind):
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    options = {"lossless": True} if kind == "WEBP" else {}
    found = np.asarray(decode_image(encode(image, kind, **options)))
    # JPEG rounds red to 254 on the way through YCbCr.
    np.testing.assert_allclose(found, np.asarray(image), atol=kind == "JPEG")


def test_reads_paths_and_ignores_the_suffix(tmp_path):
    path = tmp_path / "picture.gif"
    path.write_bytes(encode(NOISE, "PNG"))
    np.testing.assert_array_equal(decode_image(path), NOISE)
    np.testing.assert_array_equal(decode_image(str(path)), NOISE)


FRAMES = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime")]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", "MPO"])
def test_first_frame(kind):
    content = encode(
        FRAMES[0],
        kind,
        save_all=True,
        append_images=FRAMES[1:],
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    np.testing.assert_allclose(
        pixels(content), [[255, 0, 0]] * 1024, atol=kind == "MPO"
    )


def test_mpo_is_scaled_while_decoding():
    large = [frame.resize((640, 480)) for frame in FRAMES]
    content = encode(large[0], "MPO", save_all=True, append_images=large[1:])
    assert decode_image(content, min_side=100).size == (160, 120)


# As displayed: red green / blue white / black grey.
UPRIGHT = Image.fromarray(
    np.asarray(
        [
            [[255, 0, 0], [0, 255, 0]],
            [[0, 0, 255], [255, 255, 255]],
            [[0, 0, 0], [128, 128, 128]],
        ],
        np.uint8,
    )
)
# What to do to the upright picture to get what a camera would have stored.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_upright(kind, orientation):
    how = STORED[orientation]
    # Large blocks of colour, which JPEG keeps.
    image = UPRIGHT.resize((32, 48), Image.Resampling.NEAREST)
    image = image if how is None else image.transpose(how)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 100, "subsampling": 0},
    }
    content = encode(image, kind, exif=exif, **options.get(kind, {}))
    found = decode_image(content)
    assert found.size == (32, 48)
    small = np.asarray(found.resize((2, 3), Image.Resampling.NEAREST))
    np.testing.assert_allclose(small, np.asarray(UPRIGHT), atol=2)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_nonsense_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_image(encode(NOISE, "PNG", exif=exif))
    np.testing.assert_array_equal(found, NOISE)


def test_damaged_metadata_costs_no_pixel():
    exif = b"Exif\0\0MM\0*\0\0\0\10\xff\xff" + b"\x01\x12\0\3\xff\xff\xff\xff" * 3
    content = encode(NOISE, "PNG")
    damaged = content.replace(
        content[-12:],
        struct.pack(">I", len(exif) - 6)
        + b"eXIf"
        + exif[6:]
        + struct.pack(">I", zlib.crc32(b"eXIf" + exif[6:]))
        + content[-12:],
    )
    np.testing.assert_array_equal(decode_image(damaged), NOISE)


def test_turned_jpeg_that_is_scaled_while_decoding():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(Image.new("RGB", (800, 400)), "JPEG", exif=exif)
    assert decode_image(content, min_side=100).size == (100, 200)


# The shorter side of 400 x 1000 may shrink by 400 // min_side.
SHRINKING = pytest.mark.parametrize(
    ("min_side", "size"),
    [
        (0, (1000, 400)),
        (401, (1000, 400)),
        (201, (1000, 400)),
        (200, (500, 200)),
        (100, (250, 100)),
        (50, (125, 50)),
    ],
)


@SHRINKING
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_min_side(kind, min_side, size):
    content = encode(Image.new("RGB", (1000, 400)), kind)
    assert decode_image(content, min_side=min_side).size == size


def test_shrinking_averages():
    image = Image.fromarray(np.asarray([[0, 100], [100, 200]], np.uint8))
    assert pixels(encode(image, "PNG"), min_side=1) == grey(100)


def test_scaled_jpeg_looks_like_the_whole():
    image = NOISE.resize((960, 1280), Image.Resampling.BICUBIC)
    content = encode(image, "JPEG", quality=95)
    scaled = decode_image(content, min_side=240).resize((48, 64))
    whole = decode_image(content).resize((48, 64))
    difference = np.asarray(scaled, float) - np.asarray(whole, float)
    assert np.abs(difference).mean() < 2


def test_too_many_pixels():
    content = encode(Image.new("1", (100, 30)), "PNG")
    expected = (
        r"^100 x 30 pixels, more than the limit of 0\.002999 million; the setting "
        r"data\.max_megapixels raises it$"
    )
    with pytest.raises(DecodeError, match=expected):
        decode_image(content, max_pixels=2999)
    assert decode_image(content, max_pixels=3000).size == (100, 30)


def test_bombs():
    rows = b"".join(b"\0" + bytes(2500) for _ in range(8920))
    content = make_png((20000, 8920), 1, 0, rows)
    assert len(content) < 100_000
    expected = "20000 x 8920 pixels, more than the limit of 178 million"
    with pytest.raises(DecodeError, match=expected):
        decode_image(content)
    content = make_png((200_000, 200_000), 1, 0, b"")
    with pytest.raises(DecodeError, match="^200000 x 200000 pixels, more than"):
        decode_image(content)
    # Beyond Pillow's own limit, which holds for the whole process.
    rows = b"".join(b"\0" + bytes(2250) for _ in range(10_000))
    content = make_png((18_000, 10_000), 1, 0, rows)
    found = decode_image(content, max_pixels=180_000_000, min_side=1000)
    assert found.size == (1800, 1000)


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(decode_module, "_LARGE_PIXELS", 1000)
    inside, most = [0], [0]
    original = decode_module._load

    def watch(*arguments):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            return original(*arguments)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(decode_module, "_load", watch)
    content = encode(NOISE.resize((600, 600)), "PNG")
    threads = [threading.Thread(target=decode_image, args=(content,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_no_pixels():
    content = bytearray(encode(NOISE, "PNG"))
    content[16:20] = bytes(4)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    with pytest.raises(DecodeError, match="^(image without pixels|damaged PNG)"):
        decode_image(bytes(content))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_truncated_is_an_error_not_grey(kind, options, share):
    content = encode(NOISE, kind, **options)
    name = {"WEBP": "WebP"}.get(kind, kind)
    with pytest.raises(DecodeError, match=f"^truncated {name} file$"):
        decode_image(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_truncated_compressed_tiff(kind):
    content = encode(NOISE, "TIFF", compression=kind)
    with pytest.raises(DecodeError, match="^(damaged|truncated) TIFF file"):
        decode_image(content[: int(len(content) * 0.9)])


def test_damaged():
    content = bytearray(encode(NOISE, "PNG"))
    content[200] ^= 0xFF
    with pytest.raises(DecodeError, match=r"^damaged PNG file: [^\n]+$"):
        decode_image(bytes(content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (bytes(100), "nothing but zeros or blanks, not an image"),
        (b"<!DOCTYPE html><html>", "text such as HTML, SVG or AAE"),
        (b"\xef\xbb\xbf\n<svg>", "text such as HTML, SVG or AAE"),
        (b"%PDF-1.7", "a PDF, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "truncated HEIC file"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "truncated AVIF file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video, not an image"),
        (b"hello", "not an image of a known format"),
        (b"BMW is a maker of cars", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript, not an image"),
        (b"\xff\xd8\xff", "(damaged|truncated) JPEG file"),
        (b"\x89PNG\r\n\x1a\n", "(damaged|truncated) PNG file"),
        (b"II*\0\x08\0\0\0", "(damaged|truncated) TIFF file"),
        (b"BM", "(damaged|truncated) BMP file"),
        (b"GIF89a", "(damaged|truncated) GIF file"),
        (b"RIFF\xff\0\0\0WEBPVP8 ", "truncated WebP file"),
    ],
)
def test_reason(content, reason):
    with pytest.raises(DecodeError, match=f"^{reason}"):
        decode_image(content)


def test_files(tmp_path):
    with pytest.raises(DecodeError, match="^no such file any more$"):
        decode_image(tmp_path / "gone.jpg")
    with pytest.raises(DecodeError, match="^not a regular file$"):
        decode_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DecodeError, match="^empty file$"):
        decode_image(tmp_path / "empty.jpg")


def test_huge_file_is_not_read(tmp_path):
    with (tmp_path / "huge.tif").open("wb") as file:
        file.truncate(2**29 + 1)
    with pytest.raises(DecodeError, match="^file of 512 MiB, more than the limit"):
        decode_image(tmp_path / "huge.tif")


def test_out_of_memory(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(decode_module, "_load", fail)
    with pytest.raises(DecodeError, match="^not enough memory to decode it$"):
        decode_image(encode(NOISE, "PNG"))


def test_any_damage_gives_a_picture_or_a_reason():
    generator = np.random.default_rng(3)
    seeds = [
        encode(NOISE, "JPEG"),
        encode(NOISE.convert("P"), "PNG", transparency=bytes(range(200))),
        encode(NOISE, "GIF"),
        encode(NOISE, "BMP"),
        encode(NOISE, "TIFF"),
        encode(NOISE, "WEBP"),
    ]
    reasons = []
    for turn in range(600):
        content = np.frombuffer(seeds[turn % len(seeds)], np.uint8).copy()
        places = generator.integers(0, min(len(content), 300), 4)
        content[places] = generator.integers(0, 256, 4)
        try:
            assert decode_image(content.tobytes()).mode == "RGB"
        except DecodeError as error:
            reasons.append(str(error))
    assert 0 < len(reasons) < 600
    assert all(reason and "\n" not in reason for reason in reasons)
