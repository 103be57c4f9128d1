"""Images by row, whatever they are given as: a folder, files, pictures or pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.data.decode import (
    DECODER_VERSION,
    MAX_PIXELS,
    decode_image,
    decoded_identity,
    load_picture,
    shrink,
    turn_upright,
)
from mca_jax.data.files import FileIdentity, SkippedImage, identify_file, read_file
from mca_jax.data.folder import ImageFolder, find_images

__all__ = ["ImageSource", "Images", "file_salts", "open_source"]


class ImageSource(NamedTuple):
    """Images by row, whatever they are stored in; all functions are thread-safe.

    Attributes:
      root: Folder that names are relative to, or empty.
      names: One a row: the path below ``root``, the path as it was given in a
        list, or ``"row-000012"``.
      skipped: What was not even taken for an image, and why.
      salt: What the pixels of a row depend on beside its content.
      identify: Row to the identity of its file now, or None.
      read: Row to its content, and its identity if that can stand for the
        content later. Raises DecodeError.
      decode: Content and ``min_side`` to an upright RGB image whose shorter
        side is at least that, if it was. Raises DecodeError.
      notes: What to say of the images, a line each.
    """

    root: str
    names: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    salt: bytes
    identify: Callable[[int], FileIdentity | None]
    read: Callable[[int], tuple[bytes, FileIdentity | None]]
    decode: Callable[[bytes, int], Image.Image]
    notes: tuple[str, ...] = ()


Images: TypeAlias = (
    str
    | os.PathLike[str]
    | Iterable[str | os.PathLike[str]]
    | Image.Image
    | Iterable[Image.Image]
    | Iterable[np.ndarray]
    | np.ndarray
    | ImageFolder
    | ImageSource
)
"""What :func:`open_source` takes."""


def open_source(
    images: Images, *, max_pixels: int = MAX_PIXELS, partial_jpegs: bool = False
) -> ImageSource:
    """Give access to images by row; nothing is decoded yet.

    Args:
      images: A folder, which is searched with all folders below it, also as
        ``find_images`` returns it; paths of files; PIL images; pixels, uint8 or float
        in [0, 1], ``[n, h, w, 3]``, or ``[n, h, w]`` or ``[n, h, w, 1]`` for
        greyscale; or a source, which is returned as it is. To read many files, name
        them: PIL images keep their pixels once they are loaded.
      max_pixels: Most pixels of a file's image, see ``decode_image``.
      partial_jpegs: Whether a JPEG that ends too early is read as far as it goes.

    Raises:
      InputError: There are none, they are of several kinds, the folder can't be read,
        or the array's shape, type or range is another.

    Example:
      >>> open_source(np.zeros((2, 8, 8, 3), np.uint8)).names
      ('row-000000', 'row-000001')
    """
    if isinstance(images, ImageSource):
        return images
    limits = {"max_pixels": max_pixels, "partial_jpegs": partial_jpegs}
    if isinstance(images, ImageFolder):
        return _file_source(images, **limits)
    if isinstance(images, (str, os.PathLike)):
        return _file_source(find_images(images), **limits)
    if isinstance(images, Image.Image):
        return _picture_source([images])
    if isinstance(images, bytes) or not isinstance(images, Iterable):
        return _pixel_source(images)
    kind = getattr(getattr(images, "dtype", None), "kind", "")
    # Arrays and columns of texts or objects are lists of them.
    if kind and kind not in "OUT":
        return _pixel_source(images)
    listed: list[Any] = list(images)
    if not listed:
        raise InputError("Expected at least one image, found none")
    kinds = [_kind(each) for each in listed]
    if len(set(kinds)) > 1:
        row = next(row for row, kind in enumerate(kinds) if kind != kinds[0])
        raise InputError(
            "Expected all images as paths, all as PIL images or all as pixels, found "
            f"{type(listed[0]).__name__} in row 0 and {type(listed[row]).__name__} in "
            f"row {row}"
        )
    if kinds[0] == "path":
        paths = tuple(os.fsdecode(os.path.expanduser(each)) for each in listed)
        return _file_source(ImageFolder("", paths, ()), **limits)
    return _picture_source(listed) if kinds[0] == "picture" else _pixel_source(listed)


def _kind(image: Any) -> str:
    if isinstance(image, (str, os.PathLike)):
        return "path"
    return "picture" if isinstance(image, Image.Image) else "pixels"


def _row_names(count: int) -> tuple[str, ...]:
    return tuple(f"row-{row:06d}" for row in range(count))


def _file_salt(partial_jpegs: bool) -> bytes:
    return f"file {DECODER_VERSION}{' partial' * partial_jpegs}\n".encode()


def file_salts() -> tuple[bytes, bytes]:
    """What files are known with, whatever was done with half a JPEG."""
    return _file_salt(False), _file_salt(True)


def _file_source(
    folder: ImageFolder, *, max_pixels: int, partial_jpegs: bool
) -> ImageSource:
    # Absolute: a result is opened from other folders than it was made in.
    root = os.path.abspath(folder.root) if folder.root else ""
    paths = tuple(folder.paths)

    def identify(row: int) -> FileIdentity | None:
        path = os.path.join(root, paths[row])
        return decoded_identity(path, identify_file(path))

    def read(row: int) -> tuple[bytes, FileIdentity | None]:
        path = os.path.join(root, paths[row])
        content, identity = read_file(path)
        return content, decoded_identity(path, identity)

    return ImageSource(
        root=root,
        names=paths,
        skipped=tuple(folder.skipped),
        # What half a JPEG shows must not be taken for the whole later.
        salt=_file_salt(partial_jpegs),
        identify=identify,
        read=read,
        decode=lambda content, min_side: decode_image(
            content,
            min_side=min_side,
            max_pixels=max_pixels,
            partial_jpegs=partial_jpegs,
        ),
        notes=tuple(folder.notes),
    )


def _picture_source(pictures: Sequence[Image.Image]) -> ImageSource:
    # Pillow loads an opened file lazily, and one picture in one thread at a time.
    locks = {id(picture): Lock() for picture in pictures}

    def read(row: int) -> tuple[bytes, None]:
        with locks[id(pictures[row])]:
            rgb, orientation = load_picture(pictures[row])
        return b"%d %d %d\n" % (*rgb.size, orientation) + rgb.tobytes(), None

    def decode(content: bytes, min_side: int) -> Image.Image:
        head, _, pixels = content.partition(b"\n")
        width, height, orientation = map(int, head.split())
        rgb = Image.frombytes("RGB", (width, height), pixels)
        return turn_upright(shrink(rgb, min_side), orientation)

    return ImageSource(
        root="",
        names=_row_names(len(pictures)),
        skipped=(),
        salt=f"picture {DECODER_VERSION}\n".encode(),
        identify=lambda row: None,
        read=read,
        decode=decode,
    )


def _check_layout(pixels: np.ndarray) -> None:
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


def _pixel_source(array: Any) -> ImageSource:
    try:
        pixels = np.asarray(array)
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
        names=_row_names(len(pixels)),
        skipped=(),
        salt=f"pixels {DECODER_VERSION} {mode} {width} {height}\n".encode(),
        identify=lambda row: None,
        read=read,
        decode=decode,
    )
