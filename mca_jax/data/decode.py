"""Decodes images: upright, in 8-bit RGB, on white."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple, TypeVar

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mca_jax.core.text import printable
from mca_jax.data.bmp import embedded_picture, read_header, render_bitmap
from mca_jax.data.colour import to_rgb
from mca_jax.data.files import DecodeError, FileIdentity, read_file
from mca_jax.data.formats import HEAD_BYTES, describe_stranger, identify
from mca_jax.data.quiet import quiet_libtiff, quiet_pillow, quiet_stderr
from mca_jax.data.repairs import (
    END_OF_JPEG,
    all_coefficients_begun,
    boxes_are_complete,
    chunks_are_complete,
    jpeg_2000_depth,
    jpeg_kind,
    jpeg_xl_size,
    without_metadata,
)
from mca_jax.data.tiff import (
    cannot_be_read,
    check_bytes,
    is_camera_raw,
    read_page,
    render_page,
)

__all__ = [
    "DECODER_VERSION",
    "MAX_PIXELS",
    "content_digest",
    "decode_image",
    "decoded_identity",
    "load_picture",
    "shrink",
    "turn_upright",
]

Result = TypeVar("Result")

DECODER_VERSION = 1
"""Raised when files of every kind decode to other pixels than before."""

# The same for files of one kind, so that embeddings of the others stay good.
_KIND_VERSIONS = {"BMP": b"2\n", "TIFF": b"2\n"}
_RENEWED_SUFFIXES = (".tif", ".tiff", ".bmp", ".dib")

MAX_PIXELS = 178_000_000
"""Most pixels of an image where nobody says otherwise."""


def _open_heic(file: io.BytesIO) -> Image.Image:
    # Here, since nothing else needs its 26 MB of libraries.
    from pillow_heif import HeifImageFile

    return HeifImageFile(file)


def _open_jpeg_xl(file: io.BytesIO) -> Image.Image:
    try:
        from pillow_jxl.JpegXLImagePlugin import (  # pyright: ignore[reportMissingImports]
            JXLImageFile,
        )
    except ImportError as error:
        raise DecodeError(
            "a JPEG XL image; pip install 'mca-jax[jxl]' to read it"
        ) from error
    return JXLImageFile(file)


# Only the format that a file starts like is tried, and by its class: Image.open has
# a limit of pixels that holds for the whole process, and reads some formats, such
# as PostScript, with programs that nobody wants to run on strangers' files.
_PLUGINS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "HEIC": _open_heic,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "JPEG XL": _open_jpeg_xl,
    "PNG": PngImagePlugin.PngImageFile,
    "PNM": PpmImagePlugin.PpmImageFile,
    "PSD": PsdImagePlugin.PsdImageFile,
    "QOI": QoiImagePlugin.QoiImageFile,
    "SGI": SgiImagePlugin.SgiImageFile,
    "TGA": TgaImagePlugin.TgaImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}

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
_large_lock = threading.RLock()

# Of all samples of a pixel: four of 64 bits.
_MOST_SAMPLE_BYTES = 32

_LONGEST_REASON = 100
_RETRIES = 2

# Bytes that may follow the end of a JPEG.
_LONGEST_TAIL = 64
# What libraries say of a file that ends too early, and of a kind they can't read.
_CUT_SHORT = ("truncated", "end of file", "end of data", "not enough image data")
_NO_READER = (
    *("unsupported", "not supported", "unknown", "unrecognized", "cannot handle"),
)
# Coded pixels to go on with; the two have no bit in common.
_CONTINUATIONS = (b"\x55" * 1024, b"\xaa" * 1024)


class _Limits(NamedTuple):
    """What a caller wants of a picture.

    Attributes:
      min_side: Pixels that the shorter side must keep; 0 keeps all.
      max_pixels: Most pixels of the picture as stored.
      partial_jpegs: Whether a JPEG that ends too early is read as far as it goes.
    """

    min_side: int
    max_pixels: int
    partial_jpegs: bool

    def check(self, width: int, height: int) -> None:
        """Check the size of a picture.

        Raises:
          DecodeError: It has too many pixels or none.
        """
        if width < 1 or height < 1:
            raise DecodeError("image without pixels")
        if width * height > self.max_pixels:
            raise DecodeError(
                f"{width} x {height} pixels, more than the limit of "
                f"{self.max_pixels / 10**6:g} million; the setting "
                "data.max_megapixels raises it"
            )


def _is_cut_short(error: Exception, kind: str, content: bytes) -> bool:
    """Whether an error comes from a file that ends too early."""
    if kind == "WebP":
        # Its decoder says nothing; the file says how long it should be.
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    if kind in ("HEIC", "AVIF"):
        return not boxes_are_complete(content)
    if kind == "PNG":
        return not chunks_are_complete(content)
    if kind == "JPEG" and END_OF_JPEG not in content[-_LONGEST_TAIL:]:
        return True
    text = str(error).lower()
    return isinstance(error, EOFError) or any(each in text for each in _CUT_SHORT)


def _reason(error: Exception, kind: str, content: bytes) -> str:
    """Put an error of a library into one short line."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = str(error)
    if error.args and isinstance(error.args[0], bytes):
        # As LibRaw speaks.
        text = error.args[0].decode(errors="replace")
    coding = jpeg_kind(content) if kind == "JPEG" else ""
    if coding:
        return f"a kind of JPEG that can't be read ({coding})"
    if _is_cut_short(error, kind, content):
        return f"truncated {kind} file"
    if isinstance(error, UnidentifiedImageError) or not text:
        return f"damaged {kind} file"
    line = printable(text.splitlines()[0])[:_LONGEST_REASON]
    if isinstance(error.__cause__, KeyError) and kind == "PSD":
        line = f"mode {content[25]}, {content[23]} bits"
    rare = isinstance(error, NotImplementedError) or line.startswith("mode ")
    if rare or any(each in text.lower() for each in _NO_READER):
        return f"a kind of {kind} that can't be read ({line})"
    return f"damaged {kind} file: {line}"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 if there is none that makes sense."""
    # A JPEG XL comes upright, unless it is a JPEG in another coat.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
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


def _alone(width: int, height: int) -> Any:
    """Return what a picture of this size waits for before it is decoded."""
    return _large_lock if width * height > _LARGE_PIXELS else nullcontext()


def _decode_by_pillow(content: bytes, kind: str, limits: _Limits) -> Image.Image:
    """Decode with one of Pillow's plugins; errors are theirs."""
    with _PLUGINS[kind](io.BytesIO(content)) as image:
        limits.check(*image.size)
        if limits.min_side and kind == "JPEG":
            image.draft(None, (limits.min_side, limits.min_side))
        with _alone(*image.size):
            return _load(image, limits.min_side)


