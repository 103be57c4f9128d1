"""Decodes images: upright, in 8-bit RGB, on white."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mca_jax.core.text import printable
from mca_jax.data.files import DecodeError, read_file

__all__ = [
    "DECODER_VERSION",
    "MAX_PIXELS",
    "decode_image",
    "load_picture",
    "shrink",
    "to_rgb",
    "turn_upright",
]

Result = TypeVar("Result")

DECODER_VERSION = 1
"""Raised when some file decodes to other pixels than before."""

MAX_PIXELS = 178_000_000
"""Most pixels of an image, just below where Pillow itself refuses."""

# Named, so that none is left to be imported by a thread.
_PLUGINS = {
    "BMP": BmpImagePlugin,
    "GIF": GifImagePlugin,
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "TIFF": TiffImagePlugin,
    "WebP": WebPImagePlugin,
}

# How a file starts, and what it is then.
_KINDS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)
# The same for what is never read.
_STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image; run git lfs pull"),
    (b"%PDF", "a PDF, not an image"),
    (b"<", "text such as HTML or SVG, not an image"),
)

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112

# Pictures above this are decoded one at a time: memory stays bounded whatever
# the number of threads.
_LARGE_PIXELS = 2**25
_large_lock = threading.Lock()

_LONGEST_REASON = 100
_RETRIES = 2

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# Largest samples of 8-, 12- and 16-bit pictures.
_WHITES = (255, 4095, 65535)


class _DecodingThread(threading.local):
    """Matches Pillow's modules in a thread that is decoding, else nothing.

    ``warnings.catch_warnings`` swaps the filters of the whole process, so it
    isn't safe in threads. A filter asks its module pattern to ``match`` a name;
    this one answers by thread, so it can stay in the list and changes nothing
    for the rest of the program.
    """

    active = False

    def match(self, module: str) -> bool:
        """Whether a warning of ``module`` is to be ignored here and now."""
        return self.active and module.startswith("PIL.")


_decoding = _DecodingThread()
_QUIET_FILTER = cast(Any, ("ignore", None, Warning, _decoding, 0))
_filter_lock = threading.Lock()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings of this thread: damaged metadata is no news."""
    filters = cast(list[Any], warnings.filters)
    with _filter_lock:
        # Somebody may have put another filter before it, or taken it out.
        if not filters or filters[0] is not _QUIET_FILTER:
            with suppress(ValueError):
                filters.remove(_QUIET_FILTER)
            filters.insert(0, _QUIET_FILTER)
    _decoding.active = True
    try:
        yield
    finally:
        _decoding.active = False


def _kind(content: bytes) -> str:
    """Name the format that a file starts like, or return an empty string."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((name for start, name in _KINDS if content.startswith(start)), "")


def _stranger(content: bytes) -> str:
    """Say what a file is that is none of the formats."""
    if content[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file; convert it to JPEG"
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.strip(b"\0"):
        return "nothing but zeros or blanks, not an image"
    known = (text for head, text in _STRANGERS if start.startswith(head))
    return next(known, "not a JPEG, PNG, WebP, GIF, BMP or TIFF image")


def _is_cut_short(error: Exception, kind: str, content: bytes) -> bool:
    """Whether an error comes from a file that ends too early."""
    if kind == "WebP":
        # Its decoder says nothing; the file says how long it should be.
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    return "truncated" in str(error).lower()


def _reason(error: Exception, kind: str, content: bytes) -> str:
    """Put an error of Pillow into one short line."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow allows"
    text = str(error)
    if _is_cut_short(error, kind, content):
        return f"truncated {kind} file"
    if isinstance(error, UnidentifiedImageError) or not text:
        return f"damaged {kind} file"
    line = printable(text.splitlines()[0])[:_LONGEST_REASON]
    return f"damaged {kind} file: {line}"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 if there is none that makes sense."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    # Damaged metadata raises errors of many types, and costs no pixel.
    except Exception:
        return 1


