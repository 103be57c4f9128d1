"""Image preprocessing as preprocessor_config.json asks for it, by Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.checkpoint_files import read_json

__all__ = ["ImageProcessing", "load_image_processing", "process_image"]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": {
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_center_crop": True,
    },
    "siglip": {
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_center_crop": False,
    },
    "siglip2": {
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_center_crop": False,
        "max_num_patches": 256,
        "patch_size": 16,
    },
}


class ImageProcessing(NamedTuple):
    """What becomes of an image before the tower sees it.

    Attributes:
      shortest_edge: Length to which the shorter side is resized; None resizes to
        ``size`` whatever the aspect ratio, or not at all without ``size``.
      size: Height and width to resize to; None with ``shortest_edge``, or if
        the size depends on the image.
      resample: Pillow's filter.
      crop: Height and width of the central crop, or None for no crop.
      scale: Factor of the uint8 pixels.
      mean: Subtracted from each channel after scaling.
      std: Divisor of each channel after that.
      max_patches: Most patches of an image that keeps its aspect ratio; 0 for
        models of one resolution.
    """

    shortest_edge: int | None
    size: tuple[int, int] | None
    resample: Image.Resampling
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_patches: int


def load_image_processing(
    folder: Path,
    *,
    family: str,
    image_size: tuple[int, int],
    patch_size: tuple[int, int] = (16, 16),
) -> ImageProcessing:
    """Read how a checkpoint wants its images.

    Args:
      folder: Local folder of the checkpoint.
      family: ``"clip"``, ``"siglip"`` or ``"siglip2"``, for what isn't said.
      image_size: Height and width in pixels that config.json names; not looked at
        for ``"siglip2"``.
      patch_size: Height and width of a patch that config.json names; looked at
        for ``"siglip2"`` alone.

    Returns:
      The processing; the one of the family where the folder has no such file.

    Raises:
      InputError: The file asks for something unknown, or for images of another
        size than config.json.
    """
    given, source = _read_config(folder)
    raw = {**_DEFAULTS[family], **{k: v for k, v in given.items() if v is not None}}
    if raw.get("do_pad"):
        raise InputError(f"{source} asks for padded images, which are not supported")
    if not raw.get("do_resize", True) and family != "siglip2":
        raise InputError(f"Expected {source} with do_resize, found false")
    try:
        resample = Image.Resampling(raw["resample"])
    except ValueError as error:
        raise InputError(
            f"Expected resample in {source} between 0 and 5, found {raw['resample']!r}"
        ) from error
    shortest_edge, size, crop, max_patches = None, None, None, 0
    if family == "siglip2":
        max_patches = _max_patches(raw, patch_size, source)
    else:
        shortest_edge, size = _resize(raw.get("size"), family, image_size, source)
        if raw["do_center_crop"]:
            crop = _crop(raw.get("crop_size"), image_size, source)
        if (crop or size) != image_size:
            found = crop or size or f"shortest edge {shortest_edge} and no crop"
            raise InputError(
                f"Expected images of {image_size[0]}x{image_size[1]} from {source} as "
                f"config.json says, found {found}"
            )
    normalise = raw.get("do_normalize", True)
    rescale = raw.get("do_rescale", True)
    return ImageProcessing(
        shortest_edge=shortest_edge,
        size=size,
        resample=resample,
        crop=crop,
        scale=_scale(raw.get("rescale_factor", 1 / 255), source) if rescale else 1.0,
        mean=_channels(raw, "image_mean", source) if normalise else (0.0, 0.0, 0.0),
        std=_channels(raw, "image_std", source) if normalise else (1.0, 1.0, 1.0),
        max_patches=max_patches,
    )


def _read_config(folder: Path) -> tuple[Mapping[str, Any], str]:
    """Return the image part of the processor's configuration, and its path."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        raw = read_json(path)
        if isinstance(raw, Mapping) and name == "processor_config.json":
            raw = raw.get("image_processor", {})
        if not isinstance(raw, Mapping):
            raise InputError(f"Expected an object in {path}; download it again")
        return raw, str(path)
    return {}, str(folder / "preprocessor_config.json")


