"""Reads TIFF: every sample type, layout and colour space, or refuses by name."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import (
    Image,
    Jpeg2KImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mca_jax.data.colour import over_white, scale_samples
from mca_jax.data.files import DecodeError
from mca_jax.data.quiet import has_tiff_codec, quiet_libtiff
from mca_jax.data.repairs import jpeg_2000_depth

__all__ = [
    "Page",
    "cannot_be_read",
    "check_bytes",
    "count_pages",
    "is_camera_raw",
    "read_page",
    "render_page",
]

# Tags.
_SUBFILE, _WIDTH, _HEIGHT, _BITS = 254, 256, 257, 258
_COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_ROWS = 273, 274, 277, 278
_STRIP_BYTES, _PLANAR, _PREDICTOR, _COLOUR_MAP = 279, 284, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SUB_IFDS, _INK_SET, _EXTRA, _FORMAT = 330, 332, 338, 339
_SUBSAMPLING, _BLACK_WHITE, _DEPTH, _DNG_VERSION = 530, 532, 32997, 50706
_WANTED = {
    *(_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER),
    *(_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PLANAR),
    *(_PREDICTOR, _COLOUR_MAP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES),
    *(_SUB_IFDS, _INK_SET, _EXTRA, _FORMAT, _SUBSAMPLING, _BLACK_WHITE, _DEPTH),
    _DNG_VERSION,
}

_TYPES = {
    **{1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f"},
    **{12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"},
}
_RATIONALS = {5: "I", 10: "i"}
_MOST_PAGES = 1000
_MOST_TAGS = 4096
_MOST_VALUES = 2**24

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_CIE_LAB, _ICC_LAB = 8, 9
_CAMERA_PHOTOMETRICS = (32803, 34892)
_PHOTOMETRICS = {
    **{10: "ITU Lab", 32844: "LogL", 32845: "LogLuv", 51177: "a depth map"},
}
_COLOURS = {
    **{_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _PALETTE: 1, _MASK: 1},
    **{_CMYK: 4, _YCBCR: 3, _CIE_LAB: 3, _ICC_LAB: 3},
}

_FORMATS = {1: "u", 2: "i", 3: "f", 4: "u"}
_FORMAT_NAMES = {
    1: "uint",
    2: "int",
    3: "float",
    4: "uint",
    5: "complex int",
    6: "complex",
}

_UNCOMPRESSED = 1
_BY_PILLOW = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "old JPEG", 7: "JPEG"}
# Read as bytes by libtiff.
_BY_LIBTIFF = {
    **{5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"},
    **{34925: "LZMA", 50000: "ZSTD"},
}
_BY_PICTURE: dict[int, Callable[[BinaryIO], Image.Image]] = {
    33003: Jpeg2KImagePlugin.Jpeg2KImageFile,
    33004: Jpeg2KImagePlugin.Jpeg2KImageFile,
    33005: Jpeg2KImagePlugin.Jpeg2KImageFile,
    34712: Jpeg2KImagePlugin.Jpeg2KImageFile,
    34933: PngImagePlugin.PngImageFile,
    50001: WebPImagePlugin.WebPImageFile,
}
_JPEG_2000_YCBCR, _WEBP = 33003, 50001
_OTHER_COMPRESSIONS = {
    **{32766: "NeXT", 32809: "ThunderScan", 34676: "SGI Log", 34677: "SGI Log"},
    **{34661: "JBIG", 34887: "LERC", 34892: "lossy JPEG", 50002: "JPEG XL"},
    **{22610: "JPEG XR", 34934: "JPEG XR", 52546: "JPEG XL"},
}

_REVERSED_BITS = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1
)[:, 0]
# Samples of odd widths that are unpacked at once.
_UNPACKED_AT_ONCE = 2**22

Tags = Mapping[int, tuple]


class Page(NamedTuple):
    """What the tags say of one page.

    Attributes:
      number: Its number in the chain of pages, or -1 if it isn't in there.
      order: ``"<"`` or ``">"``.
      tags: Values by tag.
      width: Pixels of a row.
      height: Rows.
      samples: Samples of a pixel.
      bits: Bits of a sample.
      compression: Its number.
      photometric: How samples become colours.
    """

    number: int
    order: str
    tags: Tags
    width: int
    height: int
    samples: int
    bits: int
    compression: int
    photometric: int

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 if there is none."""
        return self.first(_ORIENTATION, 1)

    def first(self, tag: int, default: int) -> int:
        """Return the first value of a tag as a whole number."""
        return int(self.tags.get(tag, (default,))[0])


