"""Embeds a vocabulary once for each encoder, and remembers it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.encoders.cache.embedding_cache import EmbeddingCache
from mca_jax.encoders.encoder import (
    Encoder,
    TextEncoder,
    compile_encoder,
    encode_ahead,
)

__all__ = ["EmbeddedNouns", "cut_length", "embed_nouns", "noun_cache_dir"]

# Lengths that text towers are compiled for, beside the longest row's: most prompts of
# WordNet's nouns take 8 to 16 tokens, the longest some forty.
_LENGTHS = (8, 10, 12, 14, 16, 24, 48)
_ENVIRONMENT = "MCA_JAX_CACHE"


class EmbeddedNouns(NamedTuple):
    """Embeddings of a vocabulary.

    Attributes:
      embeddings: Unit vectors ``[m, d]``, float32; rounded to float16 if that is
        what is kept.
      num_computed: How many went through the encoder; the others came from the
        cache.
      warnings: One line for each damaged file of the cache.
    """

    embeddings: np.ndarray
    num_computed: int
    warnings: tuple[str, ...]


def noun_cache_dir() -> str:
    """The user's folder for embeddings of nouns, which all runs share.

    That is ``$MCA_JAX_CACHE`` if it is set, else ``mca_jax`` in ``$XDG_CACHE_HOME``
    or ``~/.cache``.
    """
    chosen = os.environ.get(_ENVIRONMENT)
    if chosen:
        return chosen
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(caches, "mca_jax")


def cut_length(needed: int, longest: int) -> int:
    """The smallest of a few lengths, for which text towers are compiled, that will do.

    That is, for texts of ``needed`` tokens in rows of ``longest``.
    """
    return next((each for each in _LENGTHS if needed <= each < longest), longest)


def _group_rows(
    counts: np.ndarray, longest: int, batch_size: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Group rows by the length that they run at.

    Rows that fill no batch of their length join those of the next: for a short
    vocabulary compiling takes longer than computing.

    Yields:
      Rows, shortest first, and their length.
    """
    lengths = np.array([cut_length(int(count), longest) for count in counts])
    order = np.lexsort((np.arange(len(counts)), counts))
    start = 0
    for length in np.unique(lengths):
        stop = int(np.sum(lengths <= length))
        if stop == len(counts) or stop - start >= batch_size:
            yield order[start:stop], int(length)
            start = stop


def _digest(name: str, synset_id: str) -> bytes:
    """Key of a noun in the cache; what is said of it belongs to the encoder's key."""
    return hashlib.sha256(f"{name}\0{synset_id}".encode()).digest()


def _batches(
    encoder: Encoder | TextEncoder, tokens: Any, count: int, batch_size: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Cut tokens into batches of one number of rows and a few lengths.

    Yields:
      Indices of the rows of a batch, and its tokens, padded by its last row.
    """
    groups: Iterator[tuple[np.ndarray, int]]
    if encoder.count_tokens is None:
        groups = iter([(np.arange(count), 0)])
    else:
        counts = encoder.count_tokens(tokens)
        groups = _group_rows(counts, tokens.shape[-1], batch_size)
    for rows, length in groups:
        for start in range(0, len(rows), batch_size):
            indices = rows[start : start + batch_size]
            full = np.pad(indices, (0, batch_size - len(indices)), mode="edge")
            batch = jax.tree.map(lambda leaf, full=full: leaf[full], tokens)
            yield indices, batch[..., :length] if length else batch


def _encode_missing(
    encoder: Encoder | TextEncoder,
    names: Sequence[str],
    synset_ids: Sequence[str],
    missing: Sequence[int],
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encode the nouns that are not cached.

    Yields:
      Rows, and their embeddings.
    """
    tokens = encoder.tokenize(
        [names[row] for row in missing], [synset_ids[row] for row in missing]
    )
    # A short vocabulary needs no full batch; eights keep shapes from varying.
    batch_size = min(batch_size, -(-len(missing) // 8) * 8)
    encode = compile_encoder(encoder.encode_texts, encoder.params, batch_size)
    batches = _batches(encoder, tokens, len(missing), batch_size)
    rows = np.asarray(missing)
    for indices, embeddings in encode_ahead(encode, batches):
        if embeddings is not None:
            yield rows[indices], embeddings[: len(indices)]


def _fill_cached(
    table: np.ndarray, digests: Sequence[bytes], cache: EmbeddingCache
) -> list[int]:
    """Fill rows of nouns in the cache; return the others."""
    missing = []
    for row, digest in enumerate(digests):
        cached = cache.get(digest)
        if cached is None:
            missing.append(row)
        else:
            table[row] = cached
    return missing


def embed_nouns(
    encoder: Encoder | TextEncoder,
    names: Sequence[str],
    synset_ids: Sequence[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    batch_size: int = 256,
    progress: Callable[[int], Any] | None = None,
) -> EmbeddedNouns:
    """Embed a vocabulary, in batches sorted by length.

    With a cache every noun is embedded once for an encoder with its prompts: what
    is kept, verified when read, serves all later runs and other vocabularies, and
    a run that is interrupted resumes where it was.

    Args:
      encoder: The encoder; one of texts alone will do.
      names: Nouns with spaces, ``m`` of them.
      synset_ids: WordNet id of each, or an empty text.
      cache_dir: Folder for embeddings of every encoder; None keeps nothing, and
        neither do encoders without ``keep_texts``.
      dtype: ``"float32"`` or ``"float16"``, of what is kept.
      batch_size: Nouns of a batch, at least 1.
      progress: Called with the number of nouns that are done since the last call.

    Raises:
      InputError: The encoder doesn't know a noun or gives no finite embedding of
        it, the cache can't be used or written (what was done so far is kept), or
        an argument is out of range. Ctrl-C and other exceptions pass with a note
        that says what is kept.
    """
    check_in_range("batch_size", batch_size, low=1)
    check_one_of("dtype", dtype, ("float16", "float32"))
    advance = progress or (lambda count: None)
    cache = None
    if cache_dir is not None and encoder.keep_texts:
        key = f"nouns {encoder.fingerprint}"
        cache = EmbeddingCache(cache_dir, f"{encoder.name} nouns", key, dtype=dtype)
    digests = [
        _digest(name, synset_id)
        for name, synset_id in zip(names, synset_ids, strict=True)
    ]
    table = np.zeros((len(names), encoder.width), np.float32)
    missing = list(range(len(names)))
    if cache is not None:
        missing = _fill_cached(table, digests, cache)
    advance(len(names) - len(missing))

    def take(rows: np.ndarray, embeddings: np.ndarray) -> None:
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            name = names[int(rows[~finite][0])]
            if cache is not None:
                cache.flush()
            raise InputError(f"{encoder.name} gives no finite embedding of {name!r}")
        kept = embeddings.astype(dtype)
        table[rows] = kept
        if cache is not None:
            cache.add([digests[row] for row in rows], kept)
        advance(len(rows))

    try:
        if missing:
            for rows, embeddings in _encode_missing(
                encoder, names, synset_ids, missing, batch_size
            ):
                take(rows, embeddings)
        if cache is not None:
            cache.flush()
    except InputError:
        raise
    except BaseException as error:
        if cache is not None:
            cache.keep_partial(error)
        raise
    warnings = () if cache is None else tuple(cache.warnings)
    return EmbeddedNouns(table, len(missing), warnings)
