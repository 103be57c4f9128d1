"""Puts image sources together and picks rows of them; nothing is copied."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from mca_jax.data import FileIdentity, ImageSource

__all__ = ["Part", "join_parts", "spread_rows"]


class Part(NamedTuple):
    """Images of one file or folder, and the way to their labels.

    Attributes:
      images: The images; their content holds no label.
      read_labels: Reads the class of each, int32 ``[n]``, for evaluation only.
        Raises InputError where they have none.
    """

    images: ImageSource
    read_labels: Callable[[], np.ndarray]


def spread_rows(count: int, limit: int) -> np.ndarray:
    """Pick rows evenly over a set, so that sets in order of class keep them all.

    Args:
      count: Rows of the set, at least 1.
      limit: Most rows to pick; 0 picks all.

    Returns:
      Rows in increasing order, int64.
    """
    if not limit or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def join_parts(parts: Sequence[Part], *, limit: int = 0) -> Part:
    """Put parts one after the other.

    Args:
      parts: At least one; all of one folder, or of pixels of one size.
      limit: Most images, spread evenly over all parts; 0 takes all.

    Returns:
      All of them as one.

    Raises:
      ValueError: Their images are decoded in different ways.
    """
    sources = [part.images for part in parts]
    if len({(source.salt, source.root) for source in sources}) > 1:
        raise ValueError("Expected parts that are decoded alike, in one folder")
    ends = list(accumulate(len(source.names) for source in sources))
    rows = spread_rows(ends[-1], limit).tolist()

    def place(row: int) -> tuple[ImageSource, int]:
        part = bisect_right(ends, rows[row])
        return sources[part], rows[row] - (ends[part - 1] if part else 0)

    def identify(row: int) -> FileIdentity | None:
        source, within = place(row)
        return source.identify(within)

    def read(row: int) -> tuple[bytes, FileIdentity | None]:
        source, within = place(row)
        return source.read(within)

    names = [name for source in sources for name in source.names]
    images = ImageSource(
        root=sources[0].root,
        names=tuple(names[row] for row in rows),
        skipped=tuple(image for source in sources for image in source.skipped),
        salt=sources[0].salt,
        identify=identify,
        read=read,
        decode=sources[0].decode,
    )
    return Part(
        images, lambda: np.concatenate([part.read_labels() for part in parts])[rows]
    )
