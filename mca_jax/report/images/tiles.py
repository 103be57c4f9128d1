"""Tiny square pictures of many images, packed into sheets for the map."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

__all__ = [
    "SHEET_COLUMNS",
    "affordable_rows",
    "encode_sheets",
    "read_tiles",
    "tile_edge",
]

SHEET_COLUMNS = 16
"""Tiles side by side on a sheet, and at most as many one below the other."""

_QUALITY = 68
# Images of the map and the edge of their tiles in pixels.
_EDGES = ((1000, 96), (2500, 80), (5000, 64))
_SMALLEST_EDGE = 56
# What may be read of files for tiles: ten seconds or so on two slow cores. Opening
# and decoding even a tiny file costs as much as that many bytes of a large one.
_MOST_BYTES = 1_500_000_000
_BYTES_OF_OPENING = 80_000


def tile_edge(count: int) -> int:
    """Edge in pixels of the tiles of a map of ``count`` images.

    Args:
      count: Number of tiles, at least 0.

    Returns:
      An edge from 56 to 96; 10,000 tiles take some 8 MB.
    """
    for most, edge in _EDGES:
        if count <= most:
            return edge
    return _SMALLEST_EDGE


def affordable_rows(rows: Sequence[int], paths: Callable[[int], str]) -> list[int]:
    """Leave out rows, evenly, until the rest can be read in some seconds.

    What is left follows from the sizes of the files alone, so two runs on the
    same files show the same pictures.

    Args:
      rows: Rows that should get a tile.
      paths: Path of a row's file.

    Returns:
      All rows, or every second one, third one and so on.
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


def read_tiles(
    rows: Iterable[int], load_image: Callable[[int], Image.Image], *, edge: int
) -> dict[int, np.ndarray]:
    """Read the middle squares of some images, in threads.

    Args:
      rows: Rows to read.
      load_image: Returns the upright picture of a row. OSError or ValueError
        means that it is gone or can't be read any more.
      edge: Edge of the results in pixels.

    Returns:
      uint8 ``[edge, edge, 3]`` by row; rows that can't be read are absent.
    """
    wanted = sorted(set(rows))

    def read(row: int) -> np.ndarray | None:
        try:
            image = load_image(row).convert("RGB")
        except (OSError, ValueError):
            return None
        square = ImageOps.fit(image, (edge, edge), Image.Resampling.BICUBIC)
        return np.asarray(square)

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        found = pool.map(read, wanted)
        return {
            row: tile
            for row, tile in zip(wanted, found, strict=True)
            if tile is not None
        }
    finally:
        # After an error or Ctrl-C nobody waits for the rest.
        pool.shutdown(cancel_futures=True)


def encode_sheets(tiles: Mapping[int, np.ndarray], *, edge: int) -> list[bytes]:
    """Pack tiles into JPEG files, 256 each, row by row of a grid.

    Args:
      tiles: From :func:`read_tiles`; the order of the mapping is that of the
        tiles.
      edge: Their edge in pixels.

    Returns:
      The sheets; the last one is as high as it need be.
    """
    pictures = list(tiles.values())
    sheets = []
    for start in range(0, len(pictures), SHEET_COLUMNS**2):
        part = pictures[start : start + SHEET_COLUMNS**2]
        height = edge * -(-len(part) // SHEET_COLUMNS)
        pixels = np.full((height, edge * SHEET_COLUMNS, 3), 255, np.uint8)
        for place, tile in enumerate(part):
            top, left = (edge * each for each in divmod(place, SHEET_COLUMNS))
            pixels[top : top + edge, left : left + edge] = tile
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        sheets.append(buffer.getvalue())
    return sheets
