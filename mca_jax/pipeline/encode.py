"""The stage that opens the encoder and places the nouns in its space."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.progress import Clock
from mca_jax.encoders import ENCODERS, Encoder, build_encoder
from mca_jax.encoders.embed_nouns import embed_nouns, noun_cache_dir
from mca_jax.encoders.prompts import parse_templates
from mca_jax.encoders.text_encoder import TextEncoder, with_text_encoder
from mca_jax.pipeline.config import EncoderConfig
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.text_map import apply_text_map, fit_text_map

__all__ = ["EmbeddedNouns", "open_encoders", "embed_vocabulary"]

# Nouns from which a map between two spaces of some hundred axes is fitted well.
_ENOUGH_NOUNS = 4096


class EmbeddedNouns(NamedTuple):
    """A vocabulary in the space of the images.

    Attributes:
      encoder: The encoder that gives these embeddings.
      embeddings: Unit vectors float32 ``[m, d]``.
      warnings: One line for each damaged file of the cache.
    """

    encoder: Encoder
    embeddings: np.ndarray
    warnings: tuple[str, ...]


def open_encoders(
    config: EncoderConfig, table: NounTable
) -> tuple[Encoder, TextEncoder | None]:
    """Load what the settings name, before anything is embedded.

    Args:
      config: Settings of the encoder.
      table: The vocabulary, whose glosses may go into prompts.

    Returns:
      The encoder, its weights on the host, and the sentence encoder that reads the
      nouns in its place, if one does.

    Raises:
      InputError: One can't be had, or a setting is not for it.
    """
    glosses = None
    if config.glosses:
        pairs = zip(table.synsets, table.glosses, strict=True)
        glosses = {synset: gloss for synset, gloss in pairs if synset and gloss}
    prompts = parse_templates(config.prompts)
    if not config.text:
        encoder = build_encoder(
            config.name, dtype=config.dtype, prompts=prompts, glosses=glosses
        )
        return encoder, None
    # Imported here: only such runs need it.
    from mca_jax.encoders.sentence.encoder import build_sentence_encoder

    reader = build_sentence_encoder(
        config.text, dtype=config.dtype, prompts=prompts, glosses=glosses
    )
    if config.name in ENCODERS:
        # Prompts are the reader's alone then.
        return build_encoder(config.name), reader
    encoder = build_encoder(
        config.name, dtype=config.dtype, prompts=prompts, glosses=glosses
    )
    return encoder, reader


def embed_vocabulary(
    encoder: Encoder,
    reader: TextEncoder | None,
    table: NounTable,
    config: EncoderConfig,
    clock: Clock,
    *,
    cache_dir: str | os.PathLike[str] | None,
) -> EmbeddedNouns:
    """Embed the vocabulary, or read what an earlier run has embedded.

    Args:
      encoder: The encoder.
      reader: A sentence encoder that reads the nouns in its place: a map that is
        fitted on what both embed brings them to the space of the images.
      table: The vocabulary.
      config: Settings of the encoder.
      clock: Told of the stage.
      cache_dir: None keeps nothing on disk; else the nouns are kept in the folder
        that ``config`` names, not in this one, for they are the same for all
        images.

    Returns:
      Embeddings in the order of the table.

    Raises:
      InputError: A noun can't be placed, or the cache can't be used.
    """
    folder = None
    if cache_dir is not None:
        folder = os.path.expanduser(config.noun_cache) or noun_cache_dir()

    def embed(encoder: Encoder | TextEncoder, stage: str, nouns: _Nouns) -> Any:
        clock.report_stage(stage, len(nouns.names))
        return embed_nouns(
            encoder,
            nouns.names,
            nouns.synsets,
            cache_dir=folder,
            progress=clock.callback.advance,
        )

    if reader is None:
        found = embed(encoder, "Embedding nouns", _Nouns(table.names, table.synsets))
        return EmbeddedNouns(encoder, found.embeddings, found.warnings)
    both = _with_anchors(table)
    target = embed(encoder, "Embedding nouns", both)
    source = embed(reader, "Encoding nouns", both)
    text_map = fit_text_map(
        source.embeddings, target.embeddings, method=config.text_map
    )
    joined = with_text_encoder(encoder, reader, text_map.matrix, text_map.offset)
    placed = apply_text_map(text_map, source.embeddings[: len(table.names)])
    return EmbeddedNouns(joined, np.asarray(placed), target.warnings + source.warnings)


class _Nouns(NamedTuple):
    """Nouns to embed.

    Attributes:
      names: With spaces.
      synsets: WordNet id of each, or empty.
    """

    names: tuple[str, ...]
    synsets: tuple[str, ...]


def _with_anchors(table: NounTable) -> _Nouns:
    """Add nouns of WordNet to a vocabulary that is too small to fit a map on."""
    if len(table.names) >= _ENOUGH_NOUNS:
        return _Nouns(table.names, table.synsets)
    wordnet = load_nouns()
    rows = range(0, len(wordnet.names), len(wordnet.names) // _ENOUGH_NOUNS)
    return _Nouns(
        table.names + tuple(wordnet.names[row] for row in rows),
        table.synsets + tuple(wordnet.synsets[row] for row in rows),
    )
