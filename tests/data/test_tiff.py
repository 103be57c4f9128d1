"""TIFF of all types and layouts, from a writer of its own, to known pixels."""

from __future__ import annotations

import io
import struct
import threading

import numpy as np
import pytest
import tifffile
from pictures import NOISE, encode
from PIL import Image

from mca_jax.data import DecodeError, decode_image
from mca_jax.data.tiff import count_pages

HEIGHT, WIDTH = 37, 53
RAMP = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
GREY = RAMP[..., None].repeat(3, axis=-1)


def write(samples: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def quantize(shares: np.ndarray, kind: str, bits: int | None = None) -> np.ndarray:
    """Shares of the full range as numbers of a type."""
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return shares.astype(dtype)
    low = np.iinfo(dtype).min
    high = 2**bits - 1 if bits else np.iinfo(dtype).max
    wide = np.floor(shares.astype(np.longdouble) * (np.longdouble(high) - low) + 0.5)
    return np.minimum(wide + low, np.longdouble(high)).astype(dtype)


def check(content: bytes, expected: np.ndarray, tolerance: float = 1) -> None:
    found = np.asarray(decode_image(content), float)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, 255 * expected, atol=tolerance)


LAYOUTS = {
    "strips": {"rowsperstrip": 10},
    "tiles": {"tile": (16, 32)},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True, "byteorder": "<"},
}
TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
CODINGS = {
    "none": {},
    "LZW": {"compression": "lzw"},
    "LZW, differences": {"compression": "lzw", "predictor": True},
    "Deflate, differences": {"compression": "deflate", "predictor": True},
    "PackBits": {"compression": "packbits"},
    "ZSTD": {"compression": "zstd"},
    "LZMA": {"compression": "lzma"},
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_type_in_every_layout(layout, coding):
    options = {**LAYOUTS[layout], **CODINGS[coding]}
    for kind in TYPES:
        # The writer has no differences of 64 bits.
        if "predictor" in options and kind in ("u8", "i8"):
            continue
        grey, colours = quantize(RAMP, kind), quantize(COLOURS, kind)
        check(write(grey, photometric="minisblack", **options), GREY)
        check(write(grey, photometric="miniswhite", **options), 1 - GREY)
        check(write(colours, photometric="rgb", **options), COLOURS)
        planes = np.moveaxis(colours, -1, 0).copy()
        options["planarconfig"] = "separate"
        check(write(planes, photometric="rgb", **options), COLOURS)
        del options["planarconfig"]


@pytest.mark.parametrize("bits", [b for b in range(1, 32) if b not in (8, 16, 24)])
def test_odd_numbers_of_bits(bits):
    kind = "u1" if bits <= 8 else "u2" if bits <= 16 else "u4"
    for shares, photometric in ((RAMP, "minisblack"), (COLOURS, "rgb")):
        samples = quantize(shares, kind, bits)
        expected = samples / (2.0**bits - 1)
        content = write(
            samples, photometric=photometric, bitspersample=bits, byteorder="<"
        )
        check(content, GREY * 0 + expected.reshape(HEIGHT, WIDTH, -1))


def by_hand(bits: int, kind: int, data: bytes, size: tuple[int, int], order: str):
    """A grey TIFF of one strip, from its parts."""
    width, height = size
    values = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1}
    values |= {278: height, 279: len(data), 339: kind}
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items()
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    start = struct.pack(f"{order}I", 8 + len(data))
    count = struct.pack(f"{order}H", len(values))
    return mark + start + data + count + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_bytes_follow_the_order_of_the_file(order):
    name = "little" if order == "<" else "big"
    for bits in (24, 40, 48, 56):
        white = 2**bits - 1
        numbers = (0, white // 3, white)
        data = b"".join(number.to_bytes(bits // 8, name) for number in numbers)
        found = decode_image(by_hand(bits, 1, data, (3, 1), order))
        assert np.asarray(found)[0, :, 0].tolist() == [0, 85, 255]


def test_signed_numbers_of_odd_width():
    # -8, 0, 7 in four bits.
    data = bytes([0b1000_0000, 0b0111_0000])
    found = decode_image(by_hand(4, 2, data, (3, 1), ">"))
    assert np.asarray(found)[0, :, 0].tolist() == [0, 136, 255]


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_alpha_and_inks(planar, kind, compression):
    alpha = RAMP[::-1][..., None]

    def write_planes(shares: np.ndarray, **more) -> bytes:
        samples = quantize(shares, kind)
        if planar == "separate":
            samples = np.moveaxis(samples, -1, 0).copy()
        return write(samples, planarconfig=planar, compression=compression, **more)

    plain = np.concatenate([COLOURS, alpha], axis=-1)
    covered = np.concatenate([COLOURS * alpha, alpha], axis=-1)
    over_white = COLOURS * alpha + 1 - alpha
    options = {"photometric": "rgb"}
    check(write_planes(plain, extrasamples=["unassalpha"], **options), over_white, 1.5)
    check(
        write_planes(covered, extrasamples=["assocalpha"], **options), over_white, 1.5
    )
    check(write_planes(plain, extrasamples=["unspecified"], **options), COLOURS)
    inks = np.concatenate([COLOURS, alpha / 2], axis=-1)
    expected = (1 - COLOURS) * (1 - alpha / 2)
    check(write_planes(inks, photometric="separated"), expected, 1.5)
    # Five bands, of which the first is what is seen.
    bands = np.concatenate([GREY, COLOURS[..., :2]], axis=-1)
    check(write_planes(bands, photometric="minisblack"), GREY)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits):
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 65536, (3, 2**bits)).astype("u2")
    indices = generator.integers(0, 2**bits, (HEIGHT, WIDTH)).astype(f"u{bits // 8}")
    content = write(indices, photometric="palette", colormap=colours)
    check(content, (colours / 65535).T[indices])


def test_colour_differences():
    image = Image.fromarray((COLOURS * 255).astype(np.uint8))
    stored = np.asarray(image.convert("YCbCr"))
    expected = np.asarray(image.convert("YCbCr").convert("RGB")) / 255
    content = write(stored, photometric="ycbcr")
    check(content, expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_subsampled_colours(compression):
    # Units of two by two: four brightnesses, then one pair of colours.
    bright = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    colours = np.asarray([[[90, 200], [128, 128]], [[128, 90], [30, 240]]], np.uint8)
    units = bright.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(2, 2, 4)
    data = np.concatenate([units, colours], axis=-1).reshape(2, 12)
    whole = np.concatenate(
        [bright[..., None], colours.repeat(2, axis=0).repeat(2, axis=1)], axis=-1
    )
    expected = Image.fromarray(whole, "YCbCr").convert("RGB")
    # As grey of the same bytes, with the tags changed afterwards.
    content = bytearray(write(data, photometric="minisblack", compression=compression))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as tiff:
        tags = tiff.pages[0].tags
        for name, value in {"ImageWidth": 4, "ImageLength": 4}.items():
            struct.pack_into("<I", content, tags[name].valueoffset, value)
        struct.pack_into(
            "<H", content, tags["PhotometricInterpretation"].valueoffset, 6
        )
        struct.pack_into("<H", content, tags["SamplesPerPixel"].valueoffset, 3)
        rows = tags["RowsPerStrip"]
        struct.pack_into("<I", content, rows.valueoffset, 4)
    np.testing.assert_array_equal(decode_image(bytes(content)), expected)


def test_lab_with_and_without_a_sign():
    # L* 54.29, a* 81, b* 70 is sRGB's red under D50; no a, b is grey.
    lab = np.asarray([[[138, 81, 70], [137, 0, 0]]], np.int16)
    signed = lab.astype(np.uint8)
    offset = (lab + [0, 128, 128]).astype(np.uint8)
    expected = np.asarray([[[255, 0, 0], [128] * 3]])
    for samples, photometric in ((signed, "cielab"), (offset, "icclab")):
        found = decode_image(write(samples, photometric=photometric))
        np.testing.assert_allclose(np.asarray(found, int), expected, atol=6)
    wide = (lab * [257, 256, 256]).astype(np.uint16)
    found = decode_image(write(wide, photometric="cielab"))
    np.testing.assert_allclose(np.asarray(found, int), expected, atol=6)


@pytest.mark.parametrize("compression", ["jpeg2000", "png", "webp", "jpeg"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_pictures_in_a_tiff(compression, tile):
    smooth = (COLOURS * 200 + 20).astype(np.uint8)
    for samples, photometric in ((smooth, "rgb"), (smooth[..., 0], "minisblack")):
        # The writer's own codec has no grey WebP, and JPEG tiles need other sizes.
        if compression == "webp" and samples.ndim == 2:
            continue
        content = write(
            samples, photometric=photometric, compression=compression, tile=tile
        )
        reference = tifffile.imread(io.BytesIO(content)) / 255
        check(content, GREY * 0 + reference.reshape(HEIGHT, WIDTH, -1), 3)


def test_fax():
    bits = (RAMP > 0.5).astype(np.uint8)
    image = Image.fromarray(bits * 255).convert("1")
    for compression in ("group3", "group4", "tiff_ccitt"):
        content = encode(image, "TIFF", compression=compression)
        check(content, bits[..., None].repeat(3, axis=-1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compression": "lerc"}, r"uint8 x 3, LERC"),
        ({"compression": "jpegxr"}, r"uint8 x 3, JPEG XR"),
    ],
)
def test_sound_files_are_not_called_damaged(options, expected):
    samples = quantize(COLOURS, "u1")
    content = write(samples, photometric="rgb", **options)
    with pytest.raises(DecodeError, match=rf"^a kind of TIFF .* \({expected}\)$"):
        decode_image(content)


def test_complex_numbers_are_refused():
    content = write(RAMP.astype(np.complex64), photometric="minisblack")
    with pytest.raises(DecodeError, match=r"^a kind of TIFF .*\(complex64 x 1\)$"):
        decode_image(content)


def test_first_page_that_is_no_thumbnail():
    file = io.BytesIO()
    red = np.zeros((8, 8, 3), np.uint8) + np.asarray([255, 0, 0], np.uint8)
    with tifffile.TiffWriter(file) as tiff:
        for page, reduced in ((red[:2, :2] // 2, 1), (red, 0), (red // 3, 0)):
            tiff.write(page, photometric="rgb", subfiletype=reduced, metadata=None)
    found = decode_image(file.getvalue())
    np.testing.assert_array_equal(found, red)
    assert count_pages(file) == 2


def test_orientation():
    samples = quantize(COLOURS, "u2")
    content = write(samples, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    check(content, np.rot90(COLOURS, -1))


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cut_short(compression, planar):
    samples = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    samples = samples if planar == "separate" else np.moveaxis(samples, 0, -1).copy()
    content = write(
        samples, photometric="rgb", planarconfig=planar, compression=compression
    )
    with pytest.raises(DecodeError, match="^(truncated|damaged) TIFF file"):
        decode_image(content[: len(content) * 9 // 10])


def test_damage_is_quiet(capfd):
    sound = [
        encode(NOISE, "TIFF", compression=compression)
        for compression in ("tiff_lzw", "jpeg", "tiff_deflate")
    ]
    bits = Image.fromarray(np.asarray(NOISE)[..., 0] > 99)
    sound.append(encode(bits, "TIFF", compression="group4"))
    generator = np.random.default_rng(0)

    def damage() -> None:
        for content in sound:
            for _ in range(10):
                changed = np.frombuffer(content, np.uint8).copy()
                places = generator.integers(8, len(changed), 8)
                changed[places] = generator.integers(0, 256, 8)
                try:
                    decode_image(changed.tobytes())
                except DecodeError as error:
                    reasons.append(str(error))

    reasons: list[str] = []
    threads = [threading.Thread(target=damage) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reasons) > 20
    assert capfd.readouterr() == ("", "")


def test_a_directory_that_leads_nowhere():
    content = bytearray(write(quantize(RAMP, "u1"), photometric="minisblack"))
    content[4:8] = struct.pack("<I", 2**31)
    with pytest.raises(DecodeError, match="^truncated TIFF file$"):
        decode_image(bytes(content))
