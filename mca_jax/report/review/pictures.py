"""Pictures of a run by their rows, decoded when a browser asks for them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Literal

from mca_jax.data.decode import content_digest
from mca_jax.data.files import read_file
from mca_jax.data.sources import file_salts
from mca_jax.model.result import ClusterResult
from mca_jax.report.images import ImageReader, encode_thumbnail, encode_view

__all__ = ["Pictures", "Size"]

Size = Literal["small", "large"]
"""A square for the grid, or the whole picture."""

_EDGES: dict[Size, int] = {"small": 192, "large": 1024}
# Some ten thousand squares.
_MOST_BYTES = 2**26
_GONE = "this picture is gone, or can't be read any more"


class Pictures:
    """Reads pictures of a run, and keeps those that were asked for last.

    What a row stands for is in the run's files, which may come from someone else: a
    path out of the folder of images is followed only to what the run itself read.
    """

    def __init__(self, result: ClusterResult, reader: ImageReader) -> None:
        """Begin with none in memory.

        Args:
          result: The run.
          reader: Reads its images.
        """
        self._result = result
        self._reader = reader
        self._root = os.path.realpath(result.root) if result.root else ""
        self._kept: OrderedDict[tuple[int, Size], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def available(self) -> bool:
        """Whether there are any."""
        return self._reader.available

    def _check_inside(self, row: int) -> None:
        """Refuse what is not one of the run's pictures.

        Raises:
          ValueError: It leads out of the folder, to something else.
        """
        if not self._reader.own_files:
            return
        own = self._result.paths[row]
        if self._root:
            if os.path.isabs(own) or ".." in own.replace("\\", "/").split("/"):
                raise ValueError("a path that leads out of the folder of images")
            path = os.path.realpath(self._reader.path(row))
            if os.path.commonpath([path, self._root]) == self._root:
                return
        # A link, or a list of files: they were the user's, if this is what they held.
        digests = self._result.digests
        if digests is not None:
            content = read_file(self._reader.path(row))[0]
            known = digests[row].tobytes()
            if any(content_digest(content, salt) == known for salt in file_salts()):
                return
        raise ValueError("a link to what the run did not read")

    def jpeg(self, row: int, size: Size) -> bytes:
        """Encode a picture, without any of the original's metadata.

        Raises:
          ValueError: It is gone, can't be read, or is not the run's.
        """
        with self._lock:
            kept = self._kept.get((row, size))
            if kept is not None:
                self._kept.move_to_end((row, size))
                return kept
        self._check_inside(row)
        try:
            image = self._reader.load(row, edge=_EDGES[size])
        except OSError as error:
            raise ValueError(_GONE) from error
        encode = encode_thumbnail if size == "small" else encode_view
        jpeg = encode(image, size=_EDGES[size])
        with self._lock:
            if (row, size) not in self._kept:
                self._kept[row, size] = jpeg
                self._bytes += len(jpeg)
            while self._bytes > _MOST_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return jpeg
