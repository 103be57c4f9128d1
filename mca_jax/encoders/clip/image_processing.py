"""Image preprocessing as preprocessor_config.json asks for it, by Pillow alone.

SigLIP 2's NaFlex images (Tschannen et al., "SigLIP 2: Multilingual Vision-Language
Encoders with Improved Semantic Understanding, Localization, and Dense Features", 2025,
section 2.5) have any aspect ratio: an image is resized so that its sides are multiples
of the patch size and it has at most so many patches. Because every encoder takes one
array of uint8 pixels, the patches travel as rows of a canvas ``[max_patches + 1, patch
height * patch width, 3]``: each row is one flattened patch, rows past the last patch
are black, and the first pixel of the final row holds the grid, (rows - 1, columns - 1,
0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.checkpoint_files import read_json
from mca_jax.encoders.huggingface.transformer import check_whole

__all__ = [
    "ImageProcessing",
    "fit_patches",
    "load_image_processing",
    "pack_patches",
    "position_weights",
    "process_image",
    "unpack_patches",
]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": {
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_center_crop": True,
    },
    "dinov2": {
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "size": {"shortest_edge": 256},
        "crop_size": 224,
        "do_center_crop": True,
    },
    "dinov3": {
        "resample": 2,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
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
    image_size: tuple[int, int] | None,
    patch_size: tuple[int, int] = (16, 16),
) -> ImageProcessing:
    """Read how a checkpoint wants its images; what it doesn't say is its family's.

    Args:
      folder: Local folder of the checkpoint.
      family: ``"clip"``, ``"dinov2"``, ``"dinov3"``, ``"siglip"`` or ``"siglip2"``.
      image_size: Height and width in pixels that config.json names; not looked at
        for ``"siglip2"``. None takes whatever size this file gives.
      patch_size: Height and width of a patch that config.json names; looked at
        for ``"siglip2"`` alone.

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
        expected = image_size or (224, 224)
        shortest_edge, size = _resize(raw.get("size"), family, expected, source)
        if raw["do_center_crop"]:
            crop = _crop(raw.get("crop_size"), expected, source)
        if image_size is None:
            expected = crop or size or expected
        if (crop or size) != expected:
            found = crop or size or f"shortest edge {shortest_edge} and no crop"
            raise InputError(
                f"Expected images of {expected[0]}x{expected[1]} from {source} as "
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


def _height_width(size: Mapping[str, Any], source: str) -> tuple[int, int]:
    """Return height and width of a size."""
    return (
        check_whole(size["height"], "height", source),
        check_whole(size["width"], "width", source),
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
        side = check_whole(size, "size", source)
        # Files of before 2023 write CLIP's shortest edge as a bare number.
        return (side, None) if family == "clip" else (None, (side, side))
    keys = set(size) if isinstance(size, Mapping) else set()
    if keys == {"shortest_edge"}:
        return check_whole(size["shortest_edge"], "shortest_edge", source), None
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
        side = check_whole(size, "crop_size", source)
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
    """Resize and crop an upright image as the reference does, byte for byte.

    For models of one resolution; returns pixels uint8 ``[h, w, 3]``.
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


def fit_patches(
    height: int, width: int, *, patch_size: tuple[int, int], max_patches: int
) -> tuple[int, int]:
    """Return the size to which the reference resizes an image.

    Both sides are scaled by one factor and rounded up to whole patches; the factor
    is the largest, found by bisection to 1e-5 as in the reference, that leaves at
    most ``max_patches`` patches. Heights come before widths.

    Example:
      >>> fit_patches(480, 640, patch_size=(16, 16), max_patches=256)
      (224, 288)
    """
    tolerance = 1e-5

    def scaled(scale: float) -> tuple[int, int]:
        rows = max(1, math.ceil(height * scale / patch_size[0]))
        columns = max(1, math.ceil(width * scale / patch_size[1]))
        return rows, columns

    low, high = tolerance / 10, 100.0
    while high - low >= tolerance:
        middle = (low + high) / 2
        if math.prod(scaled(middle)) <= max_patches:
            low = middle
        else:
            high = middle
    rows, columns = scaled(low)
    return rows * patch_size[0], columns * patch_size[1]


def pack_patches(
    image: Image.Image,
    *,
    patch_size: tuple[int, int],
    max_patches: int,
    resample: Image.Resampling,
) -> np.ndarray:
    """Resize an upright image and lay its patches, at most 256, out as a canvas."""
    if image.mode != "RGB":
        image = image.convert("RGB")
    tall, wide = patch_size
    height, width = fit_patches(
        image.height, image.width, patch_size=patch_size, max_patches=max_patches
    )
    pixels = np.asarray(image.resize((width, height), resample))
    rows, columns = height // tall, width // wide
    patches = pixels.reshape(rows, tall, columns, wide, 3).swapaxes(1, 2)
    canvas = np.zeros((max_patches + 1, tall * wide, 3), np.uint8)
    canvas[: rows * columns] = patches.reshape(rows * columns, tall * wide, 3)
    canvas[-1, 0] = (rows - 1, columns - 1, 0)
    return canvas


def unpack_patches(
    canvas: UInt8[Array, "b s q 3"],
) -> tuple[UInt8[Array, "b t p"], Int[Array, "b 2"], Bool[Array, "b t"]]:
    """Return flattened patches, rows and columns of each grid, and the valid mask."""
    batch, rows, pixels, channels = canvas.shape
    patches = canvas[:, :-1].reshape(batch, rows - 1, pixels * channels)
    grid = canvas[:, -1, 0, :2].astype(jnp.int32) + 1
    count = jnp.prod(grid, axis=1)
    mask = jnp.arange(rows - 1)[None] < count[:, None]
    return patches, grid, mask


def position_weights(
    grid: Int[Array, "b 2"], *, num_patches: int, side: int
) -> Float[Array, "b t s"]:
    """Weights that resize learnt position embeddings to each image's own grid.

    The learnt embeddings are a square grid; each image takes them resized by
    bilinear interpolation with antialiasing: a triangle filter whose half-width
    is the larger of 1 and the scale, its weights scaled to sum to 1. Resizing is
    linear, hence one matrix for each image.

    For ``t`` patches of the canvas and ``s = side * side`` learnt embeddings; rows past
    the last patch of an image hold something finite.
    """
    index = jnp.arange(num_patches)[None]
    columns = grid[:, 1:]
    by_row = _triangle(index // columns, grid[:, :1], side)
    by_column = _triangle(index % columns, columns, side)
    weights = by_row[..., :, None] * by_column[..., None, :]
    return weights.reshape(grid.shape[0], num_patches, side * side)


def _triangle(
    index: Int[Array, "b t"], length: Int[Array, "b 1"], side: int
) -> Float[Array, "b t s"]:
    """Weights of ``side`` samples for some indices among ``length``."""
    scale = (side / length.astype(jnp.float32))[..., None]
    center = (index.astype(jnp.float32)[..., None] + 0.5) * scale
    samples = jnp.arange(side)[None, None] + 0.5
    distance = jnp.abs(samples - center) / jnp.maximum(scale, 1.0)
    weights = jax.nn.relu(1.0 - distance)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    # Indices past the end of a grid may lie outside every filter.
    return weights / jnp.maximum(total, 1e-6)
