"""DINOv2 and DINOv3 from a checkpoint of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.numerics import l2_normalize
from mca_jax.encoders.clip.encoder import cut_patches, precise
from mca_jax.encoders.clip.image_processing import (
    ImageProcessing,
    load_image_processing,
    process_image,
)
from mca_jax.encoders.dino.config import DinoConfig, parse_dino_config
from mca_jax.encoders.dino.tower import DinoTower, convert_dino_tensors
from mca_jax.encoders.encoder import ImageEncoder
from mca_jax.encoders.huggingface.checkpoint_files import (
    find_checkpoint,
    find_weights,
    hash_files,
    read_json,
    read_licence,
    read_weights,
)

__all__ = ["build_dino", "build_encode_patches"]

# Part of each fingerprint: to be changed when the same files give new embeddings.
_VERSION = "dino-1"


def build_dino(
    checkpoint: str,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    cache_dir: str | None = None,
) -> ImageEncoder:
    """Load a DINOv2 or DINOv3 checkpoint as an encoder of images alone.

    The embedding is the class token behind the last norm, of unit norm. In float32 it
    is that of the reference's PyTorch model to 1e-5. Of DINOv3 this holds for the same
    pixels: its reference resizes in fractions of a grey level, where pixels are whole
    here.

    Args:
      checkpoint: An id on the hub, such as ``"facebook/dinov2-base"``, or a folder.
      dtype: ``"float32"`` or ``"bfloat16"``, the type of weights and activations.
      revision: Branch, tag or commit on the hub.
      cache_dir: Where the hub's files are cached; None is its usual place.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: The checkpoint can't be had, is another model, is damaged or
        incomplete; one line says which.

    Example:
      >>> build_dino("facebook/dinov2-base").width  # doctest: +SKIP
      768
    """
    check_one_of("dtype", dtype, ("float32", "bfloat16"))
    folder = find_checkpoint(checkpoint, revision=revision, cache_dir=cache_dir)
    path = folder / "config.json"
    config = parse_dino_config(read_json(path), source=str(path))
    processing, size = _read_processing(folder, config)
    files = find_weights(folder, source=checkpoint)
    grid = size[0] // config.patch_size, size[1] // config.patch_size
    params = convert_dino_tensors(
        read_weights(files), config, grid=grid, dtype=dtype, source=str(files[0])
    )
    return ImageEncoder(
        name=checkpoint,
        fingerprint=hash_files((_VERSION, config, processing, dtype), files),
        licence=read_licence(folder),
        domain="images of many kinds, without texts",
        width=config.tower.width,
        image_size=size,
        params=params,
        preprocess=lambda image: process_image(processing, image),
        encode_images=build_encode_patches(
            DinoTower(config, grid, jnp.dtype(dtype)),
            size=size,
            patch_size=config.patch_size,
            scale=processing.scale,
            mean=processing.mean,
            std=processing.std,
            dtype=dtype,
        ),
    )


def _read_processing(
    folder: Path, config: DinoConfig
) -> tuple[ImageProcessing, tuple[int, int]]:
    """Return how images are prepared, and the size that they get."""
    family = "dinov3" if config.theta else "dinov2"
    processing = load_image_processing(folder, family=family, image_size=None)
    size = processing.crop or processing.size
    assert size is not None
    if min(size) < config.patch_size:
        raise InputError(
            f"Expected images of at least {config.patch_size} pixels from the "
            f"preprocessor_config.json in {folder}, found {size[0]}x{size[1]}"
        )
    return processing, size


def build_encode_patches(
    tower: nn.Module,
    *,
    size: tuple[int, int],
    patch_size: int,
    scale: float,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: str,
) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the pure function from weights and pixels to unit vectors.

    Args:
      tower: Module that takes normalised patches.
      size: Height and width of images.
      patch_size: Height and width of a patch.
      scale: Factor that brings pixels into [0, 1].
      mean: Subtracted from each channel after that.
      std: Divisor of each channel after that.
      dtype: ``"float32"``, which is kept to, or ``"bfloat16"``.
    """
    factor = np.asarray(scale / np.asarray(std), np.float32)
    shift = np.asarray(np.divide(mean, std), np.float32)
    turns = patch_size * patch_size

    def encode_images(
        params: Any, pixels: UInt8[Array, "b h w 3"]
    ) -> Float[Array, "b d"]:
        if pixels.ndim != 4 or pixels.shape[1:] != (*size, 3):
            raise InputError(
                f"Expected pixels of shape [b, {size[0]}, {size[1]}, 3] for this "
                f"encoder, found {list(pixels.shape)}"
            )
        patches = cut_patches(pixels, (patch_size, patch_size))
        normal = patches * np.tile(factor, (1, 1, turns)) - (
            np.tile(shift, (1, 1, turns))
        )
        with precise(dtype):
            x = jnp.asarray(tower.apply(params, normal), jnp.float32)
        return l2_normalize(x)

    return encode_images
