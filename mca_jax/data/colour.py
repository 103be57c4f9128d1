"""Samples of every type and colour space to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["over_white", "scale_samples", "to_rgb"]

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# Largest samples of 8- and 12-bit pictures in words of 16 bits.
_SMALL_WHITES = (255, 4095)


def _white_level(largest: int, limit: int) -> int:
    """Return the sample that stands for white in an integer picture.

    The formats say the largest that the words hold, and a picture has it or comes
    near. Cameras and scanners also put 12-bit or 8-bit samples into 16-bit words as
    they are; if no sample exceeds 4095 or 255, then taking those for white keeps the
    picture from turning black.
    """
    return next(white for white in (*_SMALL_WHITES, limit) if largest <= white)


def _look_up(samples: np.ndarray, white: int) -> np.ndarray:
    """Scale integers in [0, white] to 8 bits, rounded.

    A table looks each sample up, which needs no wider copy of the picture.
    """
    table = (np.arange(white + 1) * 255 + white // 2) // white
    return table.astype(np.uint8)[samples]


def _stretch(
    samples: np.ndarray, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """Scale numbers so that the least is black and the largest white."""
    # In place where possible: such pictures are large. Halves first, so that
    # the difference of extremes can't overflow.
    wide = np.float64 if samples.dtype.itemsize > 4 else np.float32
    samples = samples.astype(wide) * wide(0.5)
    black = samples.min() if low is None else wide(low / 2)
    white = samples.max() if high is None else wide(high / 2)
    samples -= black
    if white > black:
        samples /= white - black
        samples *= 255
    return np.rint(samples).astype(np.uint8)


def _scale_floats(samples: np.ndarray) -> np.ndarray:
    """Scale floats: [0, 1] and [0, 255] as they mean, else by their range.

    Raises:
      ValueError: No sample is a finite number.
    """
    if samples.dtype.itemsize < 4:
        samples = samples.astype(np.float32)
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


def scale_samples(samples: np.ndarray, bits: int) -> np.ndarray:
    """Scale the samples of a picture to 8 bits, rounded.

    Whole numbers of up to 15 bits, or of 17 and more that are really used, are scaled
    by their full range; those of 16 bits as ``_white_level`` says. Wider ones that are
    small, ones with a sign that are below 0, and floats beyond [0, 255] have no
    white: their least is black and their largest white.

    Args:
      samples: Integers or floats of any width, any shape.
      bits: Bits of a sample as stored, at most what its type holds.

    Returns:
      uint8, of the same shape.

    Raises:
      ValueError: No sample of a float picture is a finite number.

    Example:
      >>> scale_samples(np.asarray([0, 512, 1023], np.uint16), 10)
      array([  0, 128, 255], dtype=uint8)
    """
    if samples.dtype.kind == "f":
        return _scale_floats(samples)
    if samples.dtype == np.uint8 and bits == 8:
        return samples
    if not samples.size:
        return samples.astype(np.uint8)
    low, high = int(samples.min()), int(samples.max())
    if low < 0:
        return _stretch(samples)
    # The sign takes a bit.
    limit = 2 ** (bits - (samples.dtype.kind == "i")) - 1
    if limit == 255:
        return samples.astype(np.uint8)
    if bits < 16:
        return _look_up(samples, limit)
    if high <= 65535:
        return _look_up(samples, _white_level(high, min(limit, 65535)))
    return _stretch(samples, 0, limit) if high > limit // 2 else _stretch(samples)


def _wide_grey(image: Image.Image) -> Image.Image:
    """Turn 16- and 32-bit greyscale into 8 bits."""
    samples = np.asarray(image)
    bits = 8 * samples.dtype.itemsize
    grey = scale_samples(samples, bits)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey)


def over_white(image: Image.Image) -> Image.Image:
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
    ``scale_samples``.

    Raises:
      ValueError: There is no way from its mode to RGB, or a float picture has
        no finite sample.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _wide_grey(image)
    elif image.mode in _ALPHA_MODES or image.has_transparency_data:
        return over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")
