"""Makes image files of every kind, for tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from mca_jax.data import decode_image


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_png(
    size: tuple[int, int],
    depth: int,
    colour: int,
    rows: bytes,
    *chunks: tuple[bytes, bytes],
) -> bytes:
    """A PNG of a kind that Pillow can't write, from its parts."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *(chunk(*each) for each in chunks),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def pixels(content: bytes, **options) -> list[list[int]]:
    image = decode_image(content, **options)
    assert image.mode == "RGB"
    return np.asarray(image).reshape(-1, 3).tolist()


def grey(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


WHITE = [255, 255, 255]
NOISE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
)
