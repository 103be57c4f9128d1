"""CLIP, SigLIP and SigLIP 2 from a checkpoint of transformers or of open_clip."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.numerics import l2_normalize
from mca_jax.encoders.clip.checkpoint import ClipCheckpoint, read_checkpoint
from mca_jax.encoders.clip.config import ClipConfig
from mca_jax.encoders.clip.image_processing import (
    ImageProcessing,
    position_weights,
    unpack_patches,
)
from mca_jax.encoders.clip.towers import find_ends
from mca_jax.encoders.encoder import Encoder
from mca_jax.encoders.huggingface.checkpoint_files import (
    find_checkpoint,
    hash_files,
    read_licence,
)
from mca_jax.encoders.huggingface.tokenizers import TextTokenizer
from mca_jax.encoders.prompts import PHOTO, build_prompts, check_templates

__all__ = ["build_clip", "cut_patches", "precise"]


def build_clip(
    checkpoint: str,
    *,
    dtype: str = "float32",
    prompts: Sequence[str] = PHOTO,
    fix_articles: bool = False,
    glosses: Mapping[str, str] | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> Encoder:
    """Load a CLIP, SigLIP or SigLIP 2 checkpoint as an encoder.

    It may be in the layout of Hugging Face transformers or of open_clip. Everything
    else comes from the checkpoint's files: sizes, activation, pooling,
    tokenizer and preprocessing. In float32 the embeddings are those of the
    reference's PyTorch model to 1e-5. Weights stay on the host.

    NaFlex checkpoints of SigLIP 2 keep the aspect ratio of an image; what
    ``preprocess`` returns for them is a table of patches (see ``image_processing``),
    not a picture.

    Args:
      checkpoint: An id on the hub, such as ``"openai/clip-vit-base-patch32"``, or a
        local folder.
      dtype: ``"float32"`` or ``"bfloat16"``, the type of weights and activations.
        Embeddings are float32 either way.
      prompts: Templates with one ``{}`` for the noun. With several, a noun's
        embedding is the mean of theirs, renormalised.
      fix_articles: Whether "a" before a noun becomes "an" where it sounds so.
      glosses: Synset id -> gloss that goes behind the noun's prompt, to tell its
        senses apart.
      revision: Branch, tag or commit on the hub.
      cache_dir: Where the hub's files are cached; None is its usual place.

    Returns:
      The encoder.

    Raises:
      InputError: The checkpoint can't be had, is no CLIP or SigLIP, is damaged or
        incomplete, or a setting is invalid; one line says which.

    Example:
      >>> encoder = build_clip("openai/clip-vit-base-patch32")  # doctest: +SKIP
      >>> encoder.image_size, encoder.width  # doctest: +SKIP
      ((224, 224), 512)
    """
    check_one_of("dtype", dtype, ("float32", "bfloat16"))
    templates = check_templates(prompts)
    folder = find_checkpoint(checkpoint, revision=revision, cache_dir=cache_dir)
    found = read_checkpoint(folder, checkpoint=checkpoint, dtype=dtype)
    config, processing = found.config, found.processing
    glossed = sorted((glosses or {}).items())
    read = (templates, fix_articles, glossed, *found.reads)
    weights = hash_files("", found.files)

    def tokenize(names: Sequence[str], synset_ids: Sequence[str]) -> np.ndarray:
        """Return token ids ``[m, prompts, t]``."""
        texts = build_prompts(
            names,
            synset_ids,
            templates=templates,
            fix_articles=fix_articles,
            glosses=glosses,
        )
        return _encode_prompts(texts, found.tokenizer, config, checkpoint)

    return Encoder(
        name=checkpoint,
        fingerprint=hash_files((*found.sees, *read, weights), found.tables),
        licence=read_licence(folder),
        domain="pairs of images and texts from the web",
        width=config.embed_width,
        image_size=_canvas_size(config, processing),
        params=found.params,
        preprocess=found.preprocess,
        encode_images=_build_encode_images(found, dtype),
        tokenize=tokenize,
        encode_texts=_build_encode_texts(found, dtype),
        image_fingerprint=hash_files((*found.sees, weights), []),
        count_tokens=None if found.sees_all else _build_count_tokens(config),
    )


def _canvas_size(config: ClipConfig, processing: ImageProcessing) -> tuple[int, int]:
    """Height and width of what ``preprocess`` returns."""
    if config.family != "siglip2":
        return config.image_size
    return processing.max_patches + 1, config.patch_size[0] * config.patch_size[1]


def precise(dtype: str) -> contextlib.AbstractContextManager[Any]:
    """Make float32 mean float32: accelerators multiply in TF32 or bfloat16."""
    if dtype == "float32":
        return jax.default_matmul_precision("highest")
    return contextlib.nullcontext()


def _build_encode_images(
    found: ClipCheckpoint, dtype: str
) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the pure function from weights and pixels to unit vectors."""
    config, processing, tower = found.config, found.processing, found.image_tower
    size = (*_canvas_size(config, processing), 3)
    scale = np.asarray(processing.scale / np.asarray(processing.std), np.float32)
    shift = np.asarray(np.divide(processing.mean, processing.std), np.float32)

    def encode_images(
        params: Any, pixels: UInt8[Array, "b h w 3"]
    ) -> Float[Array, "b d"]:
        if pixels.ndim != 4 or pixels.shape[1:] != size:
            raise InputError(
                f"Expected pixels of shape [b, {size[0]}, {size[1]}, 3] for this "
                f"encoder, found {list(pixels.shape)}"
            )
        if config.family == "siglip2":
            patches, grid, mask = unpack_patches(pixels)
            weights = position_weights(
                grid, num_patches=patches.shape[1], side=math.isqrt(config.num_patches)
            )
            placed = (weights, mask)
        else:
            patches, placed = cut_patches(pixels, config.patch_size), ()
        # Along a flattened patch the channels take turns.
        turns = patches.shape[-1] // 3
        normal = patches * np.tile(scale, (1, 1, turns)) - np.tile(shift, (1, 1, turns))
        with precise(dtype):
            x = jnp.asarray(tower.apply(params["image"], normal, *placed), jnp.float32)
        return l2_normalize(x)

    return encode_images


