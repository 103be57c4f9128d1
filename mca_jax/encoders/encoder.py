"""What an encoder is: pure functions over a pytree of weights, and its origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

__all__ = ["Encoder"]


class Encoder(NamedTuple):
    """A frozen cross-modal encoder: images and nouns into one space.

    Weights travel as an argument, so that ``encode_images`` and
    ``encode_texts`` are pure and the caller decides on jit and placement.

    Attributes:
      name: What the user typed, such as ``"lite"``.
      fingerprint: SHA-256 in hex over weights and preprocessing; two encoders
        with the same fingerprint give the same embeddings.
      licence: SPDX name of the licence of the weights.
      domain: What the encoder was trained on, for the report, in a few words.
      width: Embedding width ``d``.
      image_size: Height and width of what ``preprocess`` returns.
      params: Pytree of arrays.
      preprocess: Host function from an upright RGB PIL image to uint8 pixels
        of shape ``[h, w, 3]``. Normalisation is part of ``encode_images``.
      encode_images: ``(params, pixels)`` with uint8 pixels of shape
        ``[b, h, w, 3]`` to float32 unit vectors of shape ``[b, d]``.
      tokenize: Host function ``(names, synset_ids)`` to an array, or a pytree
        of arrays, whose first axis has one row a noun. Names have spaces, not
        underscores. A synset id is WordNet 3.0's, ``"n02084071"``, or empty for
        a noun that is not WordNet's. Raises ``InputError`` naming the nouns
        that the encoder can't place.
      encode_texts: ``(params, tokens)`` to float32 unit vectors ``[m, d]``.
      image_fingerprint: The same over what embeddings of images alone depend on,
        so that other prompts leave them valid; empty stands for ``fingerprint``.
      count_tokens: Tokens to the number of places along their last axis that each
        row needs, int ``[m]``; the axis may be cut behind them. None where all
        rows are of one length.
      keep_texts: Whether embeddings of nouns are worth keeping on disk: not where
        they are made faster than read.
    """

    name: str
    fingerprint: str
    licence: str
    domain: str
    width: int
    image_size: tuple[int, int]
    params: Any
    preprocess: Callable[[Image.Image], np.ndarray]
    encode_images: Callable[[Any, jax.Array], jax.Array]
    tokenize: Callable[[Sequence[str], Sequence[str]], Any]
    encode_texts: Callable[[Any, Any], jax.Array]
    image_fingerprint: str = ""
    count_tokens: Callable[[Any], np.ndarray] | None = None
    keep_texts: bool = True
