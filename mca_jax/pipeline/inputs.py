"""What a run reads: images as embeddings, and nouns in the same space."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.arrays import as_numbers, check_lengths
from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import row_blocks
from mca_jax.core.parallel import exchange, host_share, pick_rows
from mca_jax.core.progress import Clock
from mca_jax.data import Images, ImageSource, open_source
from mca_jax.encoders import ENCODERS, Encoder, build_encoder
from mca_jax.encoders.device import choose_batch_size, choose_dtype
from mca_jax.encoders.embed_images import Embedded, embed_images
from mca_jax.encoders.embed_nouns import embed_nouns, noun_cache_dir
from mca_jax.encoders.embed_views import embed_views
from mca_jax.encoders.encoder import TextEncoder, with_text_encoder
from mca_jax.encoders.prompts import parse_templates
from mca_jax.pipeline.config import Config, EncoderConfig
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.text_map import apply_text_map, fit_text_map
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

__all__ = [
    "EmbeddedVocabulary",
    "Inputs",
    "Nouns",
    "check_embeddings",
    "check_nouns",
    "embed_source",
    "embed_vocabulary",
    "open_encoders",
    "open_inputs",
]

# Nouns from which a map between two spaces of some hundred axes is fitted well.
_ENOUGH_NOUNS = 4096


class Nouns(NamedTuple):
    """Nouns as vectors: the whole vocabulary at first, then what is kept of it.

    Attributes:
      table: The vocabulary, which stays whole: names may be concepts above.
      embeddings: Unit vectors, one a noun.
      rows: Row of each noun in the table.
    """

    table: NounTable
    embeddings: Float[Any, "m d"]
    rows: Int[np.ndarray, " m"]

    def keep(self, rows: Int[np.ndarray, " r"]) -> Nouns:
        """Keep some of the nouns."""
        kept = pick_rows(self.embeddings, rows)
        return self._replace(embeddings=kept, rows=self.rows[rows])


class Inputs(NamedTuple):
    """What a caller gave, checked and opened.

    Attributes:
      images: Images to embed, or their embeddings.
      table: The vocabulary.
      noun_embeddings: Of the vocabulary; None where the encoder has to make them.
      encoder: None for given embeddings.
      text_encoder: A sentence encoder that embeds the nouns in the encoder's place.
      views: Embeddings of views that come with embeddings of the images.
    """

    images: ImageSource | Embedded
    table: NounTable
    noun_embeddings: Float[Any, "m d"] | None = None
    encoder: Encoder | None = None
    text_encoder: TextEncoder | None = None
    views: Float[np.ndarray, "s v d"] | None = None


def open_inputs(
    images: Images | None,
    image_embeddings: Any,
    nouns: Sequence[str] | NounTable | None,
    noun_embeddings: Any,
    config: Config,
    *,
    view_embeddings: Any = None,
) -> Inputs:
    """Check the arguments of ``cluster`` before any of them costs time.

    Raises:
      InputError: They don't fit each other, there is no image, or an encoder or a
        vocabulary can't be had.
    """
    if (images is None) == (image_embeddings is None):
        found = "neither" if images is None else "both"
        raise InputError(f"Expected images or image_embeddings, found {found}")
    if images is None:
        embedded = check_embeddings(image_embeddings)
        width = embedded.embeddings.shape[1]
        named = check_nouns(nouns, noun_embeddings, width)
        return Inputs(embedded, *named, views=check_views(view_embeddings, width))
    if view_embeddings is not None:
        raise InputError(
            "view_embeddings go with image_embeddings; of images the views are made"
        )
    table = load_nouns(config.semantics.vocabulary)
    encoder, text_encoder = open_encoders(config.encoder, table)
    source = open_source(
        images,
        max_pixels=round(config.data.max_megapixels * 10**6),
        partial_jpegs=config.data.partial_jpegs,
    )
    return Inputs(source, table, encoder=encoder, text_encoder=text_encoder)


def check_embeddings(image_embeddings: Any) -> Embedded:
    """Take embeddings of images; of several hosts each reads its share of the rows.

    Args:
      image_embeddings: Numbers ``[n, d]``, also memory-mapped; what is neither float32
        nor float16 is copied.

    Returns:
      The embeddings, with the numbers of the rows as paths.

    Raises:
      InputError: They are no table, or not finite.
    """
    array = as_numbers("image_embeddings", image_embeddings)
    if array.ndim != 2 or not array.size:
        raise InputError(
            f"Expected image_embeddings of shape [n, d], found {list(array.shape)}"
        )
    _check_rows("image_embeddings", array)
    paths = tuple(f"row-{row:06d}" for row in range(len(array)))
    return Embedded(array, np.arange(len(array)), paths, "", (), 0, ())


def check_views(view_embeddings: Any, width: int) -> Float[np.ndarray, "s v d"] | None:
    """Take embeddings of views, as wide as those of the images.

    Raises:
      InputError: They have another shape, or a value that is no number.
    """
    if view_embeddings is None:
        return None
    views = np.asarray(as_numbers("view_embeddings", view_embeddings), np.float32)
    if views.ndim != 3 or views.shape[1] < 2 or views.shape[2] != width:
        raise InputError(
            "Expected view_embeddings of shape [images, views, width] with at least 2 "
            f"views of each image and width {width}, found {list(views.shape)}"
        )
    if not np.isfinite(views).all():
        raise InputError("Expected finite view_embeddings, found NaN or infinity")
    return views


def _check_rows(name: str, array: np.ndarray) -> None:
    """Check that all rows are finite and have a direction, each host its own.

    Raises:
      InputError: One isn't or has none; on all hosts.
    """
    own = host_share(len(array))
    part = array[own.start : own.stop]
    problem = None
    for rows in row_blocks(part):
        try:
            if not np.isfinite(part[rows]).all():
                raise InputError(f"Expected finite {name}, found NaN or infinity")
            check_lengths(name, part[rows], own.start + rows.start)
        except InputError as error:
            problem = error
            break
    if exchange(np.array([problem is not None])).any():
        raise problem or InputError(f"Another host refuses its rows of {name}")


def check_nouns(
    nouns: Sequence[str] | NounTable | None, noun_embeddings: Any, width: int
) -> tuple[NounTable, Float[Any, "m d"]]:
    """Take nouns with their embeddings, as wide as those of the images.

    Raises:
      InputError: One is missing, or they don't fit each other or the images.
    """
    if noun_embeddings is None or nouns is None:
        raise InputError("Expected noun_embeddings and nouns beside image_embeddings")
    table = nouns if isinstance(nouns, NounTable) else _parse_nouns(nouns)
    texts = np.asarray(as_numbers("noun_embeddings", noun_embeddings), np.float32)
    expected = [len(table.names), width]
    if list(texts.shape) != expected:
        raise InputError(
            f"Expected noun_embeddings of shape {expected}, found {list(texts.shape)}"
        )
    if not np.isfinite(texts).all():
        raise InputError("Expected finite noun_embeddings, found NaN or infinity")
    check_lengths("noun_embeddings", texts)
    return table, jnp.asarray(texts)


def _parse_nouns(nouns: Sequence[str]) -> NounTable:
    """Make a vocabulary of a list of names.

    Raises:
      InputError: It is no list of names, or one is no name.
    """
    if isinstance(nouns, str | bytes) or not isinstance(nouns, Iterable):
        raise InputError(f"Expected nouns as a list of names, found {nouns!r} alone")
    names = list(nouns)
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(
                f"Expected nouns as a list of names, found {name!r} in row {row}"
            )
        if not name.strip() or set(name) & set(",\n\r"):
            raise InputError(
                f"Expected nouns of one line without commas, found {name!r} in row "
                f"{row}"
            )
    table = parse_vocabulary("\n".join(names), "nouns")
    if len(table.names) != len(names):
        raise InputError(
            f"Expected nouns without repeats, found {len(names)} entries for "
            f"{len(table.names)} nouns"
        )
    return table


class EmbeddedVocabulary(NamedTuple):
    """A vocabulary in the space of the images.

    Attributes:
      nouns: All its nouns.
      encoder: The encoder that gives these embeddings; None for given ones.
      warnings: One line for each damaged file of the cache.
    """

    nouns: Nouns
    encoder: Encoder | None
    warnings: tuple[str, ...]


def open_encoders(
    config: EncoderConfig, table: NounTable
) -> tuple[Encoder, TextEncoder | None]:
    """Load what the settings name, before anything is embedded.

    Args:
      config: Settings of the encoder.
      table: The vocabulary, whose glosses may go into prompts.

    Returns:
      The encoder, its weights on the host, and the sentence encoder that embeds the
      nouns in its place, if one does.

    Raises:
      InputError: One can't be had, or a setting is not for it.
    """
    glosses = None
    if config.glosses:
        pairs = zip(table.synsets, table.glosses, strict=True)
        glosses = {synset: gloss for synset, gloss in pairs if synset and gloss}
    texts: dict[str, Any] = {
        "dtype": choose_dtype(config.dtype, config.name, config.image),
        "prompts": parse_templates(config.prompts),
        "glosses": glosses,
    }
    own: dict[str, Any] = {
        "revision": config.revision or None,
        "image": config.image,
    }
    if not config.text:
        if config.text_prompts:
            raise InputError(
                "Expected no encoder.text_prompts without encoder.text, whose prompts "
                "they are; encoder.prompts is for the encoder's own texts"
            )
        return build_encoder(config.name, **own, **texts), None
    # Imported here: only such runs need it.
    from mca_jax.encoders.sentence.encoder import build_sentence_encoder

    read = texts
    if config.text_prompts:
        prompts = parse_templates(config.text_prompts, setting="encoder.text_prompts")
        read = texts | {"prompts": prompts, "with_stored_prompt": False}
    text_encoder = build_sentence_encoder(config.text, **read)
    # An embedded encoder takes no prompts: they are the text encoder's alone then.
    own |= {} if config.name in ENCODERS else texts
    return build_encoder(config.name, **own), text_encoder


def embed_source(
    inputs: Inputs,
    config: EncoderConfig,
    clock: Clock,
    *,
    cache_dir: str | os.PathLike[str] | None,
) -> Embedded:
    """Embed the images, unless their embeddings were given or are in the cache."""
    source, encoder = inputs.images, inputs.encoder
    if isinstance(source, Embedded):
        return source
    assert encoder is not None
    clock.report_stage("Embedding", len(source.names))
    return embed_images(
        encoder,
        source,
        batch_size=choose_batch_size(config.batch_size),
        cache_dir=cache_dir,
        dtype=config.store_dtype,
        threads=config.threads or None,
        progress=clock.callback.advance,
    )


def embed_view_sample(
    inputs: Inputs,
    embedded: Embedded,
    config: EncoderConfig,
    clock: Clock,
    *,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[Embedded, Float[np.ndarray, "s v d"] | None]:
    """Embed views of some images; views that were given are taken as they are.

    Returns:
      The images, with what there is to warn of, and the views; without pixels those
      that came with the images, if any did.
    """
    views, warnings = embed_source_views(
        *(inputs.images, inputs.encoder, embedded, config, clock),
        cache_dir=cache_dir,
    )
    embedded = embedded._replace(warnings=(*embedded.warnings, *warnings))
    return embedded, inputs.views if views is None else views


def embed_source_views(
    source: ImageSource | Embedded,
    encoder: Encoder | None,
    embedded: Embedded,
    config: EncoderConfig,
    clock: Clock,
    *,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[Float[np.ndarray, "s v d"] | None, tuple[str, ...]]:
    """Embed views of some images, unless only embeddings were given.

    Returns:
      As ``embed_views``; None where there are no pixels or the settings want none.
    """
    if isinstance(source, Embedded) or encoder is None or not config.views:
        return None, ()
    num_images = min(config.view_images, len(embedded.rows))
    clock.report_stage("Embedding views", num_images * config.views)
    return embed_views(
        encoder,
        source,
        embedded.rows.tolist(),
        num_images=num_images,
        num_views=config.views,
        seed=config.view_seed,
        batch_size=choose_batch_size(config.batch_size),
        cache_dir=cache_dir,
        dtype=config.store_dtype,
        threads=config.threads or None,
        progress=clock.callback.advance,
    )


def embed_vocabulary(
    inputs: Inputs,
    config: EncoderConfig,
    clock: Clock,
    *,
    cache_dir: str | os.PathLike[str] | None,
) -> EmbeddedVocabulary:
    """Embed the vocabulary, unless its embeddings were given or are in the cache.

    Where a sentence encoder reads the nouns, a map that is fitted on what both
    encoders embed brings them to the space of the images.

    Args:
      inputs: What was given.
      config: Settings of the encoder.
      clock: Times the stages.
      cache_dir: None keeps nothing on disk; else the nouns are kept in the folder
        that ``config`` names, not in this one, for they are the same for all
        images.

    Raises:
      InputError: A noun can't be embedded, or the cache can't be used.
    """
    table, encoder, text_encoder = inputs.table, inputs.encoder, inputs.text_encoder
    if encoder is None:
        return EmbeddedVocabulary(_whole(table, inputs.noun_embeddings), None, ())
    folder = None
    if cache_dir is not None:
        folder = os.path.expanduser(config.noun_cache) or noun_cache_dir()

    def embed(
        encoder: Encoder | TextEncoder, stage: str, names: Any, synsets: Any
    ) -> tuple[Any, tuple[str, ...]]:
        clock.report_stage(stage, len(names))
        progress = clock.callback.advance
        found = embed_nouns(
            encoder, names, synsets, cache_dir=folder, progress=progress
        )
        return found.embeddings, found.warnings

    names, synsets = table.names, table.synsets
    if text_encoder is None:
        embeddings, warnings = embed(encoder, "Embedding nouns", names, synsets)
        return EmbeddedVocabulary(_whole(table, embeddings), encoder, warnings)
    if len(names) < _ENOUGH_NOUNS:
        # Too few to fit a map on: nouns of WordNet join them.
        wordnet = load_nouns()
        rows = range(0, len(wordnet.names), len(wordnet.names) // _ENOUGH_NOUNS)
        names += tuple(wordnet.names[row] for row in rows)
        synsets += tuple(wordnet.synsets[row] for row in rows)
    target, warnings = embed(encoder, "Embedding nouns", names, synsets)
    source, more = embed(text_encoder, "Encoding nouns", names, synsets)
    text_map = fit_text_map(source, target, method=config.text_map)
    mapped = apply_text_map(text_map, source[: len(table.names)])
    return EmbeddedVocabulary(
        _whole(table, mapped),
        with_text_encoder(encoder, text_encoder, text_map.matrix, text_map.offset),
        warnings + more,
    )


def _whole(table: NounTable, embeddings: Any) -> Nouns:
    return Nouns(table, jnp.asarray(embeddings), np.arange(len(table.names)))