def _decode_jpeg_xl(content: bytes, limits: _Limits) -> Image.Image:
    """Decode a JPEG XL; its plugin decodes all when it opens a file."""
    size = jpeg_xl_size(content)
    if size is not None:
        limits.check(*size)
    return _decode_by_pillow(content, "JPEG XL", limits)


def _is_all_there(content: bytes) -> bool:
    """Whether a JPEG without an end marker has all its pixels.

    Then it makes no difference what follows, so two continuations are tried.
    """
    if not all_coefficients_begun(content):
        return False
    pictures = []
    for more in _CONTINUATIONS:
        # The first half of the end marker may be there.
        continued = content.removesuffix(b"\xff") + more + END_OF_JPEG
        with JpegImagePlugin.JpegImageFile(io.BytesIO(continued)) as image:
            pictures.append(image.convert("RGB"))
    return ImageChops.difference(*pictures).getbbox() is None


def _decode_jpeg(content: bytes, limits: _Limits) -> Image.Image:
    """Decode a JPEG, also one that lacks no more than its end."""
    try:
        return _decode_by_pillow(content, "JPEG", limits)
    except OSError as error:
        if not _is_cut_short(error, "JPEG", content):
            raise
        if not (limits.partial_jpegs or _is_all_there(content)):
            raise
    return _decode_by_pillow(content + END_OF_JPEG, "JPEG", limits)


def _decode_png(content: bytes, limits: _Limits) -> Image.Image:
    """Decode a PNG, also one with a text or profile that is too large or damaged."""
    try:
        return _decode_by_pillow(content, "PNG", limits)
    except DecodeError:
        raise
    except Exception:
        plain = without_metadata(content)
        if len(plain) == len(content):
            raise
        with suppress(Exception):
            return _decode_by_pillow(plain, "PNG", limits)
        # Then the first error says more.
        raise


def _decode_jpeg_2000(content: bytes, limits: _Limits) -> Image.Image:
    """Decode a JPEG 2000; its library passes over a missing end."""
    if END_OF_JPEG not in content:
        raise DecodeError("truncated JPEG 2000 file")
    depth = jpeg_2000_depth(content)
    if depth:
        raise DecodeError(f"a kind of JPEG 2000 that can't be read ({depth})")
    return _decode_by_pillow(content, "JPEG 2000", limits)


def _decode_bmp(content: bytes, limits: _Limits) -> Image.Image:
    """Decode a BMP."""
    inner = embedded_picture(content)
    if inner:
        return _decode(inner, limits)
    header = read_header(content)
    limits.check(header.width, abs(header.height))
    with _alone(header.width, header.height):
        image = render_bitmap(content)
        if image is not None:
            return shrink(image, limits.min_side)
    return _decode_by_pillow(content, "BMP", limits)


