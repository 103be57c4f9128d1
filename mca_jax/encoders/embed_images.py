"""Embeds a whole set of images once, and remembers it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.parallel.shares import fill_shares, num_hosts, pick_own
from mca_jax.core.text import printable
from mca_jax.data import (
    Batch,
    ImageFolder,
    ImageSource,
    LoadedImage,
    load_batches,
    open_source,
)
from mca_jax.data.files import SkippedImage
from mca_jax.encoders.cache.embedding_cache import EmbeddingCache
from mca_jax.encoders.encoder import Encoder
from mca_jax.encoders.rows import compile_rows, gather_reasons, own_rows

__all__ = ["Embedded", "embed_images"]

# Embeddings of a set beyond this are memory-mapped.
_IN_MEMORY_BYTES = 2**28
_BLOCK = 65536


class Embedded(NamedTuple):
    """Embeddings of the images that could be read.

    Attributes:
      embeddings: Unit vectors ``[n, d]``, float32 or float16 as kept; of a large
        set with a cache memory-mapped from a file that goes with the array.
      rows: Row of each image in the source, int64 ``[n]``, increasing.
      paths: Path of each image relative to the folder, or ``"row-000012"``.
      root: Folder of the images, or empty for arrays.
      skipped: What could not be read, in the order of the source.
      num_computed: How many went through the encoder, on all hosts; the others
        came from the cache or repeat another image.
      warnings: One line for each damaged file of the cache.
    """

    embeddings: np.ndarray
    rows: np.ndarray
    paths: tuple[str, ...]
    root: str
    skipped: tuple[SkippedImage, ...]
    num_computed: int
    warnings: tuple[str, ...]


def _allocate(
    shape: tuple[int, int], dtype: Any, cache: EmbeddingCache | None
) -> np.ndarray:
    """Make room for embeddings; for those of a large set on the disk of the cache."""
    size = np.prod(shape) * np.dtype(dtype).itemsize
    if cache is None or size <= _IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    return cache.allocate(*shape)


class _Collector:
    """Gathers embeddings by row while they come in."""

    def __init__(
        self,
        source: ImageSource,
        width: int,
        cache: EmbeddingCache | None,
        *,
        dtype: str,
        own: range,
    ) -> None:
        # Only the own rows: those of other hosts come in the end, see ``gather``.
        self._table = _allocate((len(own), width), dtype, cache)
        self.reasons: dict[int, str] = {}
        self.num_computed = 0
        self._source = source
        self._folder = os.path.abspath(source.root) if source.root else ""
        self._cache = cache
        self._own = own
        self._first_rows: dict[bytes, int] = {}
        self._repeated: list[LoadedImage] = []

    def fill_unchanged(self) -> list[int]:
        """Fill rows of files that are as they were; return the others."""
        if self._cache is None:
            return list(self._own)
        rest = []
        for row in self._own:
            identity = self._source.identify(row)
            digest = self._cache.files.lookup(self._path(row), identity)
            cached = None if digest is None else self._cache.get(digest)
            if cached is None:
                rest.append(row)
            else:
                self._table[row - self._own.start] = cached
        return rest

    def _path(self, row: int) -> str:
        """Absolute path of a row's file."""
        return os.path.join(self._folder, self._source.names[row])

    def _remember_file(self, image: LoadedImage) -> None:
        """Note what is in a file, or that nobody knows."""
        if self._cache is None or not self._folder:
            return
        path = self._path(image.row)
        if image.identity is None or image.reason:
            self._cache.files.forget(path)
        else:
            self._cache.files.record(path, image.identity, image.digest)

    def take_others(self, others: tuple[LoadedImage, ...]) -> None:
        """Take images that came without pixels."""
        for image in others:
            self._remember_file(image)
            if image.reason:
                self.reasons[image.row] = image.reason
            else:
                self._repeated.append(image)

    def take_embeddings(
        self, images: tuple[LoadedImage, ...], embeddings: np.ndarray
    ) -> None:
        """Take a batch of new embeddings.

        Raises:
          InputError: The cache can't be written.
        """
        finite = np.asarray(np.isfinite(embeddings).all(axis=1))
        embeddings = embeddings.astype(self._table.dtype)
        good = [image for image, ok in zip(images, finite, strict=True) if ok]
        for image, embedding, ok in zip(images, embeddings, finite, strict=True):
            self._first_rows[image.digest] = image.row
            self._table[image.row - self._own.start] = embedding
            if not ok:
                self.reasons[image.row] = "the encoder gives no finite embedding"
        self.num_computed += len(images)
        if self._cache is not None:
            for image in good:
                self._remember_file(image)
            self._cache.add([image.digest for image in good], embeddings[finite])

    def fill_repeated(self) -> None:
        """Fill rows whose content is known from the cache or another row."""
        start = self._own.start
        for image in self._repeated:
            first = self._first_rows.get(image.digest)
            if first is not None:
                self._table[image.row - start] = self._table[first - start]
                if first in self.reasons:
                    self.reasons[image.row] = self.reasons[first]
            elif self._cache is not None:
                self._table[image.row - start] = self._cache.get(image.digest)

    def gather_reasons(self) -> None:
        """Learn what the other hosts could not read."""
        self.reasons, self.num_computed = gather_reasons(
            self.reasons, self.num_computed
        )

    def _close_gaps(self) -> np.ndarray:
        """Own rows without those that could not be read."""
        start, own = self._own.start, self._own
        good = np.asarray([row - start for row in own if row not in self.reasons], int)
        if len(good) < len(own):
            # In place and block by block: the set may be larger than memory.
            for first in range(0, len(good), _BLOCK):
                block = good[first : first + _BLOCK]
                self._table[first : first + len(block)] = self._table[block]
        return self._table[: len(good)]

    def _join(self, rows: np.ndarray, hosts: Sequence[range]) -> np.ndarray:
        """Put the rows of all hosts together."""
        own = self._close_gaps()
        if len(hosts) == 1:
            return own
        # A host's readable rows are in one piece, behind those of the hosts before.
        ends = np.searchsorted(rows, [share.stop for share in hosts]).tolist()
        shares = list(map(range, [0, *ends[:-1]], ends))
        mine = pick_own(shares)
        shape = (len(rows), own.shape[1])
        large = np.prod(shape) * own.itemsize > _IN_MEMORY_BYTES
        if large and self._cache is not None:
            shared = self._cache.share(own, mine.start, len(rows))
            if shared is not None:
                return shared
        table = _allocate(shape, own.dtype, self._cache)
        table[mine.start : mine.stop] = own
        fill_shares(table, shares)
        return table

    def result(self, warnings: list[str], hosts: Sequence[range]) -> Embedded:
        """Put everything together.

        Args:
          warnings: Of the cache.
          hosts: Rows of each host.

        Raises:
          InputError: No image could be read.
        """
        names = self._source.names
        rows = np.asarray(
            [row for row in range(len(names)) if row not in self.reasons], np.int64
        )
        unreadable = [
            SkippedImage(names[row], self.reasons[row]) for row in sorted(self.reasons)
        ]
        if not rows.size:
            where = f" in {printable(self._source.root)}" if self._source.root else ""
            first = unreadable[0]
            raise InputError(
                f"No readable image{where} among {len(names)}; the first, "
                f"{printable(first.path)}: {first.reason}"
            )
        return Embedded(
            embeddings=self._join(rows, hosts),
            rows=rows,
            paths=tuple(names[row] for row in rows),
            root=self._source.root,
            skipped=self._source.skipped + tuple(unreadable),
            num_computed=self.num_computed,
            warnings=tuple(warnings),
        )


