"""Reads the images that a page shows, and keeps its pictures in it or beside it."""

from __future__ import annotations

import base64
import filecmp
import os
from collections.abc import Callable
from typing import Literal

from PIL import Image

from mca_jax.data import decode_image
from mca_jax.model.result import ClusterResult

__all__ = ["PICTURE_FOLDER", "Album", "ImageReader", "Thumbnails"]

Thumbnails = Literal["embed", "beside"]
"""Whether pictures are in the page or in files beside it."""

PICTURE_FOLDER = "report_files"
"""Name of the folder of pictures beside the page."""


class ImageReader:
    """Reads images of a run again.

    Attributes:
      available: Whether there is anything to read: arrays of embeddings have no
        pictures.
    """

    def __init__(
        self,
        result: ClusterResult,
        load_image: Callable[[int], Image.Image] | None = None,
    ) -> None:
        """Remember where the images are.

        Args:
          result: What a run returned.
          load_image: Returns the upright RGB picture of a row; None reads the
            files under ``result.root``.
        """
        self._result = result
        self._load_image = load_image
        self.available = (
            load_image is not None
            or bool(result.root)
            or any(map(os.path.isfile, result.paths[:1]))
        )

    def path(self, row: int) -> str:
        """Path of a row's file.

        Args:
          row: Row of the image.

        Returns:
          The path below the folder of the run, or the one that was given in a list
          of files; nothing is there for arrays.
        """
        return os.path.join(self._result.root, self._result.paths[row])

    def load(self, row: int, *, edge: int) -> Image.Image:
        """Read one image.

        Args:
          row: Row of the image.
          edge: Pixels that its shorter side should have at least.

        Returns:
          The upright picture.

        Raises:
          OSError: The file is gone.
          ValueError: It can't be read any more.
        """
        if self._load_image is not None:
            return self._load_image(row)
        return decode_image(self.path(row), min_side=edge)

    def same_content(self, row: int, other: int) -> bool:
        """Whether two rows hold the same picture, bit for bit.

        Args:
          row: Row of an image.
          other: Row of another one.

        Returns:
          Whether the files are equal, for arrays the pixels; False where they
          can't be read.
        """
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
        """Start an empty album.

        Args:
          thumbnails: Whether pictures are in the page or beside it.
        """
        self._beside = thumbnails == "beside"
        self.files: dict[str, bytes] = {}

    def add(self, name: str, jpeg: bytes) -> str:
        """Take a picture.

        Args:
          name: Its name without an ending, safe on every file system.
          jpeg: Its file.

        Returns:
          The address that the page shows it by.
        """
        if not self._beside:
            return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
        path = f"{PICTURE_FOLDER}/{name}.jpg"
        self.files[path] = jpeg
        return path
