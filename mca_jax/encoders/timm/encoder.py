"""Image encoders from a checkpoint in timm's own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.encoders.dino.encoder import build_encode_patches
from mca_jax.encoders.encoder import ImageEncoder
from mca_jax.encoders.huggingface.checkpoint_files import (
    find_checkpoint,
    find_weights,
    hash_files,
    read_json,
    read_licence,
    read_timm_name,
    read_weights,
)
from mca_jax.encoders.timm.config import find_kind, parse_trunk, read_sizes
from mca_jax.encoders.timm.images import parse_timm_images, prepare_timm_image
from mca_jax.encoders.timm.tower import TimmTower, convert_timm_tensors

__all__ = ["build_timm"]

# Part of each fingerprint: to be changed when the same files give new embeddings.
_VERSION = "timm-1"


def build_timm(
    checkpoint: str,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    cache_dir: str | None = None,
) -> ImageEncoder:
    """Load a vision transformer in timm's layout as an encoder of images alone.

    The embedding is what timm gives without a classifier, of unit norm: pooled as its
    config.json says, images prepared by its ``pretrained_cfg``. In float32 it is the
    original's to 1e-5.

    Args:
      checkpoint: An id on the hub, such as
        ``"timm/vit_base_patch14_dinov2.lvd142m"``, or a folder.
      dtype: ``"float32"`` or ``"bfloat16"``, the type of weights and activations.
      revision: Branch, tag or commit on the hub.
      cache_dir: Where the hub's files are cached; None is its usual place.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: The checkpoint can't be had, is of another architecture, is damaged
        or incomplete; one line says which.

    Example:
      >>> build_timm("timm/vit_base_patch14_dinov2.lvd142m").width  # doctest: +SKIP
      768
    """
    check_one_of("dtype", dtype, ("float32", "bfloat16"))
    folder = find_checkpoint(checkpoint, revision=revision, cache_dir=cache_dir)
    path = folder / "config.json"
    name, raw = read_timm_name(folder), _read_config(path)
    # Before the weights are looked for: there may be a pickle alone.
    find_kind(name, str(path))
    size, settings = read_sizes(raw, name, str(path))
    given = raw.get("pretrained_cfg") or {}
    images = parse_timm_images(given, size=size, source=str(path))
    files = find_weights(folder, source=checkpoint)
    tensors = read_weights(files)
    config = parse_trunk(
        name,
        {name: tensor.shape for name, tensor in tensors.items()},
        image_size=size,
        pooling=str(settings.get("global_pool") or raw.get("global_pool") or "token"),
        settings=settings,
        source=str(path),
    )
    params = convert_timm_tensors(tensors, config, dtype=dtype, source=str(files[0]))
    tower = TimmTower(config, 0, jnp.dtype(dtype))
    return ImageEncoder(
        name=checkpoint,
        fingerprint=hash_files((_VERSION, config, images, dtype), files),
        licence=read_licence(folder),
        domain="images, as its model card says",
        width=config.blocks.tower.width,
        image_size=size,
        params=params,
        preprocess=lambda image: prepare_timm_image(images, image),
        encode_images=build_encode_patches(
            tower,
            size=size,
            patch_size=config.blocks.patch_size,
            scale=1 / 255,
            mean=images.mean,
            std=images.std,
            dtype=dtype,
        ),
    )


def _read_config(path: Path) -> dict[str, Any]:
    """Return what is in config.json."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"Expected an object in {path}; download it again")
    return content