def _read_values(
    file: BinaryIO, order: str, kind: int, count: int, inline: bytes
) -> tuple:
    """Read the values of one tag; none for a type that no tag here has."""
    code = _TYPES.get(kind) or 2 * _RATIONALS.get(kind, "")
    size = struct.calcsize(f"={code}") * count
    if not code or not 0 < count <= _MOST_VALUES:
        return ()
    data = inline[:size]
    if size > len(inline):
        offset = int.from_bytes(inline, "little" if order == "<" else "big")
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        return ()
    values = struct.unpack(f"{order}{count * len(code)}{code[0]}", data)
    if len(code) == 1:
        return values
    pairs = zip(values[::2], values[1::2], strict=True)
    return tuple(above / below if below else 0.0 for above, below in pairs)


def _read_directory(
    file: BinaryIO, order: str, big: bool, offset: int
) -> tuple[dict[int, tuple], int]:
    """Read one directory; return its tags and where the next one is, or 0.

    Raises:
      DecodeError: The file ends before it.
    """
    head, entry, end = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    entry_size = struct.calcsize(f"={entry}")
    file.seek(offset)
    data = file.read(struct.calcsize(f"={head}"))
    if not offset or len(data) < struct.calcsize(f"={head}"):
        raise DecodeError("truncated TIFF file")
    (count,) = struct.unpack(order + head, data)
    if count > _MOST_TAGS:
        raise DecodeError("damaged TIFF file: too many tags")
    size = count * entry_size
    data = file.read(size + struct.calcsize(f"={end}"))
    if len(data) < size:
        raise DecodeError("truncated TIFF file")
    tags: dict[int, tuple] = {}
    for at in range(0, size, entry_size):
        tag, kind, number, inline = struct.unpack(
            order + entry, data[at : at + entry_size]
        )
        if tag not in _WANTED:
            continue
        values = _read_values(file, order, kind, number, inline)
        if values:
            tags.setdefault(tag, values)
    rest = data[size:]
    (following,) = (
        struct.unpack(order + end, rest)
        if len(rest) == struct.calcsize(f"={end}")
        else (0,)
    )
    return tags, following


