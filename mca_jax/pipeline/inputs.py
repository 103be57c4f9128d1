"""Embeddings and nouns that a caller brings in place of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import row_blocks
from mca_jax.core.parallel import exchange, host_share
from mca_jax.encoders.embed_images import Embedded
from mca_jax.semantics import NounTable
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

__all__ = ["check_embeddings", "check_nouns"]


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
    array = np.asarray(image_embeddings)
    if array.dtype not in (np.float16, np.float32):
        array = np.asarray(array, np.float32)
    if array.ndim != 2 or not _is_finite(array):
        raise InputError(
            f"Expected finite image_embeddings of shape [n, d], found {array.shape}"
        )
    paths = tuple(f"row-{row:06d}" for row in range(len(array)))
    return Embedded(array, np.arange(len(array)), paths, "", (), 0, ())


def _is_finite(array: np.ndarray) -> bool:
    """Check all rows, each host its own."""
    own = host_share(len(array))
    part = array[own.start : own.stop]
    finite = all(np.isfinite(part[rows]).all() for rows in row_blocks(part))
    return bool(exchange(np.array([finite])).all())


def check_nouns(
    nouns: Sequence[str] | NounTable | None, noun_embeddings: Any, width: int
) -> tuple[NounTable, Any]:
    """Take nouns with their embeddings.

    Args:
      nouns: Names, or a table.
      noun_embeddings: A row for each, ``[m, d]``.
      width: ``d`` of the images.

    Returns:
      The table and the embeddings, float32.

    Raises:
      InputError: One is missing, or they don't fit each other or the images.
    """
    if noun_embeddings is None or nouns is None:
        raise InputError("Expected noun_embeddings and nouns beside image_embeddings")
    table = nouns
    if not isinstance(table, NounTable):
        table = parse_vocabulary("\n".join(table), "nouns")
    if len(table.names) != len(nouns) and not isinstance(nouns, NounTable):
        raise InputError(
            f"Expected nouns without commas or repeats, found {len(nouns)} entries "
            f"for {len(table.names)} nouns"
        )
    texts = jnp.asarray(noun_embeddings, jnp.float32)
    expected = [len(table.names), width]
    if list(texts.shape) != expected:
        raise InputError(
            f"Expected noun_embeddings of shape {expected}, found {list(texts.shape)}"
        )
    return table, texts
