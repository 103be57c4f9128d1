"""Reads a run's images again, and keeps the page's pictures in it or beside it."""

from __future__ import annotations

import base64
import filecmp
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image, ImageOps

from mca_jax.core.host_tables import allocate_rows
from mca_jax.data import decode_image
from mca_jax.model.result import ClusterResult
from mca_jax.report.duplicates import SMALL_EDGE, FileSize, shrink

__all__ = [
    "PICTURE_FOLDER",
    "SHEET_COLUMNS",
    "Album",
    "ImageReader",
    "Thumbnails",
    "affordable_rows",
    "encode_sheets",
    "encode_thumbnail",
    "encode_thumbnails",
    "encode_view",
    "read_small",
    "read_tiles",
    "thumbnail_size",
    "tile_edge",
]

Thumbnails = Literal["embed", "beside"]
"""Whether pictures are in the page or in files beside it."""

_ANY = 10**18

PICTURE_FOLDER = "report_files"
"""Name of the folder of pictures beside the page."""

SHEET_COLUMNS = 16
"""Tiles side by side on a sheet, and at most as many one below the other."""

_Made = TypeVar("_Made")
_Load = Callable[[int], Image.Image]

_THUMBNAIL_QUALITY, _SHEET_QUALITY = 78, 68
# Numbers of pictures and their edge in pixels: a large set of clusters gets smaller
# ones, so that the page stays below 25 MB.
_THUMBNAIL_EDGES = ((1000, 192), (1900, 160), (3600, 112), (None, 88))
_TILE_EDGES = ((1000, 96), (2500, 80), (5000, 64), (None, 56))
# What may be read of files for tiles: ten seconds or so on two slow cores. Opening
# and decoding even a tiny file costs as much as that many bytes of a large one.
_MOST_BYTES = 1_500_000_000
_BYTES_OF_OPENING = 80_000
_SMALL_BLOCK = 256


class ImageReader:
    """Reads images of a run again.

    Attributes:
      available: Whether there is anything to read: arrays of embeddings have no
        pictures.
      own_files: Whether it reads the files that the result names.
    """

    def __init__(self, result: ClusterResult, load_image: _Load | None = None) -> None:
        """Read by ``load_image``, upright RGB by row, or the run's own files."""
        self._result = result
        self._load_image = load_image
        self.own_files = load_image is None
        self.available = (
            load_image is not None
            or bool(result.root)
            or any(map(os.path.isfile, result.paths[:1]))
        )

    def path(self, row: int) -> str:
        """Path of a row's file, absolute in a list of files; arrays have none."""
        return os.path.join(self._result.root, self._result.paths[row])

    def load(self, row: int, *, edge: int) -> Image.Image:
        """Decode one image, its shorter side at least ``edge`` pixels if it can be.

        Raises:
          OSError: The file is gone.
          ValueError: It can't be decoded any more.
        """
        if self._load_image is not None:
            return self._load_image(row)
        # It took part in the run, so that it was not too large nor cut short too soon.
        return decode_image(
            self.path(row), min_side=edge, max_pixels=_ANY, partial_jpegs=True
        )

    def measure(self, row: int) -> FileSize:
        """Width, height and bytes of a row; of arrays the pixels alone."""
        try:
            if self._load_image is not None:
                return FileSize(*self._load_image(row).size, 0)
            path = self.path(row)
            with Image.open(path) as image:
                return FileSize(*image.size, os.path.getsize(path))
        except (OSError, ValueError, Image.DecompressionBombError):
            return FileSize(0, 0, 0)

    def same_content(self, row: int, other: int) -> bool:
        """Whether files, or pixels of arrays, are equal; False if they are gone."""
        if not self.available:
            return False
        try:
            if self._load_image is None:
                return filecmp.cmp(self.path(row), self.path(other), shallow=False)
            one, two = self._load_image(row), self._load_image(other)
        except (OSError, ValueError):
            return False
        return one.size == two.size and one.tobytes() == two.tobytes()