def _read_header(file: BinaryIO) -> tuple[str, bool, int]:
    """Read the byte order, whether it is a BigTIFF, and where the first page is.

    Raises:
      DecodeError: The file ends before that.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    if len(head) < (16 if big else 8):
        raise DecodeError("truncated TIFF file")
    (offset,) = struct.unpack(
        order + ("Q" if big else "I"), head[8:16] if big else head[4:8]
    )
    return order, big, offset


def _walk(file: BinaryIO) -> list[tuple[str, dict[int, tuple]]]:
    """Read the directories of all pages; damage behind the first ends the walk.

    Raises:
      DecodeError: Not even the first can be read.
    """
    order, big, offset = _read_header(file)
    pages: list[tuple[str, dict[int, tuple]]] = []
    seen: set[int] = set()
    while offset and offset not in seen and len(pages) < _MOST_PAGES:
        seen.add(offset)
        try:
            tags, offset = _read_directory(file, order, big, offset)
        except DecodeError:
            if not pages:
                raise
            break
        pages.append((order, tags))
    if not pages:
        raise DecodeError("truncated TIFF file")
    return pages


def _is_whole(tags: Tags) -> bool:
    """Whether a page is one of its own: no thumbnail of another and no mask."""
    return not int(tags.get(_SUBFILE, (0,))[0]) & 5 and _WIDTH in tags


def count_pages(file: BinaryIO) -> int:
    """Count the pages that show something else, 1 at least.

    Args:
      file: A file that starts like a TIFF, open to read bytes.

    Raises:
      DecodeError: It is no TIFF any more.
    """
    return max(sum(_is_whole(tags) for _, tags in _walk(file)), 1)


def _sub_directories(file: BinaryIO, tags: Tags) -> list[dict[int, tuple]]:
    """Read the directories below a page, as far as they can be read."""
    order, big, _ = _read_header(file)
    found = []
    for offset in tags.get(_SUB_IFDS, ())[:16]:
        try:
            found.append(_read_directory(file, order, big, int(offset))[0])
        except DecodeError:
            break
    return found


def is_camera_raw(content: bytes) -> bool:
    """Whether a TIFF holds what a camera's sensor saw, perhaps below a thumbnail.

    Raises:
      DecodeError: The file ends before its first page.
    """
    file = io.BytesIO(content)
    tags = _walk(file)[0][1]
    below = _sub_directories(file, tags)
    photometrics = [int(each.get(_PHOTOMETRIC, (-1,))[0]) for each in (tags, *below)]
    return _DNG_VERSION in tags or any(p in _CAMERA_PHOTOMETRICS for p in photometrics)


def read_page(content: bytes) -> Page:
    """Read what the tags say of the first page that is no thumbnail.

    Raises:
      DecodeError: They are missing or make no sense.
    """
    file = io.BytesIO(content)
    pages = _walk(file)
    order, tags = pages[0]
    number = next((n for n, (_, tags) in enumerate(pages) if _is_whole(tags)), -1)
    if number >= 0:
        tags = pages[number][1]
    else:
        whole = filter(_is_whole, _sub_directories(file, tags))
        below = next(whole, None)
        number, tags = (0, tags) if below is None else (-1, below)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise DecodeError("damaged TIFF file: no size")
    samples = int(tags.get(_SAMPLES, (1,))[0])
    bits = tuple(tags.get(_BITS, (1,)))[:samples]
    photometric = _RGB if samples >= 3 else _MIN_IS_BLACK
    page = Page(
        number=number,
        order=order,
        tags=tags,
        width=int(tags[_WIDTH][0]),
        height=int(tags[_HEIGHT][0]),
        samples=samples,
        bits=int(bits[0]),
        compression=int(tags.get(_COMPRESSION, (1,))[0]),
        photometric=int(tags.get(_PHOTOMETRIC, (photometric,))[0]),
    )
    if page.width < 1 or page.height < 1 or not 0 < samples < 2**16:
        raise DecodeError("image without pixels")
    if len(set(bits)) > 1:
        raise cannot_be_read(page, f"{'+'.join(map(str, bits[:4]))} bits a pixel")
    return page


def cannot_be_read(page: Page, what: str = "") -> DecodeError:
    """Say of which kind a sound file is that can't be read."""
    kind = _FORMAT_NAMES.get(page.first(_FORMAT, 1), "?")
    what = f", {what}" if what else ""
    return DecodeError(
        f"a kind of TIFF that can't be read ({kind}{page.bits} x {page.samples}{what})"
    )


