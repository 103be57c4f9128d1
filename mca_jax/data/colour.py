"""Turns the colours of any picture into 8-bit RGB on white."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["to_rgb"]

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# Largest samples of 8-, 12- and 16-bit pictures.
_WHITES = (255, 4095, 65535)


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

    Args:
      image: A picture whose pixels are loaded.

    Returns:
      The picture in mode ``RGB``.

    Raises:
      ValueError: There is no way from its mode to RGB, or a float picture has
        no finite sample.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _wide_grey(image)
    elif image.mode in _ALPHA_MODES or image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")