def _fix_wide_transparency(image: Image.Image, wide: bool) -> None:
    """Cut the transparent colour of 16-bit RGB as Pillow cuts the pixels."""
    colour = image.info.get("transparency")
    if wide and image.mode == "RGB" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(sample >> 8 for sample in colour)


def _white_level(largest: int) -> int:
    """Return the sample that stands for white in an integer picture.

    The formats say 65535, and a picture has it or comes near. Cameras and
    scanners also put 12-bit or 8-bit samples into 16-bit words as they are; if
    no sample exceeds 4095 or 255, then taking those for white keeps the picture
    from turning black.
    """
    return next(white for white in _WHITES if largest <= white)


def _scale_integers(samples: np.ndarray) -> np.ndarray:
    """Scale integers in [0, 65535] to 8 bits, rounded.

    A table looks each sample up, which needs no wider copy of the picture.
    """
    white = _white_level(int(samples.max(initial=0)))
    table = (np.arange(white + 1) * 255 + white // 2) // white
    return table.astype(np.uint8)[samples]


def _stretch(samples: np.ndarray) -> np.ndarray:
    """Scale floats so that the least is black and the largest white."""
    # In place where possible: such pictures are large. Halves first, so that
    # the difference of extremes can't overflow.
    samples = samples.astype(np.float32) * np.float32(0.5)
    low, high = samples.min(), samples.max()
    samples -= low
    if high > low:
        samples /= high - low
        samples *= 255
    return np.rint(samples).astype(np.uint8)


def _scale_floats(samples: np.ndarray) -> np.ndarray:
    """Scale floats: [0, 1] and [0, 255] as they mean, else by their range.

    Raises:
      ValueError: No sample is a finite number.
    """
    finite = np.isfinite(samples)
    if not finite.any():
        raise ValueError("no finite sample")
    low = samples.min(where=finite, initial=np.inf)
    high = samples.max(where=finite, initial=-np.inf)
    if not finite.all():
        samples = np.where(finite, samples, low)
    if low >= 0 and high <= 1:
        return np.rint(samples * 255).astype(np.uint8)
    if low >= 0 and high <= 255:
        return np.rint(samples).astype(np.uint8)
    return _stretch(samples)


def _wide_grey(image: Image.Image) -> Image.Image:
    """Turn 16- and 32-bit greyscale into 8 bits."""
    samples = np.asarray(image)
    if image.mode == "F":
        return Image.fromarray(_scale_floats(samples))
    if samples.min(initial=0) < 0 or samples.max(initial=0) > _WHITES[-1]:
        return Image.fromarray(_stretch(samples))
    grey = _scale_integers(samples)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey)


def _over_white(image: Image.Image) -> Image.Image:
    """Put a picture with alpha on white."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, mask=alpha)
    return canvas


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a loaded picture of any mode into 8-bit RGB.

    Colours are taken as they are stored: an embedded colour profile is not
    applied, since encoders were trained on pixels read that way. Only Lab, which
    has no other meaning, goes through the profile of sRGB. Alpha goes over
    white. Wide greyscale is scaled by what its format calls white, see
    ``_white_level``; floats and numbers beyond 16 bits by their range.

    Raises:
      ValueError: There is no way from its mode to RGB, or a float picture has
        no finite sample.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _wide_grey(image)
    elif image.mode in _ALPHA_MODES or image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def shrink(image: Image.Image, min_side: int) -> Image.Image:
    """Average whole blocks of pixels of an image that is larger than needed.

    The shorter side keeps ``min_side`` pixels at least; 0 changes nothing.
    """
    factor = min(image.size) // min_side if min_side else 1
    return image.reduce(factor) if factor > 1 else image


def _load_rgb(image: Image.Image) -> tuple[Image.Image, int]:
    """Load the pixels of a picture; return them in RGB, and the EXIF orientation."""
    wide = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    # After loading: Pillow has turned a TIFF upright by then.
    orientation = _orientation(image)
    _fix_wide_transparency(image, wide)
    return to_rgb(image), orientation


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Undo an EXIF orientation."""
    if orientation not in _TRANSPOSITIONS:
        return image
    image = image.transpose(_TRANSPOSITIONS[orientation])
    # Else whoever takes the picture might turn it again.
    image.info = {}
    return image


