"""Embeds a whole set of images once, and remembers it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.parallel import exchange
from mca_jax.core.parallel.shares import fill_shares, num_hosts, pick_own
from mca_jax.core.text import printable
from mca_jax.data import Images, ImageSource, LoadedImage, load_batches, open_source
from mca_jax.data.files import SkippedImage, TooFewImagesError
from mca_jax.encoders.cache.embedding_cache import EmbeddingCache
from mca_jax.encoders.encoder import (
    Encoder,
    ImageEncoder,
    compile_encoder,
    encode_ahead,
)

__all__ = ["Embedded", "embed_images", "encode_rows", "even_shares"]

# Embeddings of a set beyond this are memory-mapped.
_IN_MEMORY_BYTES = 2**28
_BLOCK = 65536
_DIGEST_BYTES = 32
_NOT_FINITE = "the encoder gives no finite embedding"


class Embedded(NamedTuple):
    """Embeddings of the images that could be read.

    Attributes:
      embeddings: Unit vectors ``[n, d]``, float32 or float16 as kept; of a large
        set with a cache memory-mapped from a file that goes with the array.
      rows: Row of each image in the source, int64 ``[n]``, increasing.
      paths: Path of each image relative to the folder, as it was given in a list of
        paths, or ``"row-000012"``.
      root: Folder of the images, or empty.
      skipped: What could not be read, in the order of the source.
      num_computed: How many went through the encoder, on all hosts; the others
        came from the cache or repeat another image.
      warnings: What to know of the images, and a line for each damaged file of the
        cache.
      digests: SHA-256 of each image's content and of what it is read by, uint8
        ``[n, 32]``; None for given embeddings.
    """

    embeddings: np.ndarray
    rows: np.ndarray
    paths: tuple[str, ...]
    root: str
    skipped: tuple[SkippedImage, ...]
    num_computed: int
    warnings: tuple[str, ...]
    digests: np.ndarray | None = None


def encode_rows(
    encoder: Encoder | ImageEncoder,
    source: ImageSource,
    rows: Sequence[int],
    table: np.ndarray,
    *,
    first: int,
    batch_size: int,
    encode: Callable[[Any], jax.Array] | None = None,
    cache: EmbeddingCache | None = None,
    digests: np.ndarray | None = None,
    threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> tuple[dict[int, str], int]:
    """Decode and encode images: while one batch computes, the next is decoded.

    Images with equal content are encoded once, those in the cache not at all.

    Args:
      encoder: The encoder.
      source: Where the images come from.
      rows: Rows of the source.
      table: Filled in place with the embeddings, rounded to its type, ``[m, d]``.
      first: Row of the source that ``table[0]`` is for.
      batch_size: Images of a batch; all batches have one shape.
      encode: What :func:`compile_encoder` made of ``encoder.encode_images``; None
        compiles it.
      cache: Keeps the embeddings, and which content each file had.
      digests: Filled in place like ``table``, uint8 ``[m, 32]``; None keeps none.
      threads: Threads that decode; None takes one a core.
      progress: Called with the number of images that are done since the last call.

    Returns:
      By row the reason why there is no embedding, and how many images went through
      the encoder.

    Raises:
      InputError: The cache can't be written.
      ValueError: The encoder returns another shape than it says.
    """
    if encode is None:
        encode = compile_encoder(encoder.encode_images, encoder.params, batch_size)
    known = frozenset() if cache is None else cache.digests
    batches = _encode_batches(encoder, source, rows, encode, batch_size, known, threads)
    file_of = _file_of(source)
    reasons: dict[int, str] = {}
    repeated: list[LoadedImage] = []
    encoded: dict[bytes, int] = {}
    # Closing this iterator stops the threads that decode.
    with closing(batches):
        for images, embeddings in batches:
            if embeddings is None:
                reasons |= {image.row: image.reason for image in images if image.reason}
                repeated += [image for image in images if not image.reason]
            else:
                vectors = embeddings.astype(table.dtype)
                finite = np.asarray(np.isfinite(vectors).all(axis=1))
                table[[image.row - first for image in images]] = vectors
                encoded |= {image.digest: image.row for image in images}
                for index in np.flatnonzero(~finite).tolist():
                    reasons[images[index].row] = _NOT_FINITE
                if cache is not None:
                    good = np.flatnonzero(finite).tolist()
                    cache.add([images[i].digest for i in good], vectors[finite])
            for image in images:
                if cache is not None:
                    identity = None if image.row in reasons else image.identity
                    cache.files.record(file_of(image.row), identity, image.digest)
            _keep_digests(images, digests, first)
            if progress is not None:
                progress(len(images))
    for image in repeated:
        row = encoded.get(image.digest)
        if row is not None:
            table[image.row - first] = table[row - first]
            if row in reasons:
                reasons[image.row] = reasons[row]
        elif cache is not None:
            table[image.row - first] = cache.get(image.digest)
    return reasons, len(encoded)


def _keep_digests(
    images: Sequence[LoadedImage], digests: np.ndarray | None, first: int
) -> None:
    """Note the digests of all images that could be read, if anybody wants them."""
    if digests is None:
        return
    for image in images:
        if image.digest:
            digests[image.row - first] = np.frombuffer(image.digest, np.uint8)


def _encode_batches(
    encoder: Encoder | ImageEncoder,
    source: ImageSource,
    rows: Sequence[int],
    encode: Callable[[Any], jax.Array],
    batch_size: int,
    known: Set[bytes],
    threads: int | None,
) -> Generator[tuple[tuple[LoadedImage, ...], np.ndarray | None], None, None]:
    """Decode and encode; yield images and their embeddings, None for those without."""
    shape = (batch_size, encoder.width)
    loaded = load_batches(
        source,
        encoder.preprocess,
        image_size=encoder.image_size,
        batch_size=batch_size,
        rows=rows,
        # Twice what the encoder sees: below that, averaging blocks of pixels
        # would begin to show in the embedding.
        min_side=2 * max(encoder.image_size),
        known=known,
        threads=threads,
    )

    def batches() -> Iterator[tuple[tuple[LoadedImage, ...], np.ndarray | None]]:
        for batch in loaded:
            if batch.others:
                yield batch.others, None
            if batch.images:
                yield batch.images, batch.pixels

    with closing(loaded):
        for images, embeddings in encode_ahead(encode, batches()):
            if embeddings is not None and embeddings.shape != shape:
                raise ValueError(
                    f"Expected embeddings {shape} of {encoder.name}, found "
                    f"{embeddings.shape}"
                )
            yield images, None if embeddings is None else embeddings[: len(images)]


def _file_of(source: ImageSource) -> Callable[[int], str]:
    """Return the function from a row to the absolute path of its file."""
    folder = os.path.abspath(source.root)
    return lambda row: os.path.join(folder, source.names[row])


def _fill_unchanged(
    source: ImageSource,
    rows: range,
    table: np.ndarray,
    digests: np.ndarray,
    cache: EmbeddingCache | None,
) -> list[int]:
    """Fill rows of files that are as they were; return the others."""
    if cache is None:
        return list(rows)
    rest = []
    file_of = _file_of(source)
    for index, row in enumerate(rows):
        identity = source.identify(row)
        digest = None
        if identity is not None:
            digest = cache.files.lookup(file_of(row), identity)
        cached = None if digest is None else cache.get(digest)
        if digest is None or cached is None:
            rest.append(row)
        else:
            table[index] = cached
            digests[index] = np.frombuffer(digest, np.uint8)
    return rest


def even_shares(count: int, hosts: int) -> list[range]:
    """Cut rows into consecutive shares, one a host, that differ by one at most."""
    return [
        range(count * host // hosts, count * (host + 1) // hosts)
        for host in range(hosts)
    ]


def _gather_reasons(
    reasons: dict[int, str], num_computed: int
) -> tuple[dict[int, str], int]:
    """Put together what the hosts could not read, and count; all have to call it."""
    content = np.frombuffer(json.dumps(list(reasons.items())).encode(), np.uint8)
    counts = exchange(np.array([len(content), num_computed]))
    padded = np.zeros(counts[:, 0].max(), np.uint8)
    padded[: len(content)] = content
    found: dict[int, str] = {}
    for text, (size, _) in zip(exchange(padded), counts, strict=True):
        found |= dict(json.loads(text[:size].tobytes()))
    return found, int(counts[:, 1].sum())


def _allocate(
    shape: tuple[int, int], dtype: Any, cache: EmbeddingCache | None
) -> np.ndarray:
    """Make room for embeddings; for those of a large set on the disk of the cache."""
    size = np.prod(shape) * np.dtype(dtype).itemsize
    if cache is None or size <= _IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    return cache.allocate(*shape)


def _close_gaps(table: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Move some rows to the front; in place, for the set may exceed memory."""
    if len(good) < len(table):
        for start in range(0, len(good), _BLOCK):
            block = good[start : start + _BLOCK]
            table[start : start + len(block)] = table[block]
    return table[: len(good)]