def _embed_rows(
    encoder: Encoder,
    source: ImageSource,
    rows: list[int],
    collector: _Collector,
    cache: EmbeddingCache | None,
    *,
    batch_size: int,
    threads: int | None,
    progress: Callable[[int], Any],
) -> None:
    """Embed some rows: while one batch computes, the next is decoded.

    Raises:
      ValueError: The encoder returns another shape than it says.
    """
    encode = compile_rows(encoder.encode_images, encoder.params, batch_size)
    computing: tuple[Batch, jax.Array] | None = None

    def finish(batch: Batch, embeddings: jax.Array) -> None:
        collector.take_embeddings(
            batch.images, np.asarray(embeddings, np.float32)[: len(batch.images)]
        )
        progress(len(batch.images))

    batches = load_batches(
        source,
        encoder.preprocess,
        image_size=encoder.image_size,
        batch_size=batch_size,
        rows=rows,
        # Twice what the encoder sees: below that, averaging blocks of pixels
        # would begin to show in the embedding.
        min_side=2 * max(encoder.image_size),
        known=frozenset() if cache is None else cache.digests,
        threads=threads,
    )
    with closing(batches):
        for batch in batches:
            collector.take_others(batch.others)
            progress(len(batch.others))
            if not batch.images:
                continue
            embeddings = encode(batch.pixels)
            if embeddings.shape != (batch_size, encoder.width):
                raise ValueError(
                    f"Expected embeddings {(batch_size, encoder.width)} of "
                    f"{encoder.name}, found {embeddings.shape}"
                )
            if computing is not None:
                finish(*computing)
            computing = (batch, embeddings)
        if computing is not None:
            finish(*computing)