def check_bytes(page: Page, most: int) -> None:
    """Refuse a page that would fill the memory, whatever its tags say.

    Raises:
      DecodeError: Its samples, or a row of its tiles, have more bytes.
    """
    size = max(1, page.bits // 8)
    width = max(page.width, page.first(_TILE_WIDTH, 0))
    height = max(page.height, page.first(_TILE_HEIGHT, 0))
    if width * height * page.samples * size > most:
        raise cannot_be_read(page, f"more than {most / 2**30:.1f} GiB of samples")


def _check_kind(page: Page) -> None:
    """Refuse what this module doesn't read.

    Raises:
      DecodeError: It is such a kind; the message names it.
    """
    formats = set(page.tags.get(_FORMAT, (1,))[: page.samples])
    if len(formats) > 1 or not formats <= _FORMATS.keys():
        raise cannot_be_read(page)
    is_float = 3 in formats
    if page.bits not in ((16, 32, 64) if is_float else range(1, 65)):
        raise cannot_be_read(page)
    if page.photometric not in _COLOURS:
        name = _PHOTOMETRICS.get(
            page.photometric, f"colours of kind {page.photometric}"
        )
        raise cannot_be_read(page, name)
    if page.samples < _COLOURS[page.photometric]:
        raise DecodeError("damaged TIFF file: too few samples for its colours")
    if page.photometric == _CMYK and page.first(_INK_SET, 1) != 1:
        raise cannot_be_read(page, "inks other than CMYK")
    if page.first(_DEPTH, 1) > 1:
        raise cannot_be_read(page, "a volume")
    _check_compression(page, is_float)


def _check_compression(page: Page, is_float: bool) -> None:
    """Refuse what can't be expanded.

    Raises:
      DecodeError: It is such a kind; the message names it.
    """
    compression = page.compression
    if compression in _BY_PICTURE:
        return
    known = compression in _BY_LIBTIFF and has_tiff_codec(compression)
    if compression != _UNCOMPRESSED and not known:
        names = {**_BY_LIBTIFF, **_OTHER_COMPRESSIONS}
        other = f"compression {compression}"
        raise cannot_be_read(page, names.get(compression, other))
    widths = {1: range(65), 2: (8, 16, 32, 64), 3: (16, 32, 64) if is_float else ()}
    predictor = page.first(_PREDICTOR, 1)
    if page.bits not in widths.get(predictor, ()):
        raise cannot_be_read(page, f"predictor {predictor}")


class _Grid(NamedTuple):
    """How the bytes of a page or of one plane lie in strips or tiles.

    Attributes:
      rows: Rows of bytes of the whole grid.
      across: Tiles in a row; 1 for strips.
      segment_rows: Rows of a strip or tile.
      segment_width: Pixels of a row of a strip or tile.
      row_samples: Samples of a row of a strip or tile.
      row_bytes: Bytes of a row of a strip or tile.
      tiled: Whether there are tiles.
      offsets: Where each strip or tile of this plane begins.
      counts: How many bytes it has.
    """

    rows: int
    across: int
    segment_rows: int
    segment_width: int
    row_samples: int
    row_bytes: int
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


def _lay_out(page: Page, plane: int, samples: int, length: int) -> _Grid:
    """Work out where the bytes of a plane are.

    Args:
      page: The page.
      plane: Number of the plane.
      samples: Samples of a pixel in it.
      length: Bytes of the file.

    Raises:
      DecodeError: The tags don't say it, or there is too little.
    """
    tiled = _TILE_WIDTH in page.tags and _TILE_OFFSETS in page.tags
    if tiled:
        width, rows = page.first(_TILE_WIDTH, 0), page.first(_TILE_HEIGHT, 0)
    else:
        width, rows = page.width, min(page.first(_STRIP_ROWS, page.height), page.height)
    if width < 1 or rows < 1:
        raise DecodeError("damaged TIFF file: strips or tiles without a size")
    across, down = math.ceil(page.width / width), math.ceil(page.height / rows)
    row_bytes = math.ceil(width * samples * page.bits / 8)
    offsets = page.tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    counts = page.tags.get(_TILE_BYTES if tiled else _STRIP_BYTES, ())
    number = across * down
    if len(offsets) < number * (plane + 1):
        raise DecodeError("damaged TIFF file: strips or tiles are missing")
    offsets = offsets[number * plane : number * (plane + 1)]
    counts = counts[number * plane : number * (plane + 1)]
    if page.compression == _UNCOMPRESSED:
        # Some writers get the counts wrong, and the sizes follow from the rest.
        last = rows if tiled else page.height - rows * (down - 1)
        counts = [rows * row_bytes] * (number - across) + [last * row_bytes] * across
    elif len(counts) < number:
        counts = [length - offset for offset in offsets]
    if any(
        o + c > length or o < 8 or c < 1 for o, c in zip(offsets, counts, strict=True)
    ):
        raise DecodeError("truncated TIFF file")
    return _Grid(
        rows=rows * down if tiled else page.height,
        across=across,
        segment_rows=rows,
        segment_width=width,
        row_samples=width * samples,
        row_bytes=row_bytes,
        tiled=tiled,
        offsets=tuple(map(int, offsets)),
        counts=tuple(map(int, counts)),
    )


def _copy_segments(page: Page, content: bytes, grid: _Grid) -> np.ndarray:
    """Gather uncompressed bytes, uint8 ``[rows, across, row_bytes]``."""
    gathered = np.empty((grid.rows, grid.across, grid.row_bytes), np.uint8)
    for number, (offset, count) in enumerate(
        zip(grid.offsets, grid.counts, strict=True)
    ):
        down, across = divmod(number, grid.across)
        rows = np.frombuffer(content, np.uint8, count, offset).reshape(
            -1, grid.row_bytes
        )
        start = down * grid.segment_rows
        gathered[start : start + len(rows), across] = rows
    return _REVERSED_BITS[gathered] if page.first(_FILL_ORDER, 1) == 2 else gathered


def _expand_segments(page: Page, content: bytes, grid: _Grid) -> np.ndarray:
    """Let libtiff expand compressed bytes, uint8 ``[rows, across, row_bytes]``.

    It gets the same strips or tiles under a directory that says they are 8-bit grey,
    so that it touches no sample: what it and Pillow make of rare types is wrong at
    times, and not said.

    Raises:
      OSError: The bytes are damaged.
    """
    width = grid.across * grid.row_bytes
    if grid.tiled:
        parts: dict[int, tuple[int, ...]] = {
            _TILE_WIDTH: (grid.row_bytes,),
            _TILE_HEIGHT: (grid.segment_rows,),
            _TILE_OFFSETS: grid.offsets,
            _TILE_BYTES: grid.counts,
        }
    else:
        parts = {
            _STRIP_OFFSETS: grid.offsets,
            _STRIP_ROWS: (grid.segment_rows,),
            _STRIP_BYTES: grid.counts,
        }
    tags = {
        _WIDTH: (width,),
        _HEIGHT: (grid.rows,),
        _BITS: (8,),
        _COMPRESSION: (page.compression,),
        _PHOTOMETRIC: (_MIN_IS_BLACK,),
        _FILL_ORDER: (page.first(_FILL_ORDER, 1),),
        _SAMPLES: (1,),
        **parts,
    }
    start = len(content) + len(content) % 2
    values_at = start + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            values += packed
            packed = struct.pack("<I", values_at + len(values) - len(packed))
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + values
    pad = bytes(start - len(content))
    file = io.BytesIO(
        b"".join((b"II*\0", struct.pack("<I", start), content[8:], pad, directory))
    )
    with quiet_libtiff(), TiffImagePlugin.TiffImageFile(file) as image:
        expanded = np.asarray(image)
    return expanded.reshape(grid.rows, grid.across, grid.row_bytes)


def _unpack_bits(packed: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Unpack whole numbers of any width, the first bit the highest.

    Args:
      packed: uint8 ``[rows, across, bytes]``.
      count: Numbers of each row of bytes.
      bits: Bits of a number, 1 to 64.

    Returns:
      ``[rows, across, count]`` of the smallest unsigned type.
    """
    kind = np.dtype(f"u{max(1, 2 ** math.ceil(math.log2(bits / 8)))}")
    numbers = np.empty((*packed.shape[:2], count), kind)
    step = max(1, _UNPACKED_AT_ONCE // max(1, packed.shape[1] * count))
    for start in range(0, len(packed), step):
        unpacked = np.unpackbits(
            packed[start : start + step], axis=-1, count=count * bits
        )
        unpacked = unpacked.reshape(*unpacked.shape[:2], count, bits)
        block = np.zeros(unpacked.shape[:3], kind)
        for bit in range(bits):
            block = (block << kind.type(1)) | unpacked[..., bit]
        numbers[start : start + step] = block
    return numbers


def _parse_samples(page: Page, data: np.ndarray, grid: _Grid) -> np.ndarray:
    """Turn bytes into numbers, ``[rows, across, samples of a row]``."""
    kind = _FORMATS[page.first(_FORMAT, 1)]
    if page.bits in (8, 16, 32, 64):
        dtype = np.dtype(f"{page.order}{kind}{page.bits // 8}")
        numbers = np.ascontiguousarray(data).view(dtype)
        return numbers.astype(dtype.newbyteorder("="), copy=False)
    if page.bits % 8 == 0 and page.order == "<":
        # Whole bytes, the least first.
        size = page.bits // 8
        data = data.reshape(*data.shape[:2], -1, size)[..., ::-1].reshape(data.shape)
    numbers = _unpack_bits(data, grid.row_samples, page.bits)
    if kind == "i":
        signed = numbers.view(numbers.dtype.str.replace("u", "i"))
        spare = signed.dtype.type(8 * signed.dtype.itemsize - page.bits)
        return (signed << spare) >> spare
    return numbers


def _undo_differences(numbers: np.ndarray, samples: int) -> np.ndarray:
    """Add up differences of neighbouring pixels."""
    kind = np.dtype(f"u{numbers.dtype.itemsize}")
    pixels = numbers.view(kind).reshape(*numbers.shape[:2], -1, samples)
    summed = np.cumsum(pixels, axis=2, dtype=kind)
    return summed.view(numbers.dtype).reshape(numbers.shape)


def _undo_float_differences(page: Page, data: np.ndarray, samples: int) -> np.ndarray:
    """Add up differences of bytes, and bring the bytes of a number together."""
    size = page.bits // 8
    pixels = data.reshape(*data.shape[:2], -1, samples)
    summed = np.cumsum(pixels, axis=2, dtype=np.uint8).reshape(data.shape)
    # All first bytes, then all second ones; the highest come first.
    planes = summed.reshape(*data.shape[:2], size, -1)
    together = np.ascontiguousarray(np.moveaxis(planes, 2, 3)).reshape(data.shape)
    dtype = np.dtype(f">f{size}")
    return together.view(dtype).astype(dtype.newbyteorder("="))


def _read_plane(page: Page, content: bytes, plane: int, samples: int) -> np.ndarray:
    """Read the numbers of one plane, ``[height, width, samples]``."""
    grid = _lay_out(page, plane, samples, len(content))
    if page.compression == _UNCOMPRESSED:
        data = _copy_segments(page, content, grid)
    else:
        data = _expand_segments(page, content, grid)
    predictor = page.first(_PREDICTOR, 1) if page.compression != _UNCOMPRESSED else 1
    if predictor == 3:
        numbers = _undo_float_differences(page, data, samples)
    else:
        numbers = _parse_samples(page, data, grid)
        if predictor == 2:
            numbers = _undo_differences(numbers, samples)
    pixels = numbers.reshape(grid.rows, -1, samples)
    return pixels[: page.height, : page.width]


def _read_pictures(page: Page, content: bytes, plane: int, samples: int) -> np.ndarray:
    """Read one plane whose strips or tiles are pictures of their own."""
    grid = _lay_out(page, plane, samples, len(content))
    pixels: np.ndarray | None = None
    for number, (offset, count) in enumerate(
        zip(grid.offsets, grid.counts, strict=True)
    ):
        down, across = divmod(number, grid.across)
        coded = content[offset : offset + count]
        if jpeg_2000_depth(coded):
            raise cannot_be_read(page, "JPEG 2000")
        file = io.BytesIO(coded)
        with _BY_PICTURE[page.compression](file) as image:
            if image.size[0] > grid.segment_width or image.size[1] > grid.segment_rows:
                raise DecodeError("damaged TIFF file: a tile is too large")
            part = np.asarray(image)
        part = part.reshape(*part.shape[:2], -1)[..., :samples]
        if pixels is None:
            shape = (grid.rows, grid.across * grid.segment_width, part.shape[2])
            pixels = np.zeros(shape, part.dtype)
        top, left = down * grid.segment_rows, across * grid.segment_width
        pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert pixels is not None
    return pixels[: page.height, : page.width]


def _read_subsampled(page: Page, content: bytes, across: int, down: int) -> np.ndarray:
    """Read YCbCr with fewer samples of colour than of brightness.

    Each unit holds ``across * down`` brightnesses and one pair of colours.

    Raises:
      DecodeError: It is tiled or of a rare kind.
    """
    if _TILE_WIDTH in page.tags or page.bits != 8 or page.first(_PLANAR, 1) != 1:
        raise cannot_be_read(page, "subsampled colours")
    units, size = math.ceil(page.width / across), across * down + 2
    # As rows of units that are as many samples wide as they have bytes.
    rows = min(page.first(_STRIP_ROWS, page.height), page.height)
    tags = {**page.tags, _STRIP_ROWS: (math.ceil(rows / down),)}
    packed = page._replace(
        tags=tags, width=units * size, height=math.ceil(page.height / down), samples=1
    )
    data = _read_plane(packed, content, 0, 1).reshape(-1, units, size)
    bright = data[..., :-2].reshape(-1, units, down, across)
    bright = bright.transpose(0, 2, 1, 3).reshape(-1, units * across)
    colours = data[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    pixels = np.concatenate((bright[..., None], colours), axis=-1)
    return pixels[: page.height, : page.width]


def _read_samples(page: Page, content: bytes) -> np.ndarray:
    """Read the numbers of a page, ``[height, width, samples]``."""
    across, down = (*page.tags.get(_SUBSAMPLING, (2, 2)), 1)[:2]
    by_picture = page.compression in _BY_PICTURE
    if page.photometric == _YCBCR and (across, down) != (1, 1) and not by_picture:
        return _read_subsampled(page, content, across, down)
    read = _read_pictures if by_picture else _read_plane
    if page.first(_PLANAR, 1) == 2 and page.samples > 1:
        # No more planes than matter: colours and one of alpha.
        wanted = min(page.samples, _COLOURS[page.photometric] + 1)
        planes = [read(page, content, plane, 1) for plane in range(wanted)]
        return np.concatenate(planes, axis=-1)
    return read(page, content, 0, page.samples)


def _from_palette(page: Page, samples: np.ndarray) -> np.ndarray:
    """Look colours up.

    Raises:
      DecodeError: The palette is missing or too small.
    """
    colours = np.asarray(page.tags.get(_COLOUR_MAP, ()), np.int64)
    if len(colours) < 3 or len(colours) % 3:
        raise DecodeError("damaged TIFF file: no palette")
    # Some writers put 8-bit values where 16-bit ones belong.
    if colours.max() > 255:
        colours = (colours * 255 + 32767) // 65535
    table = colours.reshape(3, -1).T.astype(np.uint8)
    indices = samples[..., 0]
    if indices.size and int(indices.max()) >= len(table):
        raise DecodeError("damaged TIFF file: colours beyond the palette")
    return table[indices]


def _from_ycbcr(page: Page, scaled: np.ndarray) -> np.ndarray:
    """Turn brightness and colour differences, uint8, into RGB."""
    levels = page.tags.get(_BLACK_WHITE, ())
    if len(levels) == 6 and page.bits == 8:
        black = np.asarray(levels[::2], np.float32)
        white = np.asarray(levels[1::2], np.float32)
        span = np.asarray([255, 127, 127], np.float32)
        base = np.asarray([0, 128, 128], np.float32)
        scale = span / np.maximum(white - black, 1)
        if np.abs(scale - 1).max() > 0.02 or black[0]:
            moved = (scaled[..., :3] - black) * scale + base
            scaled = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(scaled[..., :3]), "YCbCr")
    return np.asarray(image.convert("RGB"))


def _from_lab(page: Page, samples: np.ndarray) -> np.ndarray:
    """Turn CIE Lab into sRGB by its profile.

    Raises:
      DecodeError: Samples are of a rare width.
    """
    if page.bits not in (8, 16) or samples.dtype.kind == "f":
        raise cannot_be_read(page, "Lab")
    parts = samples[..., :3]
    if page.photometric == _CIE_LAB:
        # Colours are signed there, whatever the tags say.
        unsigned = parts.astype(f"u{parts.dtype.itemsize}", copy=True)
        unsigned[..., 1:] += unsigned.dtype.type(1 << (page.bits - 1))
        parts = unsigned
    if page.bits == 16:
        light = (parts[..., :1].astype(np.uint32) * 255 + 32767) // 65535
        parts = np.concatenate((light, parts[..., 1:] >> 8), axis=-1)
    data = np.ascontiguousarray(parts.astype(np.uint8))
    # Pillow keeps colours with an offset, and reads them from bytes with a sign.
    data[..., 1:] ^= 128
    size = (page.width, page.height)
    image = Image.frombytes("LAB", size, data.tobytes(), "raw", "LAB")
    return np.asarray(image.convert("RGB"))


def _to_colours(page: Page, samples: np.ndarray) -> np.ndarray:
    """Turn numbers into 8-bit grey ``[h, w]`` or RGB ``[h, w, 3]``."""
    if page.photometric == _PALETTE:
        return _from_palette(page, samples)
    if page.photometric in (_CIE_LAB, _ICC_LAB):
        return _from_lab(page, samples)
    bits = 8 * samples.dtype.itemsize if page.compression in _BY_PICTURE else page.bits
    scaled = scale_samples(samples[..., : _COLOURS[page.photometric]], bits)
    if page.compression == _WEBP:
        return scaled
    if page.photometric == _YCBCR or page.compression == _JPEG_2000_YCBCR:
        return _from_ycbcr(page, scaled)
    if page.photometric == _CMYK:
        inks = Image.fromarray(np.ascontiguousarray(scaled), "CMYK")
        return np.asarray(inks.convert("RGB"))
    if page.photometric == _RGB:
        return scaled
    return 255 - scaled[..., 0] if page.photometric == _MIN_IS_WHITE else scaled[..., 0]


def _add_alpha(page: Page, colours: np.ndarray, samples: np.ndarray) -> Image.Image:
    """Put colours on white where an extra sample says how opaque they are."""
    kinds = page.tags.get(_EXTRA, ())
    place = _COLOURS[page.photometric]
    if not kinds or kinds[0] not in (1, 2) or samples.shape[-1] <= place:
        return Image.fromarray(np.ascontiguousarray(colours)).convert("RGB")
    extra = samples[..., place]
    if extra.dtype.kind == "u":
        # By the full range, whatever is in use.
        wide = extra.astype(np.float32)
        alpha = np.rint(wide * np.float32(255 / (2.0**page.bits - 1))).astype(np.uint8)
    else:
        alpha = scale_samples(extra, page.bits)
    rgb = Image.fromarray(np.ascontiguousarray(colours)).convert("RGB")
    if kinds[0] == 1:
        # Premultiplied: what is missing to full cover is white.
        lifted = np.asarray(rgb, np.uint16) + (255 - alpha.astype(np.uint16))[..., None]
        return Image.fromarray(np.minimum(lifted, 255).astype(np.uint8))
    rgb.putalpha(Image.fromarray(alpha))
    return over_white(rgb)


def _is_plain(page: Page) -> bool:
    """Whether a page is 8-bit grey or RGB, pixel by pixel, and no more than that."""
    return (
        page.bits == 8
        and (page.photometric, page.samples) in ((_MIN_IS_BLACK, 1), (_RGB, 3))
        and page.compression not in _BY_PICTURE
        and page.first(_FORMAT, 1) == page.first(_PLANAR, 1) == 1
        and page.first(_FILL_ORDER, 1) == 1
    )


def render_page(page: Page, content: bytes) -> Image.Image | None:
    """Turn a page into RGB over white, not yet upright.

    Returns:
      The picture; None for fax and JPEG compression, which Pillow reads by itself,
      and for the plainest layout, which it reads in half the time.

    Raises:
      DecodeError: It is a kind of TIFF that can't be read, or damaged.
      OSError: Its compressed bytes are damaged.
    """
    if page.compression in _BY_PILLOW:
        return None
    _check_kind(page)
    if _is_plain(page):
        return None
    samples = _read_samples(page, content)
    return _add_alpha(page, _to_colours(page, samples), samples)