def _decode_tiff(content: bytes, limits: _Limits) -> Image.Image:
    """Decode the first page of a TIFF."""
    if is_camera_raw(content):
        return _decode_raw(content, limits)
    page = read_page(content)
    limits.check(page.width, page.height)
    check_bytes(page, _MOST_SAMPLE_BYTES * max(limits.max_pixels, 1))
    with _alone(page.width, page.height), quiet_libtiff():
        image = render_page(page, content)
        if image is not None:
            return turn_upright(shrink(image, limits.min_side), page.orientation)
        try:
            opened = TiffImagePlugin.TiffImageFile(io.BytesIO(content))
            opened.seek(max(page.number, 0))
        # What Pillow has no mode for.
        except (SyntaxError, KeyError) as error:
            raise cannot_be_read(page, "compressed") from error
        with opened:
            return _load(opened, limits.min_side)


def _decode_raw(content: bytes, limits: _Limits) -> Image.Image:
    """Develop what a camera's sensor saw, as the camera itself would."""
    try:
        import rawpy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DecodeError(
            "a camera's RAW file; pip install 'mca-jax[raw]' to read it"
        ) from error
    # It writes of what it meets in a damaged file, and can't be told not to.
    with quiet_stderr(b"unknown file: "):
        raw = rawpy.imread(io.BytesIO(content))
        width, height = raw.sizes.width, raw.sizes.height
        limits.check(width, height)
        raw.unpack()
    with raw:
        half = 0 < 2 * limits.min_side <= min(width, height)
        with _alone(width, height):
            pixels = raw.postprocess(use_camera_wb=True, half_size=half)
    return shrink(Image.fromarray(pixels), limits.min_side)


_DECODERS: dict[str, Callable[[bytes, _Limits], Image.Image]] = {
    "BMP": _decode_bmp,
    "JPEG": _decode_jpeg,
    "JPEG 2000": _decode_jpeg_2000,
    "JPEG XL": _decode_jpeg_xl,
    "PNG": _decode_png,
    "RAW": _decode_raw,
    "TIFF": _decode_tiff,
}


def _decode(content: bytes, limits: _Limits) -> Image.Image:
    """Decode what is not empty; errors are those of the libraries.

    Raises:
      DecodeError: It is no image, or one that is refused.
    """
    kind = identify(content[:HEAD_BYTES])
    if not kind:
        raise DecodeError(describe_stranger(content[:HEAD_BYTES]))
    if kind in _DECODERS:
        return _DECODERS[kind](content, limits)
    return _decode_by_pillow(content, kind, limits)


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
            with suppress(Warning), quiet_pillow():
                return decode()
        with quiet_pillow():
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
    partial_jpegs: bool = False,
) -> Image.Image:
    """Decode an image file: the first frame, upright, in RGB, alpha over white.

    JPEG (MPO too), PNG, WebP, GIF, BMP, TIFF, HEIC, AVIF, JPEG 2000, PSD, PNM, QOI,
    SGI and TGA are told by their content, not their name; JPEG XL and camera RAW need
    the extras ``jxl`` and ``raw``. Of a TIFF it is the first page that is no
    thumbnail. A file that ends before its last pixel is an error. Colour profiles are
    not applied, see ``to_rgb``. Pillow's warnings are ignored, in this thread only.

    Args:
      source: Path of a file, or its content.
      min_side: If above 0, the image may come smaller than stored, by a whole
        factor, as long as its shorter side keeps this many pixels. Much faster
        for a large JPEG, which is then not decoded in full.
      max_pixels: Most pixels that an image may have as stored, so that a small
        file can't fill the memory.
      partial_jpegs: Whether a JPEG that ends before its last pixel is read as far as
        it goes; the rest is grey.

    Raises:
      DecodeError: The file can't be read or decoded; the message is the reason
        without the path.
    """
    content = source if isinstance(source, bytes) else read_file(os.fspath(source))[0]
    if not content:
        raise DecodeError("empty file")
    limits = _Limits(min_side, max_pixels, partial_jpegs)
    kind = identify(content[:HEAD_BYTES])
    return _quietly(
        lambda: _decode(content, limits),
        lambda error: _reason(error, kind, content),
    )


def content_digest(content: bytes, salt: bytes) -> bytes:
    """Return what equal pixels are known by.

    Args:
      content: The content of a file, or pixels.
      salt: What the pixels depend on beside that.

    Returns:
      SHA-256 of both and of how this kind of file is decoded, 32 bytes.
    """
    hasher = hashlib.sha256(salt)
    if salt.startswith(b"file"):
        hasher.update(_KIND_VERSIONS.get(identify(content[:HEAD_BYTES]), b""))
    hasher.update(content)
    return hasher.digest()


def decoded_identity(path: str, identity: FileIdentity | None) -> FileIdentity | None:
    """Return the identity under which a file's pixels are known.

    An index that was written when this kind of file was decoded otherwise doesn't
    have it.
    """
    if identity is None or not path.lower().endswith(_RENEWED_SUFFIXES):
        return identity
    return identity._replace(size=-identity.size)


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
