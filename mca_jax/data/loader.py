"""Turns images into batches of one shape, decoding in threads ahead of use."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import closing
from typing import NamedTuple

import numpy as np
from PIL import Image

from mca_jax.core.errors import check_in_range
from mca_jax.data.decode import content_digest
from mca_jax.data.files import DecodeError, FileIdentity
from mca_jax.data.prefetch import map_ahead
from mca_jax.data.sources import ImageSource

__all__ = ["Batch", "LoadedImage", "load_batches", "load_image"]

# What is reported without pixels comes at least this often.
_MOST_OTHERS = 256


class LoadedImage(NamedTuple):
    """What became of one image.

    Attributes:
      row: Its row in the source.
      digest: SHA-256 of its content and of the source's salt; empty if it could
        not be read. Images with one digest decode to the same pixels.
      identity: Identity of its file where that can stand for the content later.
      reason: Why there are no pixels, in one line; empty where there are, or
        where they weren't wanted.
    """

    row: int
    digest: bytes
    identity: FileIdentity | None
    reason: str


class Batch(NamedTuple):
    """Images of one shape.

    Attributes:
      pixels: uint8 ``[b, h, w, 3]``; ``b`` is always the batch size, and rows
        beyond the images are zero.
      mask: bool ``[b]``, whether a row is an image; all images come first.
      rows: int64 ``[b]``, row in the source, -1 where there is no image.
      images: One for each image.
      others: Images without pixels that came since the batch before: known
        already, repeated, or unreadable.
    """

    pixels: np.ndarray
    mask: np.ndarray
    rows: np.ndarray
    images: tuple[LoadedImage, ...]
    others: tuple[LoadedImage, ...]


def _default_threads() -> int:
    """One thread a core that this process may use, 16 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), 16)
    return min(os.cpu_count() or 1, 16)


def load_image(source: ImageSource, row: int, *, min_side: int = 0) -> Image.Image:
    """Decode one image, upright in RGB, for showing it.

    Raises:
      DecodeError: It can't be read.
    """
    return source.decode(source.read(row)[0], min_side)


def _prepare(
    source: ImageSource,
    content: bytes,
    preprocess: Callable[[Image.Image], np.ndarray],
    image_size: tuple[int, int],
    min_side: int,
) -> np.ndarray:
    """Decode one image and bring it to the encoder's size.

    Raises:
      DecodeError: The image is at fault.
      ValueError: ``preprocess`` is.
    """
    image = source.decode(content, min_side)
    try:
        pixels = preprocess(image)
    except MemoryError as error:
        raise DecodeError("not enough memory to prepare it") from error
    except (OSError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise DecodeError(f"can't be prepared: {text}") from error
    shape = (*image_size, 3)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(
            f"Expected preprocess to return uint8 {shape}, found {pixels.dtype} "
            f"{pixels.shape}"
        )
    return pixels


def _stack(
    images: list[tuple[LoadedImage, np.ndarray]],
    others: list[LoadedImage],
    batch_size: int,
    image_size: tuple[int, int],
) -> Batch:
    """Put images into a batch and pad it."""
    # New memory each time: on a CPU, JAX may use it in place while the next
    # batch is being made.
    pixels = np.zeros((batch_size, *image_size, 3), np.uint8)
    rows = np.full(batch_size, -1, np.int64)
    for place, (image, values) in enumerate(images):
        pixels[place] = values
        rows[place] = image.row
    return Batch(
        pixels, rows >= 0, rows, tuple(image for image, _ in images), tuple(others)
    )


def load_batches(
    source: ImageSource,
    preprocess: Callable[[Image.Image], np.ndarray],
    *,
    image_size: tuple[int, int],
    batch_size: int,
    rows: Sequence[int] | None = None,
    min_side: int = 0,
    known: Set[bytes] = frozenset(),
    threads: int | None = None,
) -> Generator[Batch, None, None]:
    """Read, decode and prepare images in threads; yield them in order.

    Each file is read once. An image that repeats an earlier one, or is among the
    known ones, comes without pixels. What goes into which batch depends on the
    images alone, not on the timing of threads. Threads work one batch ahead and
    then wait, so memory is bounded.

    Args:
      source: Where the images come from.
      preprocess: Upright RGB image to uint8 pixels ``[h, w, 3]``.
      image_size: Height and width that ``preprocess`` returns.
      batch_size: Images of a batch, at least 1.
      rows: Rows to load, in this order; None loads all.
      min_side: Pixels that the shorter side needs before ``preprocess``; see
        ``decode_image``.
      known: Digests whose pixels aren't wanted.
      threads: Threads that decode, at least 1; None takes one a core.

    Yields:
      Full batches, then one that is padded if images are left; also a batch
      without images where only ``others`` are to be told.

    Raises:
      InputError: ``batch_size`` or ``threads`` is below 1.
      ValueError: ``preprocess`` returns another shape or type.
    """
    check_in_range("batch_size", batch_size, low=1)
    if threads is None:
        threads = _default_threads()
    check_in_range("threads", threads, low=1)
    seen: set[bytes] = set()

    def load(row: int) -> tuple[LoadedImage, np.ndarray | None]:
        try:
            content, identity = source.read(row)
        except DecodeError as error:
            return LoadedImage(row, b"", None, str(error)), None
        digest = content_digest(content, source.salt)
        image = LoadedImage(row, digest, identity, "")
        # Spares work; whether a repetition gets here in time changes nothing.
        if digest in known or digest in seen:
            return image, None
        try:
            pixels = _prepare(source, content, preprocess, image_size, min_side)
        except DecodeError as error:
            return image._replace(reason=str(error)), None
        return image, pixels

    images: list[tuple[LoadedImage, np.ndarray]] = []
    others: list[LoadedImage] = []
    loaded = map_ahead(
        load,
        range(len(source.names)) if rows is None else rows,
        threads=threads,
        ahead=batch_size + threads,
    )
    # Closing this iterator closes that one at once, and so stops the threads.
    with closing(loaded):
        for image, pixels in loaded:
            if pixels is None or image.digest in seen:
                others.append(image)
            else:
                seen.add(image.digest)
                images.append((image, pixels))
            if len(images) == batch_size:
                yield _stack(images, others, batch_size, image_size)
                images, others = [], []
            elif len(others) >= _MOST_OTHERS:
                yield _stack([], others, batch_size, image_size)
                others = []
    if images or others:
        yield _stack(images, others, batch_size, image_size)
