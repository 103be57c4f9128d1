"""Where images come from: a folder of files, or an array of pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.data.decode import DECODER_VERSION, decode_image, shrink
from mca_jax.data.files import FileIdentity, SkippedImage, identify_file, read_file
from mca_jax.data.folder import ImageFolder

__all__ = ["ImageSource", "open_source"]


class ImageSource(NamedTuple):
    """Images by row, whatever they are stored in; all functions are thread-safe.

    Attributes:
      root: Folder of the files, or empty for arrays.
      names: One a row: the path relative to ``root``, or ``"row-000012"``.
      skipped: What could not even be listed.
      salt: What the pixels of a row depend on beside its content.
      identify: Row to the identity of its file now, or None.
      read: Row to its content, and its identity if that can stand for the
        content later. Raises DecodeError.
      decode: Content and ``min_side`` to an upright RGB image whose shorter
        side is at least that, if it was. Raises DecodeError.
    """

    root: str
    names: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    salt: bytes
    identify: Callable[[int], FileIdentity | None]
    read: Callable[[int], tuple[bytes, FileIdentity | None]]
    decode: Callable[[bytes, int], Image.Image]


def _folder_source(folder: ImageFolder) -> ImageSource:
    """Read the files of a folder."""
    root, paths = os.fspath(folder.root), tuple(folder.paths)
    return ImageSource(
        root=root,
        names=paths,
        skipped=tuple(folder.skipped),
        salt=f"file {DECODER_VERSION}\n".encode(),
        identify=lambda row: identify_file(os.path.join(root, paths[row])),
        read=lambda row: read_file(os.path.join(root, paths[row])),
        decode=lambda content, min_side: decode_image(content, min_side=min_side),
    )


def _check_layout(pixels: np.ndarray) -> None:
    """Check the shape of an array of images.

    Raises:
      InputError: It isn't ``[n, h, w, 3]``, ``[n, h, w, 1]`` or ``[n, h, w]``.
    """
    shape = list(pixels.shape)
    advice = ""
    if pixels.ndim == 3 and shape[-1] in (3, 4):
        advice = "; add a first axis to a single image"
    elif pixels.ndim == 4 and shape[-1] == 4:
        advice = "; put alpha over a colour first"
    elif pixels.ndim == 4 and shape[-1] not in (1, 3) and shape[1] in (1, 3):
        advice = "; move the channels to the last axis"
    elif pixels.ndim == 3 or (pixels.ndim == 4 and shape[-1] in (1, 3)):
        if min(shape) < 1:
            raise InputError(f"Expected at least one image and pixel, found {shape}")
        return
    raise InputError(
        f"Expected pixels [n, h, w, 3] or grey [n, h, w], found shape {shape}{advice}"
    )


def _check_values(pixels: np.ndarray) -> None:
    """Check the type and range of an array of images.

    Raises:
      InputError: It isn't uint8, nor float in [0, 1].
    """
    if pixels.dtype == np.uint8:
        return
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(
            "Expected pixels as uint8 or as float in [0, 1], found "
            f"{pixels.dtype}; convert them with .astype(np.uint8) if they are in "
            "[0, 255]"
        )
    low, high = float(pixels.min()), float(pixels.max())
    # Not "low < 0": a comparison with NaN is false.
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"Expected float pixels in [0, 1], found values from {low:g} to {high:g}"
        )


def _pixel_source(given: Any) -> ImageSource:
    """Read the rows of an array.

    Raises:
      InputError: The array is none of images.
    """
    try:
        pixels = np.asarray(given)
    except ValueError as error:
        raise InputError("Expected images of one size, found several") from error
    _check_layout(pixels)
    _check_values(pixels)
    height, width = pixels.shape[1:3]
    mode = "RGB" if pixels.shape[3:] == (3,) else "L"

    def read(row: int) -> tuple[bytes, None]:
        image = pixels[row]
        if image.dtype != np.uint8:
            image = np.rint(image * image.dtype.type(255)).astype(np.uint8)
        return image.tobytes(), None

    def decode(content: bytes, min_side: int) -> Image.Image:
        image = Image.frombytes(mode, (width, height), content)
        return shrink(image.convert("RGB"), min_side)

    return ImageSource(
        root="",
        names=tuple(f"row-{row:06d}" for row in range(len(pixels))),
        skipped=(),
        salt=f"pixels {DECODER_VERSION} {mode} {width} {height}\n".encode(),
        identify=lambda row: None,
        read=read,
        decode=decode,
    )


def open_source(source: ImageFolder | ImageSource | Any) -> ImageSource:
    """Give access to images by row.

    Args:
      source: What ``find_images`` returns; or an array of uint8 or of floats in
        [0, 1], shape ``[n, h, w, 3]``, or ``[n, h, w]`` or ``[n, h, w, 1]`` for
        greyscale; or a source, which is returned as it is.

    Returns:
      The source; nothing is decoded yet.

    Raises:
      InputError: The array's shape, type or range is another.
    """
    if isinstance(source, ImageSource):
        return source
    if isinstance(source, ImageFolder):
        return _folder_source(source)
    return _pixel_source(source)
