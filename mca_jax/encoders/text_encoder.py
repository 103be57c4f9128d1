"""A text encoder of its own, and how it takes the place of an encoder's texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from mca_jax.core.numerics import l2_normalize
from mca_jax.encoders.encoder import Encoder

__all__ = ["TextEncoder", "with_text_encoder"]


class TextEncoder(NamedTuple):
    """A frozen encoder of nouns alone; the fields are those of ``Encoder``.

    Attributes:
      name: What the user typed.
      fingerprint: SHA-256 in hex over weights, tokenizer and prompts.
      licence: SPDX name of the licence of the weights.
      width: Embedding width ``s``, its own.
      params: Pytree of arrays.
      tokenize: Host function ``(names, synset_ids)`` to an array of tokens.
      encode_texts: ``(params, tokens)`` to float32 unit vectors ``[m, s]``.
      count_tokens: See ``Encoder``.
      keep_texts: See ``Encoder``.
    """

    name: str
    fingerprint: str
    licence: str
    width: int
    params: Any
    tokenize: Callable[[Sequence[str], Sequence[str]], Any]
    encode_texts: Callable[[Any, Any], jax.Array]
    count_tokens: Callable[[Any], np.ndarray] | None = None
    keep_texts: bool = True


def with_text_encoder(
    encoder: Encoder,
    text_encoder: TextEncoder,
    matrix: Float[Array, "s d"],
    offset: Float[Array, " d"],
) -> Encoder:
    """Let another encoder read the nouns, through an affine map.

    Images are embedded as before, and keep their place in the cache.

    Args:
      encoder: Embeds images into ``d`` dimensions.
      text_encoder: Embeds nouns into ``s`` dimensions.
      matrix: From the second space to the first, see ``fit_text_map``.
      offset: Added behind it.

    Returns:
      An encoder of the first one's images and the second one's nouns.
    """
    place = {
        "matrix": np.asarray(matrix, np.float32),
        "offset": np.asarray(offset, np.float32)[None],
    }
    digest = hashlib.sha256(b"".join(part.tobytes() for part in place.values()))
    digest.update(f"{encoder.fingerprint} {text_encoder.fingerprint}".encode())

    def encode_images(params: Any, pixels: jax.Array) -> jax.Array:
        return encoder.encode_images(params["images"], pixels)

    def encode_texts(params: Any, tokens: Any) -> jax.Array:
        own = text_encoder.encode_texts(params["texts"], tokens)
        return l2_normalize(own @ params["matrix"] + params["offset"])

    return encoder._replace(
        fingerprint=digest.hexdigest(),
        image_fingerprint=encoder.image_fingerprint or encoder.fingerprint,
        domain=f"{encoder.domain}; nouns read by {text_encoder.name}",
        params={"images": encoder.params, "texts": text_encoder.params, **place},
        encode_images=encode_images,
        tokenize=text_encoder.tokenize,
        encode_texts=encode_texts,
        count_tokens=text_encoder.count_tokens,
        keep_texts=True,
    )