def _join_hosts(
    own: np.ndarray,
    rows: np.ndarray,
    hosts: Sequence[range],
    cache: EmbeddingCache | None,
) -> np.ndarray:
    """Put the readable rows of all hosts together."""
    if len(hosts) == 1:
        return own
    # A host's readable rows are in one piece, behind those of the hosts before.
    ends = np.searchsorted(rows, [share.stop for share in hosts]).tolist()
    shares = list(map(range, [0, *ends[:-1]], ends))
    mine = pick_own(shares)
    shape = (len(rows), own.shape[1])
    large = np.prod(shape) * own.itemsize > _IN_MEMORY_BYTES
    if large and cache is not None:
        shared = cache.share(own, mine.start, len(rows))
        if shared is not None:
            return shared
    table = _allocate(shape, own.dtype, cache)
    table[mine.start : mine.stop] = own
    fill_shares(table, shares)
    return table


def embed_images(
    encoder: Encoder | ImageEncoder,
    source: Images,
    *,
    batch_size: int = 32,
    cache_dir: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Embedded:
    """Embed images.

    Files are read once, decoded in threads while the encoder computes, and
    embedded in batches of one shape, so that the encoder compiles once. Images
    with equal content are embedded once. What can't be read is skipped and
    listed.

    A batch is split over as many of the local devices as divide it. Of several
    hosts (``jax.distributed``) each embeds an even share of the images. All get all
    embeddings: a large set in one file beside the cache that all of them map, if they
    share the cache's folder.

    With a cache, an image is known by the SHA-256 of its file, whatever its path,
    and by the encoder's fingerprint of images. Files whose size, times and inode are
    as before aren't even read. Embeddings are written some 512 at a time, also when
    the run is interrupted, and come back bit for bit. When *some* images are cached,
    the others may meet in other batches than without a cache; they are equal bit for
    bit too if the encoder computes a row regardless of its index in the batch. A run
    that was killed resumes with the same batches.

    Args:
      encoder: The encoder.
      source: A folder, a list of paths or of PIL images, or an array of pixels; see
        ``open_source``.
      batch_size: Images of a batch, at least 1.
      cache_dir: Folder for embeddings of every encoder; None keeps nothing. Several
        hosts may share it.
      dtype: ``"float32"`` or ``"float16"``, of what is kept and returned; the
        latter has 11 bits, half the size and a cache of its own.
      threads: Threads that decode; None takes one a core.
      progress: Called with the number of images that are done since the last
        call.

    Raises:
      InputError: No image can be read, the cache can't be used or written (what
        was done so far is kept), or an argument is out of range. Ctrl-C and
        other exceptions pass with a note that says what is kept.
    """
    check_in_range("batch_size", batch_size, low=1)
    check_one_of("dtype", dtype, ("float16", "float32"))
    images = open_source(source)
    names = images.names
    hosts = even_shares(len(names), num_hosts())
    own = pick_own(hosts)
    cache = None
    if cache_dir is not None:
        key = encoder.image_fingerprint or encoder.fingerprint
        part = jax.process_index() if len(hosts) > 1 else None
        cache = EmbeddingCache(cache_dir, encoder.name, key, dtype=dtype, part=part)
    # Only the own rows: those of other hosts come in the end.
    table = _allocate((len(own), encoder.width), dtype, cache)
    digests = np.zeros((len(names), _DIGEST_BYTES), np.uint8)
    own_digests = digests[own.start : own.stop]
    reasons: dict[int, str] = {}
    num_computed = 0
    try:
        rest = _fill_unchanged(images, own, table, own_digests, cache)
        if progress is not None:
            progress(len(own) - len(rest))
        if rest:
            reasons, num_computed = encode_rows(
                encoder,
                images,
                rest,
                table,
                first=own.start,
                batch_size=batch_size,
                cache=cache,
                digests=own_digests,
                threads=threads,
                progress=progress,
            )
        if cache is not None:
            cache.flush()
    except InputError:
        raise
    except BaseException as error:
        if cache is not None:
            cache.keep_partial(error)
        raise
    good = np.asarray([row - own.start for row in own if row not in reasons], np.int64)
    if len(hosts) > 1:
        reasons, num_computed = _gather_reasons(reasons, num_computed)
        fill_shares(digests, hosts)
    rows = np.asarray([r for r in range(len(names)) if r not in reasons], np.int64)
    unreadable = [SkippedImage(names[row], reasons[row]) for row in sorted(reasons)]
    if not rows.size:
        where = f" in {printable(images.root)}" if images.root else ""
        raise TooFewImagesError(
            f"No readable image{where} among {len(names)}; the first, "
            f"{printable(unreadable[0].path)}: {unreadable[0].reason}",
            images.skipped + tuple(unreadable),
        )
    return Embedded(
        embeddings=_join_hosts(_close_gaps(table, good), rows, hosts, cache),
        rows=rows,
        paths=tuple(names[row] for row in rows),
        root=images.root,
        skipped=images.skipped + tuple(unreadable),
        num_computed=num_computed,
        warnings=images.notes + (() if cache is None else tuple(cache.warnings)),
        digests=digests[rows],
    )
