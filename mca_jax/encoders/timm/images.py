"""Images as timm prepares them: resized by a share of what is cropped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.encoders.open_clip.images import parse_channels, resize_and_crop

__all__ = ["TimmImages", "parse_timm_images", "prepare_timm_image"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
_MODES = {"center": "shortest", "squash": "squash"}
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class TimmImages(NamedTuple):
    """What becomes of an image before the tower sees it.

    Attributes:
      size: Height and width in pixels.
      resized: Height and width that the image is resized to cover, or to have.
      mode: ``"shortest"`` keeps the aspect ratio, ``"squash"`` doesn't.
      resample: Pillow's filter.
      mean: Subtracted from each channel of pixels in [0, 1].
      std: Divisor of each channel after that.
    """

    size: tuple[int, int]
    resized: tuple[int, int]
    mode: str
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def parse_timm_images(
    raw: Mapping[str, Any], *, size: tuple[int, int], source: str
) -> TimmImages:
    """Read ``pretrained_cfg``; what it leaves out is timm's default.

    Raises:
      InputError: It asks for something unknown.
    """
    values = {
        "interpolation": "bicubic",
        "crop_mode": "center",
        "crop_pct": 0.875,
        "mean": _MEAN,
        "std": _STD,
        **{name: value for name, value in raw.items() if value is not None},
    }
    share = values["crop_pct"]
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(
            f"Expected crop_pct in {source} above 0 and at most 1, found {share!r}"
        )
    mode = check_one_of(f"crop_mode in {source}", str(values["crop_mode"]), _MODES)
    name = check_one_of(
        f"interpolation in {source}", str(values["interpolation"]), _FILTERS
    )
    height, width = (math.floor(side / share) for side in size)
    return TimmImages(
        size=size,
        resized=(height, width),
        mode=_MODES[mode],
        resample=_FILTERS[name],
        mean=parse_channels(values["mean"], "mean", source),
        std=parse_channels(values["std"], "std", source),
    )


def prepare_timm_image(images: TimmImages, image: Image.Image) -> np.ndarray:
    """Resize and crop an upright image; pixels uint8 ``[h, w, 3]``."""
    return resize_and_crop(
        image,
        resized=images.resized,
        size=images.size,
        mode=images.mode,
        resample=images.resample,
        fill=0,
    )