def _load(image: Image.Image, min_side: int) -> Image.Image:
    """Load the pixels of an opened file and bring them into shape."""
    rgb, orientation = _load_rgb(image)
    return turn_upright(shrink(rgb, min_side), orientation)


def _decode(content: bytes, kind: str, min_side: int, max_pixels: int) -> Image.Image:
    """Decode bytes of one format; errors are Pillow's.

    Raises:
      DecodeError: The image has too many pixels or none.
    """
    # Only this format is tried: Pillow reads some, such as PostScript, with
    # programs that nobody wants to run on strangers' files.
    with Image.open(io.BytesIO(content), formats=(kind.upper(),)) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise DecodeError(
                f"{width} x {height} pixels, more than the limit of "
                f"{max_pixels / 10**6:g} million"
            )
        if width < 1 or height < 1:
            raise DecodeError("image without pixels")
        if min_side and kind == "JPEG":
            image.draft(None, (min_side, min_side))
        if image.size[0] * image.size[1] > _LARGE_PIXELS:
            with _large_lock:
                return _load(image, min_side)
        return _load(image, min_side)


def _quietly(
    decode: Callable[[], Result], explain: Callable[[Exception], str]
) -> Result:
    """Call a decoder without Pillow's warnings.

    Raises:
      DecodeError: It raised anything.
    """
    try:
        for _ in range(_RETRIES):
            # Where warnings are errors, another thread may just have put back
            # filters without ours.
            with suppress(Warning), _quiet_pillow():
                return decode()
        with _quiet_pillow():
            return decode()
    except DecodeError:
        raise
    # One bad file must not end a run, and Pillow's plugins raise nearly
    # everything on bad input: SyntaxError, struct.error, KeyError...
    except Exception as error:
        raise DecodeError(explain(error)) from error


def decode_image(
    source: str | os.PathLike[str] | bytes,
    *,
    min_side: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode an image file: the first frame, upright, in RGB, alpha over white.

    JPEG (MPO too), PNG, WebP, GIF, BMP and TIFF are told by their content, not
    their name. A truncated file is an error, unless the program has set Pillow's
    own ``ImageFile.LOAD_TRUNCATED_IMAGES``. Colour profiles are not applied,
    see ``to_rgb``. Pillow's warnings are ignored, in this thread only.

    Args:
      source: Path of a file, or its content.
      min_side: If above 0, the image may come smaller than stored, by a whole
        factor, as long as its shorter side keeps this many pixels. Much faster
        for a large JPEG, which is then not decoded in full.
      max_pixels: Most pixels that an image may have as stored, so that a small
        file can't fill the memory.

    Raises:
      DecodeError: The file can't be read or decoded; the message is the reason
        without the path.
    """
    content = source if isinstance(source, bytes) else read_file(os.fspath(source))[0]
    if not content:
        raise DecodeError("empty file")
    kind = _kind(content)
    if kind not in _PLUGINS:
        raise DecodeError(_stranger(content))
    return _quietly(
        lambda: _decode(content, kind, min_side, max_pixels),
        lambda error: _reason(error, kind, content),
    )


def load_picture(picture: Image.Image) -> tuple[Image.Image, int]:
    """Load a PIL image as RGB over white; return it and its EXIF orientation.

    Raises:
      DecodeError: It can't be loaded or has no pixel.
    """
    if min(picture.size) < 1:
        raise DecodeError("image without pixels")
    kind = f"{picture.format or 'PIL'} image"
    return _quietly(
        lambda: _load_rgb(picture),
        lambda error: f"damaged {kind}: {printable(str(error))[:_LONGEST_REASON]}",
    )
