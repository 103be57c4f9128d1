"""The encoders that a user can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.encoders.encoder import Encoder, ImageEncoder, with_image_encoder
from mca_jax.encoders.huggingface.twins import twin_of
from mca_jax.encoders.lite.encoder import build_lite, build_lite2
from mca_jax.encoders.prompts import PHOTO

__all__ = ["ENCODERS", "build_encoder", "build_image_encoder", "check_encoder"]

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lite": build_lite,
    "lite2": build_lite2,
}
"""Name of each embedded encoder -> the function that loads it."""


def check_encoder(name: str) -> bool:
    """Check the name of an encoder, without a look at what it names.

    Returns:
      Whether it is a checkpoint rather than an embedded encoder.

    Raises:
      InputError: No encoder can have that name.
    """
    if Path(name).expanduser().is_dir():
        return True
    twin = twin_of(name)
    if twin:
        raise InputError(
            f"{name} is what other libraries call an architecture; {twin} is a "
            "checkpoint of it on the hub"
        )
    if "/" not in name:
        check_one_of("encoder", name, ENCODERS)
    return "/" in name


def build_encoder(
    name: str,
    *,
    dtype: str = "float32",
    prompts: Sequence[str] = PHOTO,
    glosses: Mapping[str, str] | None = None,
    revision: str | None = None,
    image: str = "",
) -> Encoder:
    """Load an encoder by name.

    Args:
      name: One of the keys of ``ENCODERS``, a hub id such as
        ``"openai/clip-vit-base-patch32"``, or a folder with a CLIP or SigLIP
        checkpoint.
      dtype: Weights and activations of a checkpoint, ``"float32"`` or
        ``"bfloat16"``.
      prompts: Templates with one ``{}`` for the noun, for a checkpoint.
      glosses: Synset id -> gloss that goes behind the noun's prompt, likewise.
      revision: Branch, tag or commit of a checkpoint on the hub.
      image: Name of a second encoder that sees the images too, as for
        :func:`build_image_encoder`; empty for none. See ``with_image_encoder``.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: There is no encoder of that name, its assets are damaged, or a
        setting is not for it.

    Example:
      >>> build_encoder("lite").image_size
      (224, 224)
    """
    if image:
        first = build_encoder(
            name, dtype=dtype, prompts=prompts, glosses=glosses, revision=revision
        )
        return with_image_encoder(first, build_image_encoder(image, dtype=dtype))
    if check_encoder(name):
        # Imported here: runs with the embedded encoder need neither Flax nor the hub.
        from mca_jax.encoders.clip.encoder import build_clip

        return build_clip(
            name, dtype=dtype, prompts=prompts, glosses=glosses, revision=revision
        )
    if revision is not None:
        raise InputError(
            f"Expected no encoder.revision with encoder {name!r}, which is part of "
            "this package"
        )
    build = ENCODERS[name]
    for setting, given in (
        ("dtype", dtype != "float32"),
        ("prompts", tuple(prompts) != PHOTO),
        ("glosses", glosses is not None),
    ):
        if given:
            raise InputError(
                f"Expected no encoder.{setting} with encoder {name!r}, which reads no "
                "text; choose a CLIP or SigLIP checkpoint"
            )
    return build()


def build_image_encoder(
    name: str, *, dtype: str = "float32", revision: str | None = None
) -> Encoder | ImageEncoder:
    """Load an encoder for its images alone.

    Args:
      name: As for :func:`build_encoder`, or a checkpoint of images alone, such as
        ``"facebook/dinov2-base"`` or ``"timm/vit_base_patch16_224.mae"``.
      dtype: Weights and activations of a checkpoint.
      revision: Branch, tag or commit of a checkpoint on the hub.

    Returns:
      The encoder, its weights on the host.

    Raises:
      InputError: As for :func:`build_encoder`.

    Example:
      >>> build_image_encoder("lite2").image_size
      (260, 260)
    """
    if not check_encoder(name):
        return build_encoder(name, revision=revision)
    # Imported here, as above.
    from mca_jax.encoders.clip.config import FAMILIES as PAIRS
    from mca_jax.encoders.clip.unsupported import nearest_images
    from mca_jax.encoders.dino.config import FAMILIES
    from mca_jax.encoders.dino.encoder import build_dino
    from mca_jax.encoders.huggingface.checkpoint_files import (
        find_checkpoint,
        find_open_clip,
        read_model_type,
        read_timm_name,
    )
    from mca_jax.encoders.timm.encoder import build_timm

    folder = find_checkpoint(name, revision=revision)
    if read_model_type(folder) in FAMILIES:
        return build_dino(name, dtype=dtype, revision=revision)
    if read_timm_name(folder) and find_open_clip(folder) is None:
        return build_timm(name, dtype=dtype, revision=revision)
    kind = read_model_type(folder)
    if kind and kind not in PAIRS and find_open_clip(folder) is None:
        raise InputError(
            f"Expected {folder / 'config.json'} to have model_type "
            f"{', '.join((*FAMILIES, *PAIRS))}, found {kind!r}, whose images can't be "
            f"read here; the nearest is {nearest_images(kind)}, and mca-jax encoders "
            "lists what works"
        )
    return build_encoder(name, dtype=dtype, revision=revision)
