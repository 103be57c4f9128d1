"""Reads the kinds of BMP that Pillow doesn't: any masks of colours, 2 bits."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from mca_jax.data.colour import over_white
from mca_jax.data.files import DecodeError

__all__ = ["BmpHeader", "embedded_picture", "read_header", "render_bitmap"]

_PLAIN, _BIT_FIELDS, _JPEG, _PNG, _ALPHA_BIT_FIELDS = 0, 3, 4, 5, 6
# Red, green, blue and alpha where the file doesn't say.
_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


class BmpHeader(NamedTuple):
    """What a BMP says of itself.

    Attributes:
      size: Bytes of the header, which tell its kind.
      width: Pixels of a row.
      height: Rows; below 0 if the topmost comes first.
      bits: Bits of a pixel.
      compression: Number of how they are stored.
    """

    size: int
    width: int
    height: int
    bits: int
    compression: int


def read_header(content: bytes) -> BmpHeader:
    """Read what a BMP says of itself.

    Raises:
      DecodeError: It ends before that.
    """
    if len(content) < 26:
        raise DecodeError("truncated BMP file")
    (size,) = struct.unpack_from("<I", content, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        return BmpHeader(size, width, height, bits, _PLAIN)
    if len(content) < 34:
        raise DecodeError("truncated BMP file")
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    return BmpHeader(size, width, height, bits, compression)


def embedded_picture(content: bytes) -> bytes:
    """Return the JPEG or PNG that a BMP may be a wrapper of, or nothing."""
    *_, compression = read_header(content)
    if compression not in (_JPEG, _PNG):
        return b""
    (offset,) = struct.unpack_from("<I", content, 10)
    return content[offset:]


def _find_masks(content: bytes, header: BmpHeader) -> tuple[int, ...]:
    """Return the masks of red, green, blue and alpha."""
    size, _, _, bits, compression = header
    if compression == _PLAIN:
        return _MASKS[bits]
    number = 4 if size >= 56 or compression == _ALPHA_BIT_FIELDS else 3
    if len(content) < 54 + 4 * number:
        raise DecodeError("truncated BMP file")
    return (*struct.unpack_from(f"<{number}I", content, 54), 0)[:4]


def _spread(words: np.ndarray, mask: int) -> np.ndarray:
    """Take the bits of a mask and scale them to 8."""
    if not mask:
        return np.zeros(words.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    largest = mask >> shift
    parts = ((words & words.dtype.type(mask)) >> words.dtype.type(shift)).astype(
        np.float32
    )
    return np.rint(parts * np.float32(255 / largest)).astype(np.uint8)


def _read_rows(content: bytes, header: BmpHeader) -> np.ndarray:
    """Read the bytes of all rows, the topmost first."""
    _, width, height, bits, _ = header
    (offset,) = struct.unpack_from("<I", content, 10)
    stride = (width * bits + 31) // 32 * 4
    if len(content) < offset + stride * abs(height):
        raise DecodeError("truncated BMP file")
    rows = np.frombuffer(content, np.uint8, stride * abs(height), offset)
    rows = rows.reshape(abs(height), stride)
    return rows[::-1] if height > 0 else rows


def render_bitmap(content: bytes) -> Image.Image | None:
    """Turn a bitmap of 2, 16 or 32 bits into RGB.

    Returns:
      The picture, or None for a kind that Pillow reads.

    Raises:
      DecodeError: The file ends too early.
    """
    header = read_header(content)
    size, width, height, bits, compression = header
    kinds = {2: (_PLAIN,), 16: (_PLAIN, _BIT_FIELDS, _ALPHA_BIT_FIELDS)}
    kinds[32] = kinds[16]
    if compression not in kinds.get(bits, ()) or size == 64 and compression:
        return None
    if width < 1 or not height:
        raise DecodeError("image without pixels")
    rows = _read_rows(content, header)
    if bits == 2:
        indices = (rows[..., None] >> np.asarray([6, 4, 2, 0], np.uint8)) & 3
        indices = indices.reshape(len(rows), -1)[:, :width]
        entry = 3 if size == 12 else 4
        colours = np.frombuffer(content[14 + size :][: 4 * entry], np.uint8)
        if len(colours) < 4 * entry:
            raise DecodeError("truncated BMP file")
        return Image.fromarray(colours.reshape(4, entry)[indices][..., 2::-1])
    words = np.ascontiguousarray(rows).view(f"<u{bits // 8}")[:, :width]
    red, green, blue, alpha = _find_masks(content, header)
    channels = [_spread(words, mask) for mask in (red, green, blue)]
    picture = Image.fromarray(np.stack(channels, axis=-1))
    opacity = _spread(words, alpha)
    # Many writers leave the opacity at 0 everywhere and mean nothing by it.
    if not opacity.any():
        return picture
    picture.putalpha(Image.fromarray(opacity))
    return over_white(picture)
