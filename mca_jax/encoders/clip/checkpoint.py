"""A checkpoint of a pair of towers, read from its files, in either layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.config import ClipConfig, parse_clip_config
from mca_jax.encoders.clip.image_processing import (
    ImageProcessing,
    load_image_processing,
    pack_patches,
    process_image,
)
from mca_jax.encoders.clip.towers import ImageTower, TextTower, convert_tensors
from mca_jax.encoders.huggingface.checkpoint_files import (
    find_open_clip,
    find_tokenizer,
    find_weights,
    read_json,
    read_weights,
)
from mca_jax.encoders.huggingface.tokenizers import TextTokenizer, load_tokenizer
from mca_jax.encoders.open_clip.config import parse_open_clip_config, rename_trunk
from mca_jax.encoders.open_clip.images import prepare_image
from mca_jax.encoders.open_clip.tensors import rename_tensors
from mca_jax.encoders.open_clip.text_cleaning import get_cleaning
from mca_jax.encoders.sentence.encoder import convert_sentence_tensors
from mca_jax.encoders.sentence.tower import (
    SentenceConfig,
    SentenceTower,
    parse_sentence_config,
)
from mca_jax.encoders.timm.tower import TimmTower, convert_timm_tensors

__all__ = ["ClipCheckpoint", "read_checkpoint"]

# Part of each fingerprint: to be changed when the same files give new embeddings.
_VERSION = "clip-1"
_OPEN_CLIP_VERSION = "open_clip-1"
_CHINESE_VERSION = "chinese_clip-1"
_TOKENIZER_FILES = (
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
_OPENAI = "openai/clip-vit-base-patch32"


class ClipCheckpoint(NamedTuple):
    """What is read from the files of a checkpoint.

    Attributes:
      config: What the towers' shapes depend on.
      processing: How pixels are normalised, and patches laid out.
      preprocess: Host function from an upright RGB image to uint8 pixels.
      tokenizer: Texts to token ids.
      tables: Files that the token ids depend on; they may be absent.
      params: Weights, for the towers.
      files: Files of the weights.
      sees: All that the image embeddings depend on beside the weights.
      reads: What the text embeddings depend on beside that and the tables.
      image_tower: Module from patches to embeddings.
      text_tower: Module from token ids to embeddings.
      sees_all: Whether tokens of a text see all others, padding too.
    """

    config: ClipConfig
    processing: ImageProcessing
    preprocess: Callable[[Image.Image], np.ndarray]
    tokenizer: TextTokenizer
    tables: list[Path]
    params: dict[str, Any]
    files: list[Path]
    sees: tuple[Any, ...]
    reads: tuple[Any, ...]
    image_tower: nn.Module
    text_tower: nn.Module
    sees_all: bool


def read_checkpoint(folder: Path, *, checkpoint: str, dtype: str) -> ClipCheckpoint:
    """Read a checkpoint in the layout of transformers or of open_clip.

    Args:
      folder: Where its files are.
      checkpoint: Its name, for messages.
      dtype: Type of weights and activations.

    Raises:
      InputError: It is another model, damaged or incomplete.
    """
    path = find_open_clip(folder)
    if path is not None:
        return _read_open_clip(folder, path, checkpoint=checkpoint, dtype=dtype)
    path = folder / "config.json"
    raw = read_json(path)
    config = parse_clip_config(raw, source=str(path))
    processing = load_image_processing(
        folder,
        family=config.family,
        image_size=config.image_size,
        patch_size=config.patch_size,
    )
    if raw["model_type"] == "chinese_clip":
        return _read_chinese(
            folder, raw, config, processing, checkpoint=checkpoint, dtype=dtype
        )
    tokenizer = load_tokenizer(
        folder, family=config.family, max_length=config.text_length
    )
    files = find_weights(folder, source=checkpoint)
    params = convert_tensors(
        read_weights(files),
        config,
        dtype=dtype,
        source=str(files[0]),
        has_text_head=not (raw.get("text_config") or {}).get("no_head", False),
    )

    def preprocess(image: Image.Image) -> np.ndarray:
        if config.family != "siglip2":
            return process_image(processing, image)
        return pack_patches(
            image,
            patch_size=config.patch_size,
            max_patches=processing.max_patches,
            resample=processing.resample,
        )

    return ClipCheckpoint(
        config=config,
        processing=processing,
        preprocess=preprocess,
        tokenizer=tokenizer,
        tables=[folder / name for name in _TOKENIZER_FILES],
        params=params,
        files=files,
        sees=(_VERSION, config, processing, dtype),
        reads=(),
        image_tower=ImageTower(config, jnp.dtype(dtype)),
        text_tower=TextTower(config, jnp.dtype(dtype)),
        sees_all=config.family != "clip",
    )


def _read_chinese(
    folder: Path,
    raw: Mapping[str, Any],
    config: ClipConfig,
    processing: ImageProcessing,
    *,
    checkpoint: str,
    dtype: str,
) -> ClipCheckpoint:
    """Read a Chinese-CLIP: CLIP's images, and BERT's texts, pooled at their begin."""
    words = parse_sentence_config(
        {**(raw.get("text_config") or {}), "model_type": "bert"},
        source=f"text_config of {folder / 'config.json'}",
        pooling="cls",
    )
    tokenizer = load_tokenizer(folder, family="bert", max_length=config.text_length)
    # Where a text ends, the tokenizer knows alone.
    config = config._replace(eos_id=tokenizer.suffix[0])
    files = find_weights(folder, source=checkpoint)
    tensors, text = {}, {}
    for name, tensor in read_weights(files).items():
        group = text if name.startswith("text_") else tensors
        group[name.removeprefix("text_model.")] = tensor
    source = str(files[0])
    projection = text.pop("text_projection.weight", None)
    wanted = config.embed_width, words.tower.width
    if projection is None or projection.shape != wanted:
        raise InputError(
            f"Expected text_projection.weight of shape {list(wanted)} in {source}; "
            "take a complete checkpoint whose config.json belongs to its weights"
        )
    params = convert_tensors(
        tensors, config, dtype=dtype, source=source, parts=("image",)
    )
    tower = convert_sentence_tensors(text, words, dtype=dtype, source=source)
    kernel = np.ascontiguousarray(np.asarray(projection, jnp.dtype(dtype)).T)
    params["text"] = {
        "params": {"tower": tower["params"], "projection": {"kernel": kernel}}
    }
    return ClipCheckpoint(
        config=config,
        processing=processing,
        preprocess=lambda image: process_image(processing, image),
        tokenizer=tokenizer,
        tables=[folder / name for name in (*_TOKENIZER_FILES, "vocab.txt")],
        params=params,
        files=files,
        sees=(_CHINESE_VERSION, config, processing, dtype),
        reads=(words,),
        image_tower=ImageTower(config, jnp.dtype(dtype)),
        text_tower=_BertTexts(words, config.embed_width, jnp.dtype(dtype)),
        sees_all=False,
    )


class _BertTexts(nn.Module):
    """Token ids to embeddings, not yet of unit norm, by a BERT and a last layer."""

    config: SentenceConfig
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, ids: Int[Array, "b t"]) -> Float[Array, "b d"]:
        x = SentenceTower(self.config, self.dtype, name="tower")(ids)
        return nn.Dense(
            self.width, use_bias=False, dtype=self.dtype, name="projection"
        )(x)


def _read_open_clip(
    folder: Path, path: Path, *, checkpoint: str, dtype: str
) -> ClipCheckpoint:
    """Read a checkpoint in the layout of open_clip."""
    files = find_weights(folder, source=checkpoint)
    tensors = read_weights(files)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    found = parse_open_clip_config(read_json(path), shapes, source=str(path))
    config, images = found.towers, found.images
    clean = get_cleaning(found.cleaning, str(path))
    words = find_tokenizer(folder, found.tokenizer or _OPENAI)
    tokenizer = load_tokenizer(
        words, family=config.family, max_length=config.text_length, clean=clean
    )
    # What makes pixels of the image is told by another structure here.
    processing = ImageProcessing(
        shortest_edge=None,
        size=images.size,
        resample=images.resample,
        crop=None,
        scale=1 / 255,
        mean=images.mean,
        std=images.std,
        max_patches=0,
    )
    if found.sees_all:
        # Rows of full length, filled up as in training: texts see the padding.
        tokenizer = tokenizer._replace(is_fixed=True, pad_id=0)
    parts = ("text",) if found.trunk else ("image", "text")
    own = {k: v for k, v in tensors.items() if not found.trunk or k[:7] != "visual."}
    params = convert_tensors(
        rename_tensors(own),
        config,
        dtype=dtype,
        source=str(files[0]),
        has_text_head=not _lacks_projection(path),
        parts=parts,
    )
    kind = jnp.dtype(dtype)
    image_tower, sees = ImageTower(config, kind), (config, images, dtype)
    if found.trunk is not None:
        image_tower = TimmTower(found.trunk, found.projection, kind)
        sees = (*sees, found.trunk, found.projection)
        params["image"] = convert_timm_tensors(
            rename_trunk(tensors),
            found.trunk,
            dtype=dtype,
            source=str(files[0]),
            projection=found.projection,
        )
    return ClipCheckpoint(
        config=config,
        processing=processing,
        preprocess=lambda image: prepare_image(images, image),
        tokenizer=tokenizer,
        tables=[words / name for name in _TOKENIZER_FILES],
        params=params,
        files=files,
        sees=(_OPEN_CLIP_VERSION, *sees),
        reads=(found.cleaning, "all") if found.sees_all else (found.cleaning,),
        image_tower=image_tower,
        text_tower=TextTower(config, kind, sees_all=found.sees_all),
        sees_all=found.sees_all or config.family != "clip",
    )


def _lacks_projection(path: Path) -> bool:
    """Whether texts pass no last layer."""
    return read_json(path)["model_cfg"]["text_cfg"].get("proj_type") == "none"
