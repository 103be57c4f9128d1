"""Small files of every format that is read, for damaging them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["image_files", "make_dng"]

_SIDE = 48


def _picture() -> Image.Image:
    ys, xs = np.mgrid[0:_SIDE, 0:_SIDE]
    noise = np.random.default_rng(0).integers(0, 60, (_SIDE, _SIDE))
    return Image.fromarray(
        np.stack([xs * 4, ys * 4, noise + xs + ys], axis=-1).astype(np.uint8)
    )


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _heic(image: Image.Image) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.encode(image.mode, image.size, image.tobytes(), file, quality=80)
    return file.getvalue()


def _psd(image: Image.Image) -> bytes:
    """A flattened picture without compression."""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, image.height, image.width, 8, 3)
    planes = np.asarray(image).transpose(2, 0, 1).tobytes()
    return head + bytes(12) + b"\0\0" + planes


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def _tiffs(image: Image.Image) -> dict[str, bytes]:
    """TIFFs of several layouts and codings."""
    pixels = np.asarray(image)
    wide = pixels.astype(np.uint16) * 257
    planes = np.ascontiguousarray(wide.transpose(2, 0, 1))
    rgb: dict[str, Any] = {"photometric": "rgb"}
    return {
        "TIFF plain": _tiff(pixels, **rgb),
        "TIFF 16-bit planes": _tiff(planes, planarconfig="separate", **rgb),
        "TIFF tiles, big": _tiff(pixels, tile=(16, 16), bigtiff=True, **rgb),
        "TIFF Deflate, big-endian": _tiff(
            wide, compression="zlib", byteorder=">", **rgb
        ),
        "TIFF float": _tiff(pixels[..., 0].astype(np.float32) / 255),
        "TIFF LZW": _saved(image, "TIFF", compression="tiff_lzw"),
        "TIFF JPEG": _saved(image, "TIFF", compression="jpeg"),
        "TIFF CMYK": _saved(image.convert("CMYK"), "TIFF"),
        "TIFF bilevel, fax": _saved(image.convert("1"), "TIFF", compression="group4"),
        "TIFF pages": _saved(image, "TIFF", save_all=True, append_images=[image]),
    }


def make_dng() -> bytes:
    """A camera's RAW file: a grey wedge behind a mosaic of colours."""
    mosaic = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    matrix = [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]
    tags = [
        (50706, 1, 4, bytes([1, 4, 0, 0]), True),
        (50721, 10, 9, matrix, True),
        (33421, 3, 2, (2, 2), True),
        (33422, 1, 4, bytes([0, 1, 1, 2]), True),
        (50717, 4, 1, 65535, True),
        (50708, 2, 0, "Camera", True),
    ]
    return _tiff(mosaic, photometric=32803, extratags=tags)


def _jpeg_xl(image: Image.Image) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(np.asarray(image), lossless=True))


def image_files() -> dict[str, bytes]:
    """Name of each kind, and a file of it; without extras that are not installed."""
    image = _picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    grey, palette = image.convert("L"), image.convert("P")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    clear = image.copy()
    clear.putalpha(grey)
    found = {
        "JPEG": _saved(image, "JPEG", exif=exif),
        "JPEG progressive": _saved(image, "JPEG", progressive=True),
        "JPEG CMYK": _saved(image.convert("CMYK"), "JPEG"),
        "MPO": _saved(image, "MPO", **frames),
        "PNG": _saved(clear, "PNG"),
        "PNG 16 bits": _saved(wide, "PNG"),
        "PNG palette": _saved(palette, "PNG", transparency=bytes(range(200))),
        "PNG animation": _saved(image, "PNG", **frames),
        "GIF animation": _saved(palette, "GIF", **frames),
        "WebP": _saved(image, "WEBP"),
        "WebP lossless": _saved(clear, "WEBP", lossless=True),
        "HEIC": _heic(image),
        "AVIF": _saved(image, "AVIF"),
        "BMP": _saved(image, "BMP"),
        "BMP palette": _saved(palette, "BMP"),
        "JPEG 2000": _saved(image, "JPEG2000"),
        "PSD": _psd(image),
        "PNM": _saved(image, "PPM"),
        "QOI": _saved(image, "QOI"),
        "SGI": _saved(image, "SGI"),
        "TGA": _saved(image, "TGA", compression="tga_rle"),
        **_tiffs(image),
    }
    for name, make in {"RAW": make_dng, "JPEG XL": lambda: _jpeg_xl(image)}.items():
        module = {"RAW": "rawpy", "JPEG XL": "pillow_jxl"}[name]
        try:
            __import__(module)
            found[name] = make()
        except ImportError:
            print(f"{name}: {module} is not installed, left out")
    return found
