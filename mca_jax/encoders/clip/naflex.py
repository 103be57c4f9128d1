"""SigLIP 2's NaFlex images: any aspect ratio, as a list of patches.

Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved
Semantic Understanding, Localization, and Dense Features" (2025), section 2.5.

An image is resized so that its sides are multiples of the patch size and it has
at most so many patches. Because every encoder takes one array of uint8 pixels, the
patches travel as rows of a canvas ``[max_patches + 1, patch height * patch width,
3]``: each row is one flattened patch, rows past the last patch are black, and the
first pixel of the final row holds the grid, (rows - 1, columns - 1, 0).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image

__all__ = ["fit_patches", "pack_patches", "position_weights", "unpack_patches"]


def fit_patches(
    height: int, width: int, *, patch_size: tuple[int, int], max_patches: int
) -> tuple[int, int]:
    """Return the size to which the reference resizes an image.

    Both sides are scaled by one factor and rounded up to whole patches; the factor
    is the largest, found by bisection to 1e-5 as in the reference, that leaves at
    most ``max_patches`` patches.

    Args:
      height: Height of the image, at least 1.
      width: Width of the image, at least 1.
      patch_size: Height and width of a patch.
      max_patches: Most patches, at least 1.

    Returns:
      Height and width, multiples of the patch size.

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
    """Resize an image and lay its patches out as rows.

    Args:
      image: An upright image.
      patch_size: Height and width of a patch.
      max_patches: Most patches, between 1 and 256.
      resample: Pillow's filter.

    Returns:
      The canvas, uint8 ``[max_patches + 1, patch height * patch width, 3]``.
    """
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
    """Undo ``pack_patches`` for a batch.

    Args:
      canvas: Canvases.

    Returns:
      Flattened patches, the rows and columns of each grid, and which patches
      belong to the image.
    """
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

    Args:
      grid: Rows and columns of each image, at least 1.
      num_patches: Number of patches ``t`` of the canvas.
      side: Side of the learnt grid.

    Returns:
      Weights float32 with ``s = side * side``; rows past the last patch of an image
      hold something finite.
    """
    index = jnp.arange(num_patches)[None]
    columns = grid[:, 1:]
    by_row = _triangle(index // columns, grid[:, :1], side)
    by_column = _triangle(index % columns, columns, side)
    weights = by_row[..., :, None] * by_column[..., None, :]
    return weights.reshape(grid.shape[0], num_patches, side * side)


def _triangle(
    place: Int[Array, "b t"], length: Int[Array, "b 1"], side: int
) -> Float[Array, "b t s"]:
    """Weights of ``side`` samples for some places among ``length``."""
    scale = (side / length.astype(jnp.float32))[..., None]
    center = (place.astype(jnp.float32)[..., None] + 0.5) * scale
    samples = jnp.arange(side)[None, None] + 0.5
    distance = jnp.abs(samples - center) / jnp.maximum(scale, 1.0)
    weights = jax.nn.relu(1.0 - distance)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    # Places past the end of a grid may lie outside every filter.
    return weights / jnp.maximum(total, 1e-6)
