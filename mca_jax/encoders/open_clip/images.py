"""Images as open_clip prepares them: its modes of resizing, its rounded crop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mca_jax.core.errors import InputError, check_one_of

__all__ = [
    "OpenClipImages",
    "parse_channels",
    "parse_images",
    "prepare_image",
    "resize_and_crop",
]

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    # What is random in training is this in use.
    "random": Image.Resampling.BICUBIC,
}
_MODES = ("longest", "shortest", "squash")


class OpenClipImages(NamedTuple):
    """What becomes of an image before the tower sees it.

    Attributes:
      size: Height and width in pixels.
      mode: ``"shortest"`` fits the shorter side and crops, ``"longest"`` the longer
        one and pads, ``"squash"`` changes the aspect ratio.
      resample: Pillow's filter.
      fill: Colour of padding, 0 to 255.
      mean: Subtracted from each channel of pixels in [0, 1].
      std: Divisor of each channel after that.
    """

    size: tuple[int, int]
    mode: str
    resample: Image.Resampling
    fill: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def parse_images(
    raw: Mapping[str, Any], *, size: tuple[int, int], source: str
) -> OpenClipImages:
    """Read ``preprocess_cfg``; what it leaves out is as for OpenAI's models.

    Raises:
      InputError: It asks for something unknown.
    """
    values = {
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
        "mean": _MEAN,
        "std": _STD,
        **{name: value for name, value in raw.items() if value is not None},
    }
    name = check_one_of(
        f"interpolation in {source}", str(values["interpolation"]), _FILTERS
    )
    fill = values["fill_color"]
    if not isinstance(fill, int) or not 0 <= fill <= 255:
        raise InputError(
            f"Expected fill_color in {source} between 0 and 255, found {fill!r}"
        )
    return OpenClipImages(
        size=size,
        mode=check_one_of(
            f"resize_mode in {source}", str(values["resize_mode"]), _MODES
        ),
        resample=_FILTERS[name],
        fill=fill,
        mean=parse_channels(values["mean"], "mean", source),
        std=parse_channels(values["std"], "std", source),
    )


def parse_channels(value: Any, name: str, source: str) -> tuple[float, float, float]:
    """Return one number for each channel.

    Raises:
      InputError: They are not three, or a divisor is not above 0.
    """
    values = [value] * 3 if isinstance(value, int | float) else list(value)
    numbers = all(isinstance(each, int | float) for each in values)
    if len(values) != 3 or not numbers or (name == "std" and min(values) <= 0):
        raise InputError(
            f"Expected {name} in {source} of three numbers, found {value!r}"
        )
    red, green, blue = (float(each) for each in values)
    return red, green, blue


def prepare_image(images: OpenClipImages, image: Image.Image) -> np.ndarray:
    """Resize, and crop or pad, an upright image; pixels uint8 ``[h, w, 3]``."""
    return resize_and_crop(
        image,
        resized=images.size,
        size=images.size,
        mode=images.mode,
        resample=images.resample,
        fill=images.fill,
    )


def resize_and_crop(
    image: Image.Image,
    *,
    resized: tuple[int, int],
    size: tuple[int, int],
    mode: str,
    resample: Image.Resampling,
    fill: int,
) -> np.ndarray:
    """Resize to one size and crop or pad to another, around the middle.

    Args:
      image: Upright.
      resized: Height and width to resize to by the mode.
      size: Height and width of the result.
      mode: As of ``OpenClipImages``.
      resample: Pillow's filter.
      fill: Colour of padding.

    Returns:
      Pixels uint8 ``[h, w, 3]``.
    """
    if image.mode != "RGB":
        image = image.convert("RGB")
    target = _resized(mode, resized, image.height, image.width)
    if target != (image.height, image.width):
        image = image.resize((target[1], target[0]), resample)
    pixels = np.asarray(image)
    for axis, wanted in enumerate(size):
        pixels = _fit(pixels, axis, wanted, fill)
    return pixels


def _resized(
    mode: str, wanted: tuple[int, int], height: int, width: int
) -> tuple[int, int]:
    """Return height and width to resize to."""
    tall, wide = wanted
    if mode == "squash":
        return tall, wide
    if mode == "shortest" and tall == wide:
        # Cut to whole pixels, as torchvision does; otherwise they are rounded.
        if width <= height:
            return int(tall * height / width), tall
        return tall, int(tall * width / height)
    ratios = height / tall, width / wide
    ratio = min(ratios) if mode == "shortest" else max(ratios)
    return round(height / ratio), round(width / ratio)


def _fit(pixels: np.ndarray, axis: int, wanted: int, fill: int) -> np.ndarray:
    """Crop one axis around its middle, or pad it."""
    found = pixels.shape[axis]
    if found < wanted:
        before = (wanted - found) // 2
        padding = [(0, 0)] * pixels.ndim
        padding[axis] = (before, wanted - found - before)
        return np.pad(pixels, padding, constant_values=fill)
    # Rounded to even, where transformers cuts: half a pixel is one to the left there.
    start = round((found - wanted) / 2)
    return pixels.take(range(start, start + wanted), axis)
