"""What a file says that its decoder doesn't: is it whole, how large is it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

__all__ = [
    "END_OF_JPEG",
    "all_coefficients_begun",
    "boxes_are_complete",
    "chunks_are_complete",
    "jpeg_2000_depth",
    "jpeg_kind",
    "jpeg_xl_size",
    "without_metadata",
]

END_OF_JPEG = b"\xff\xd9"

_START_OF_SCAN = 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
# Start of frame to how it is coded; those that aren't here are read.
_FRAMES = {
    **{0xC5: "hierarchical", 0xC6: "hierarchical"},
    **{0xC7: "hierarchical", 0xCB: "lossless arithmetic", 0xCD: "hierarchical"},
    **{0xCE: "hierarchical", 0xCF: "hierarchical", 0xF7: "JPEG-LS"},
}
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_KEPT_CHUNKS = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"sBIT")


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the payload of each segment of a JPEG."""
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            # Coded pixels: on to the next marker; FF 00 is a byte of theirs.
            at = content.find(b"\xff", at)
            if at < 0:
                return
            continue
        marker = content[at + 1]
        if marker in (0x00, 0xFF) or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            return
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        yield marker, content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def jpeg_kind(content: bytes) -> str:
    """Name the kind of a JPEG that is sound and isn't read, or return nothing."""
    for marker, payload in _segments(content):
        if marker in _FRAME_MARKERS and payload:
            if marker in _FRAMES:
                return _FRAMES[marker]
            return "" if payload[0] == 8 else f"{payload[0]} bits a sample"
    return ""


def all_coefficients_begun(content: bytes) -> bool:
    """Whether the scans of a JPEG that have begun hold every coefficient in full.

    Says nothing of whether the last of them ends too early.
    """
    components: set[int] = set()
    missing: dict[tuple[int, int], int] = {}
    for marker, payload in _segments(content):
        if marker in _FRAME_MARKERS:
            number = payload[5] if len(payload) > 5 else 0
            components = set(payload[6 : 6 + 3 * number : 3])
            missing = {(c, k): 1 for c in components for k in range(64)}
        if marker == _START_OF_SCAN:
            number = payload[0] if payload else 0
            spectral = payload[1 + 2 * number :]
            if len(spectral) < 3:
                return False
            first, last, approximation = spectral[:3]
            for component in payload[1 : 1 + 2 * number : 2]:
                for k in range(first, min(last, 63) + 1):
                    missing[component, k] = approximation & 15
    return bool(components) and not any(missing.values())


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG; the last may be cut short."""
    at = 8
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield content[at:end]
        at = end


def chunks_are_complete(content: bytes) -> bool:
    """Whether a PNG goes on to its last chunk and holds each in full."""
    last = b""
    for last in _chunks(content):
        if last[4:8] == b"IEND":
            break
    return len(last) >= 12 and last[4:8] == b"IEND"


def without_metadata(content: bytes) -> bytes:
    """Return a PNG without the chunks that change no pixel.

    A text or profile may be larger than Pillow takes, or damaged.
    """
    kept = [content[:8]]
    for chunk in _chunks(content):
        name = chunk[4:8]
        # The fifth bit of the first letter says that a chunk may be left out.
        optional = bool(name) and bool(name[0] & 32)
        sound = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if not optional or (name in _KEPT_CHUNKS and sound):
            kept.append(chunk)
    return b"".join(kept)


def boxes_are_complete(content: bytes) -> bool:
    """Whether a HEIC or AVIF holds each of its outermost boxes in full."""
    at = 0
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(content[at + 8 : at + 16], "big")
        # The last one may reach to the end of the file, whatever that is.
        if not length:
            return True
        at += max(length, 8)
    return at == len(content)


def jpeg_2000_depth(content: bytes) -> str:
    """Say which samples a JPEG 2000 has that Pillow gets wrong, or return nothing.

    It rounds wide samples of colours past the largest, so that white turns black.
    """
    start = content.find(b"\xff\x4f\xff\x51")
    head = content[start + 4 : start + 4 + 48]
    if start < 0 or len(head) < 39:
        return ""
    number, bits = int.from_bytes(head[36:38], "big"), (head[38] & 127) + 1
    return f"{bits} bits x {number}" if number > 1 and bits > 8 else ""


# Width by height, as the shortest headers give it.
_JPEG_XL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9)}
_JPEG_XL_RATIOS |= {6: (5, 4), 7: (2, 1)}
_JPEG_XL_BITS = (9, 13, 18, 30)


def jpeg_xl_size(content: bytes) -> tuple[int, int] | None:
    """Return the width and height in the header of a JPEG XL, None if there is none."""
    start = 0
    if not content.startswith(b"\xff\x0a"):
        # In a box; where that is cut into parts, behind the number of the part.
        whole = content.find(b"jxlc\xff\x0a")
        start = max(whole, content.find(b"jxlp\0\0\0\0\xff\x0a"))
        if start < 0:
            return None
        start = content.index(b"\xff\x0a", start)
    header = content[start + 2 : start + 14]
    if len(header) < 12:
        return None
    bits = int.from_bytes(header, "little")

    def take(number: int) -> int:
        nonlocal bits
        value = bits & ((1 << number) - 1)
        bits >>= number
        return value

    small = take(1)

    def take_side() -> int:
        return 8 * (take(5) + 1) if small else take(_JPEG_XL_BITS[take(2)]) + 1

    height = take_side()
    ratio = take(3)
    if ratio:
        across, down = _JPEG_XL_RATIOS[ratio]
        return height * across // down, height
    return take_side(), height