def _whole(value: Any, key: str, source: str) -> int:
    """Return a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"Expected {key} in {source} to be a whole number of at least 1, found "
            f"{value!r}"
        )
    return value


def _height_width(size: Mapping[str, Any], source: str) -> tuple[int, int]:
    """Return height and width of a size."""
    return (
        _whole(size["height"], "height", source),
        _whole(size["width"], "width", source),
    )


def _scale(value: Any, source: str) -> float:
    """Return the factor of the pixels."""
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(
            f"Expected rescale_factor in {source} above 0, found {value!r}"
        )
    return float(value)


def _max_patches(
    raw: Mapping[str, Any], patch_size: tuple[int, int], source: str
) -> int:
    """Return the most patches of an image, whose patches are the tower's."""
    if (raw["patch_size"],) * 2 != patch_size:
        raise InputError(
            f"Expected patch_size {patch_size[0]} in {source} as config.json says, "
            f"found {raw['patch_size']!r}"
        )
    value = raw["max_num_patches"]
    # One byte of the canvas holds the rows of the grid, another its columns.
    if not isinstance(value, int) or not 1 <= value <= 256:
        raise InputError(
            f"Expected max_num_patches in {source} between 1 and 256, found {value!r}"
        )
    return value


def _resize(
    size: Any, family: str, image_size: tuple[int, int], source: str
) -> tuple[int | None, tuple[int, int] | None]:
    """Return the shortest edge, or height and width, to resize to."""
    if size is None:
        if family == "clip" and image_size[0] == image_size[1]:
            return image_size[0], None
        return None, image_size
    if isinstance(size, int):
        side = _whole(size, "size", source)
        # Files of before 2023 write CLIP's shortest edge as a bare number.
        return (side, None) if family == "clip" else (None, (side, side))
    keys = set(size) if isinstance(size, Mapping) else set()
    if keys == {"shortest_edge"}:
        return _whole(size["shortest_edge"], "shortest_edge", source), None
    if keys == {"height", "width"}:
        return None, _height_width(size, source)
    raise InputError(
        f"Expected size in {source} with shortest_edge, or height and width, found "
        f"{size!r}"
    )


def _crop(size: Any, image_size: tuple[int, int], source: str) -> tuple[int, int]:
    """Return height and width of the central crop."""
    if size is None:
        return image_size
    if isinstance(size, int):
        side = _whole(size, "crop_size", source)
        return side, side
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return _height_width(size, source)
    raise InputError(
        f"Expected crop_size in {source} with height and width, found {size!r}"
    )


def _channels(
    raw: Mapping[str, Any], key: str, source: str
) -> tuple[float, float, float]:
    """Return one number for each channel."""
    value = raw[key]
    values = [value] * 3 if isinstance(value, int | float) else value
    good = isinstance(values, list) and len(values) == 3
    if not good or not all(isinstance(v, int | float) for v in values):
        raise InputError(
            f"Expected {key} in {source} of three numbers, found {value!r}"
        )
    if key == "image_std" and not all(v > 0 for v in values):
        raise InputError(f"Expected {key} in {source} above 0, found {value!r}")
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def process_image(processing: ImageProcessing, image: Image.Image) -> np.ndarray:
    """Resize and crop an image as the reference does, byte for byte.

    Args:
      processing: What to do; for models of one resolution.
      image: An upright image.

    Returns:
      Pixels uint8 ``[h, w, 3]``.
    """
    if image.mode != "RGB":
        image = image.convert("RGB")
    width, height = image.size
    if processing.shortest_edge is not None:
        target = _fit_shortest_edge(height, width, processing.shortest_edge)
    else:
        target = processing.size or (height, width)
    if target != (height, width):
        image = image.resize((target[1], target[0]), processing.resample)
    pixels = np.asarray(image)
    return pixels if processing.crop is None else _center_crop(pixels, processing.crop)


def _fit_shortest_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Return height and width with the shorter side of that length."""
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def _center_crop(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut the middle out; where the image is smaller, black goes around it."""
    for axis, wanted in enumerate(size):
        found = pixels.shape[axis]
        if found >= wanted:
            start = (found - wanted) // 2
            pixels = pixels.take(range(start, start + wanted), axis)
        else:
            before = math.ceil((wanted - found) / 2)
            padding = [(0, 0)] * pixels.ndim
            padding[axis] = (before, wanted - found - before)
            pixels = np.pad(pixels, padding)
    return pixels