def cut_patches(
    pixels: UInt8[Array, "b h w 3"], patch_size: tuple[int, int]
) -> UInt8[Array, "b t p"]:
    """Cut images into flattened patches; what doesn't fill a patch is dropped."""
    batch, height, width, channels = pixels.shape
    tall, wide = patch_size
    rows, columns = height // tall, width // wide
    pixels = pixels[:, : rows * tall, : columns * wide]
    patches = pixels.reshape(batch, rows, tall, columns, wide, channels)
    patches = patches.swapaxes(2, 3)
    return patches.reshape(batch, rows * columns, tall * wide * channels)


def _build_encode_texts(
    found: ClipCheckpoint, dtype: str
) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the pure function from weights and token ids to unit vectors."""
    config, tower = found.config, found.text_tower

    def encode_texts(params: Any, tokens: Int[Array, "m p t"]) -> Float[Array, "m d"]:
        if tokens.ndim != 3 or tokens.shape[2] > config.text_length:
            raise InputError(
                f"Expected tokens of shape [nouns, prompts, at most "
                f"{config.text_length}], found {list(tokens.shape)}"
            )
        nouns, prompts, length = tokens.shape
        with precise(dtype):
            x = tower.apply(params["text"], tokens.reshape(nouns * prompts, length))
        each = l2_normalize(jnp.asarray(x, jnp.float32))
        return l2_normalize(jnp.mean(each.reshape(nouns, prompts, -1), axis=1))

    return encode_texts


def _build_count_tokens(
    config: ClipConfig,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that says how many tokens each noun's prompts need.

    CLIP's text is pooled at its end and sees nothing behind it.
    """

    def count_tokens(tokens: Int[np.ndarray, "m p t"]) -> Int[np.ndarray, " m"]:
        ends = find_ends(config, jnp.asarray(tokens.reshape(-1, tokens.shape[2])))
        return 1 + np.asarray(ends).reshape(tokens.shape[:2]).max(axis=1, initial=0)

    return count_tokens


def _encode_prompts(
    texts: Sequence[Sequence[str]],
    tokenizer: TextTokenizer,
    config: ClipConfig,
    checkpoint: str,
) -> np.ndarray:
    """Tokenize the prompts of all nouns and check that the tower knows the ids."""
    flat = [text for prompts in texts for text in prompts]
    tokens = tokenizer.encode(flat)
    if tokens.size and tokens.max() >= config.vocab_size:
        raise InputError(
            f"The tokenizer of {checkpoint} gives id {tokens.max()}, but config.json "
            f"has vocab_size {config.vocab_size}; they belong to different models"
        )
    ends = config.eos_id is None or (tokens == config.eos_id).any(axis=1).all()
    if config.family == "clip" and not ends:
        raise InputError(
            f"The tokenizer of {checkpoint} does not end a text with the eos_token_id "
            f"{config.eos_id} of config.json; they belong to different models"
        )
    return tokens.reshape(len(texts), -1, tokens.shape[1])