class Album:
    """The pictures of a page.

    Attributes:
      files: What is to be written beside the page: content by path relative to
        its folder. Names are numbers, whatever the images are called.
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        """Begin without pictures."""
        self._beside = thumbnails == "beside"
        self.files: dict[str, bytes] = {}

    def add(self, name: str, jpeg: bytes) -> str:
        """Add a picture under a name without an ending; return its address."""
        if not self._beside:
            return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
        path = f"{PICTURE_FOLDER}/{name}.jpg"
        self.files[path] = jpeg
        return path


def _edge(count: int, edges: Sequence[tuple[int | None, int]]) -> int:
    return next(edge for most, edge in edges if most is None or count <= most)


def thumbnail_size(count: int) -> int:
    """Edge in pixels, 88 to 192, for a page that shows ``count`` pictures."""
    return _edge(count, _THUMBNAIL_EDGES)


def tile_edge(count: int) -> int:
    """Edge in pixels, 56 to 96, of ``count`` tiles; 10,000 of them take some 8 MB."""
    return _edge(count, _TILE_EDGES)


def affordable_rows(rows: Sequence[int], paths: Callable[[int], str]) -> list[int]:
    """Leave out rows, evenly, until the rest can be read in some seconds.

    What is left follows from the sizes of the files alone, so two runs on the
    same files show the same pictures.
    """
    costs = []
    for row in rows:
        try:
            costs.append(os.path.getsize(paths(row)) + _BYTES_OF_OPENING)
        except (OSError, ValueError):
            costs.append(0)
    stride = 1
    while sum(costs[::stride]) > _MOST_BYTES:
        stride += 1
    return list(rows[::stride])


def _square(image: Image.Image, edge: int) -> Image.Image:
    """The middle square of a picture, without the original's metadata."""
    square = ImageOps.fit(image.convert("RGB"), (edge, edge), Image.Resampling.BICUBIC)
    # Pillow would copy the comment of the original.
    square.info.clear()
    return square


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _for_each(
    rows: Iterable[int], load: _Load, make: Callable[[Image.Image], _Made]
) -> dict[int, _Made]:
    """Load each row once, in threads; those that can't be read are absent."""
    wanted = sorted(set(rows))

    def read(row: int) -> _Made | None:
        try:
            return make(load(row))
        except (OSError, ValueError):
            return None

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        found = zip(wanted, pool.map(read, wanted), strict=True)
        return {row: made for row, made in found if made is not None}
    finally:
        # After an error or Ctrl-C nobody waits for the rest.
        pool.shutdown(cancel_futures=True)


def encode_thumbnail(image: Image.Image, *, size: int) -> bytes:
    """Encode the middle square, ``size`` pixels wide, without any metadata."""
    return _jpeg(_square(image, size), _THUMBNAIL_QUALITY)


def encode_view(image: Image.Image, *, size: int) -> bytes:
    """Encode a whole picture, at most ``size`` pixels wide and high."""
    view = image.convert("RGB")
    view.thumbnail((size, size), Image.Resampling.BICUBIC)
    view.info.clear()
    return _jpeg(view, _THUMBNAIL_QUALITY)


def encode_thumbnails(
    rows: Iterable[int], load_image: _Load, *, size: int
) -> dict[int, bytes]:
    """Encode the middle squares of some images, ``size`` pixels wide.

    ``load_image`` returns the upright picture of a row; OSError or ValueError means
    that it is gone or can't be read any more.

    Returns:
      JPEG files by row, without any of the originals' metadata: no location, no
      camera, no comment. Rows that can't be read are absent.
    """
    return _for_each(rows, load_image, partial(encode_thumbnail, size=size))


def read_tiles(
    rows: Iterable[int], load_image: _Load, *, edge: int
) -> dict[int, np.ndarray]:
    """Like :func:`encode_thumbnails`, as uint8 ``[edge, edge, 3]``."""
    return _for_each(rows, load_image, lambda image: np.asarray(_square(image, edge)))


def read_small(
    result: ClusterResult,
    reader: ImageReader,
    *,
    progress: Callable[[int], Any] | None = None,
) -> np.ndarray | None:
    """Read the small pictures by which duplicates are found.

    Args:
      result: A result, perhaps with some of them: those that are black are read.
      reader: Reads the images.
      progress: Called with the number of images done since the last call.

    Returns:
      uint8 ``[n, 16, 16, 3]``, black where a picture can't be read; None where there
      are none.
    """
    if not reader.available:
        return result.pictures
    shape = (len(result.paths), SMALL_EDGE, SMALL_EDGE, 3)
    small = result.pictures
    if small is None:
        small = allocate_rows(shape, np.uint8)
    missing = np.flatnonzero(~small.any(axis=(1, 2, 3))).tolist()
    if progress is not None:
        progress(len(small) - len(missing))
    if missing and result.pictures is not None:
        small = np.array(small)
    for start in range(0, len(missing), _SMALL_BLOCK):
        rows = missing[start : start + _SMALL_BLOCK]
        load = partial(reader.load, edge=2 * SMALL_EDGE)
        for row, picture in _for_each(rows, load, shrink).items():
            small[row] = picture
        if progress is not None:
            progress(len(rows))
    return small


def encode_sheets(tiles: Mapping[int, np.ndarray], *, edge: int) -> list[bytes]:
    """Pack tiles into JPEG files, 256 each, row by row of a grid.

    The order is that of the mapping; the last sheet is as high as it need be.
    """
    pictures = list(tiles.values())
    sheets = []
    for start in range(0, len(pictures), SHEET_COLUMNS**2):
        part = pictures[start : start + SHEET_COLUMNS**2]
        height = edge * -(-len(part) // SHEET_COLUMNS)
        pixels = np.full((height, edge * SHEET_COLUMNS, 3), 255, np.uint8)
        for slot, tile in enumerate(part):
            top, left = (edge * each for each in divmod(slot, SHEET_COLUMNS))
            pixels[top : top + edge, left : left + edge] = tile
        sheets.append(_jpeg(Image.fromarray(pixels), _SHEET_QUALITY))
    return sheets
