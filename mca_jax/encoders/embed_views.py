"""Embeds some views of some images: what an encoder sees beside the thing itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mca_jax.data.sources import ImageSource
from mca_jax.data.views import pick_rows, view_source
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.encoder import Encoder

__all__ = ["embed_views"]


def embed_views(
    encoder: Encoder,
    source: ImageSource,
    rows: Sequence[int],
    *,
    num_images: int,
    num_views: int,
    seed: int = 0,
    batch_size: int = 32,
    cache_dir: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> tuple[Float[np.ndarray, "s v d"], tuple[str, ...]]:
    """Embed random views of a sample of a set.

    Args:
      encoder: The encoder.
      source: The images.
      rows: Rows that can be read.
      num_images: Most images of the sample, at least 1.
      num_views: Views of each, at least 2.
      seed: Of the sample and of the views. It is no key of a run: runs of other
        seeds share the views, as they share the embeddings.
      batch_size: As for ``embed_images``, and so are the others.
      cache_dir: Keeps the views' embeddings beside those of the images.
      dtype: Of what is kept and returned.
      threads: Threads that decode.
      progress: Called with the number of views that are done since the last call.

    Returns:
      Unit vectors of the views of each image, and one line for each damaged file of
      the cache. Images with a view that can't be embedded are left out.

    Raises:
      InputError: None can be embedded, or the cache can't be used.
    """
    picked = pick_rows(source.names, rows, num_images, seed)
    views = view_source(source, picked, num_views=num_views, seed=seed)
    found = embed_images(
        encoder,
        views,
        batch_size=batch_size,
        cache_dir=cache_dir,
        dtype=dtype,
        threads=threads,
        progress=progress,
    )
    image, number = np.divmod(found.rows, num_views)
    whole = np.flatnonzero(np.bincount(image, minlength=len(picked)) == num_views)
    kept = np.isin(image, whole)
    embeddings = np.asarray(found.embeddings, np.float32)[kept]
    assert np.array_equal(number[kept], np.tile(np.arange(num_views), len(whole)))
    return embeddings.reshape(len(whole), num_views, -1), found.warnings
