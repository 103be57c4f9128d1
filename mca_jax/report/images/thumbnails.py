"""Small square pictures of the images that the report shows, read again."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageOps

__all__ = ["encode_thumbnail", "encode_thumbnails", "thumbnail_size"]

_QUALITY = 78
# Pictures of the report and their edge in pixels: a large set of clusters gets
# smaller ones, so that the page stays below 25 MB.
_EDGES = ((1000, 192), (1900, 160), (3600, 112))
_SMALLEST_EDGE = 88


def thumbnail_size(count: int) -> int:
    """Edge in pixels for a page that shows ``count`` pictures.

    Args:
      count: Number of pictures, at least 0.

    Returns:
      An edge from 88 to 192; pages of up to 5,000 pictures stay below 25 MB.
    """
    for most, edge in _EDGES:
        if count <= most:
            return edge
    return _SMALLEST_EDGE


def encode_thumbnail(image: Image.Image, size: int) -> bytes:
    """Crop the middle square of a picture and encode it.

    Args:
      image: An upright picture.
      size: Edge of the result in pixels.

    Returns:
      A JPEG file. Nothing of the original's metadata is in it: no place, no
      camera, no comment.
    """
    square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    # Pillow would copy the comment of the original.
    square.info.clear()
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def encode_thumbnails(
    rows: Iterable[int],
    load_image: Callable[[int], Image.Image],
    *,
    size: int,
    workers: int | None = None,
) -> dict[int, bytes]:
    """Encode the pictures of some rows, each once, in threads.

    Args:
      rows: Rows to show; duplicates are fine.
      load_image: Returns the upright picture of a row. OSError or ValueError
        means that it is gone or can't be read any more.
      size: Edge in pixels.
      workers: Threads, so also pictures in memory; None takes the number of
        cores, 8 at most.

    Returns:
      JPEG files by row; rows whose picture can't be read are absent.
    """
    wanted = sorted(set(rows))

    def encode(row: int) -> bytes | None:
        try:
            return encode_thumbnail(load_image(row), size)
        except (OSError, ValueError):
            return None

    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        files = pool.map(encode, wanted)
        return {row: file for row, file in zip(wanted, files, strict=True) if file}
    finally:
        # After an error or Ctrl-C nobody waits for the rest.
        pool.shutdown(cancel_futures=True)