def embed_images(
    encoder: Encoder,
    source: ImageFolder | ImageSource | Any,
    *,
    batch_size: int = 32,
    cache_dir: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Embedded:
    """Embed all images of a folder or an array.

    Files are read once, decoded in threads while the encoder computes, and
    embedded in batches of one shape, so that the encoder compiles once. Images
    with equal content are embedded once. What can't be read is skipped and
    listed.

    A batch is split over as many of the local devices as divide it. Of several
    hosts (``jax.distributed``) each embeds an even share of the images. All get all
    embeddings: a large set in one file beside the cache that all of them map, if they
    share the cache's folder.

    With a cache, an image is known by the SHA-256 of its file, whatever its name
    and place, and by the encoder's fingerprint of images. Files whose size, times
    and inode are as before aren't even read. Embeddings are written some 512 at a
    time, also when the run is broken off, and come back bit for bit. When *some*
    images are cached, the others may meet in other batches than without a cache;
    they are equal bit for bit too if the encoder computes a row regardless of its
    place in the batch. A run that was killed goes on with the same batches.

    Args:
      encoder: The encoder.
      source: What ``find_images`` returns, an array of images (see
        ``open_source``), or a source.
      batch_size: Images of a batch, at least 1.
      cache_dir: Folder for embeddings of every encoder; None keeps nothing. Several
        hosts may share it.
      dtype: ``"float32"`` or ``"float16"``, of what is kept and returned; the
        latter has 11 bits, half the size and its own place in the cache.
      threads: Threads that decode; None takes one a core.
      progress: Called with the number of images that are done since the last
        call.

    Returns:
      Embeddings, and what was skipped.

    Raises:
      InputError: No image can be read, the cache can't be used or written (what
        was done so far is kept), or an argument is out of range. Ctrl-C and
        other exceptions pass with a note that says what is kept.
    """
    check_in_range("batch_size", batch_size, low=1)
    check_one_of("dtype", dtype, ("float16", "float32"))
    images = open_source(source)
    count = num_hosts()
    hosts = [own_rows(len(images.names), host, count) for host in range(count)]
    own = pick_own(hosts)
    cache = None
    if cache_dir is not None:
        key = encoder.image_fingerprint or encoder.fingerprint
        part = jax.process_index() if count > 1 else None
        cache = EmbeddingCache(cache_dir, encoder.name, key, dtype=dtype, part=part)
    tell = progress or (lambda count: None)
    collector = _Collector(images, encoder.width, cache, dtype=dtype, own=own)
    try:
        rest = collector.fill_unchanged()
        tell(len(own) - len(rest))
        if rest:
            _embed_rows(
                encoder,
                images,
                rest,
                collector,
                cache,
                batch_size=batch_size,
                threads=threads,
                progress=tell,
            )
        collector.fill_repeated()
        if cache is not None:
            cache.flush()
    except InputError:
        raise
    except BaseException as error:
        if cache is not None:
            cache.keep_partial(error)
        raise
    if count > 1:
        collector.gather_reasons()
    return collector.result([] if cache is None else cache.warnings, hosts)
