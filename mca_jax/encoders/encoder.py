"""What an encoder is: pure functions over a pytree of weights, and how they are run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float
from PIL import Image

from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import DATA_AXIS, data_mesh

__all__ = [
    "Encoder",
    "ImageEncoder",
    "TextEncoder",
    "compile_encoder",
    "encode_ahead",
    "with_image_encoder",
    "with_text_encoder",
]

Label = TypeVar("Label")


class Encoder(NamedTuple):
    """A frozen cross-modal encoder: images and nouns into one space.

    Weights travel as an argument, so that ``encode_images`` and
    ``encode_texts`` are pure and the caller decides on jit and devices.

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
        that the encoder doesn't know.
      encode_texts: ``(params, tokens)`` to float32 unit vectors ``[m, d]``.
      image_fingerprint: The same over what embeddings of images alone depend on,
        so that other prompts leave them valid; empty stands for ``fingerprint``.
      count_tokens: Tokens to the length that each row needs along their last axis,
        int ``[m]``; the axis may be cut behind it. None where all rows are of one
        length.
      keep_texts: Whether embeddings of nouns are worth keeping on disk: not where
        they are made faster than read.
      spaces: Widths of the spaces that embeddings of images consist of, side by side;
        nouns are 0 in all but the first. Empty for one space.
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
    spaces: tuple[int, ...] = ()


class ImageEncoder(NamedTuple):
    """A frozen encoder of images alone; the fields are those of ``Encoder``."""

    name: str
    fingerprint: str
    licence: str
    domain: str
    width: int
    image_size: tuple[int, int]
    params: Any
    preprocess: Callable[[Image.Image], np.ndarray]
    encode_images: Callable[[Any, jax.Array], jax.Array]
    image_fingerprint: str = ""


class TextEncoder(NamedTuple):
    """A frozen encoder of nouns alone; the fields are those of ``Encoder``.

    Its fingerprint is over weights, tokenizer and prompts, its width ``s`` its own.
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
    """Let another encoder encode the nouns, through an affine map.

    Map and offset lead from the second encoder's space to the first's, see
    ``fit_text_map``. Images are embedded, and cached, as before.
    """
    affine = {
        "matrix": np.asarray(matrix, np.float32),
        "offset": np.asarray(offset, np.float32)[None],
    }
    digest = hashlib.sha256(b"".join(part.tobytes() for part in affine.values()))
    digest.update(f"{encoder.fingerprint} {text_encoder.fingerprint}".encode())

    def encode_images(params: Any, pixels: jax.Array) -> jax.Array:
        return encoder.encode_images(params["images"], pixels)

    def encode_texts(params: Any, tokens: Any) -> jax.Array:
        own = text_encoder.encode_texts(params["texts"], tokens)
        return l2_normalize(own @ params["matrix"] + params["offset"])

    return encoder._replace(
        fingerprint=digest.hexdigest(),
        image_fingerprint=encoder.image_fingerprint or encoder.fingerprint,
        domain=f"{encoder.domain}; nouns encoded by {text_encoder.name}",
        params={"images": encoder.params, "texts": text_encoder.params, **affine},
        encode_images=encode_images,
        tokenize=text_encoder.tokenize,
        encode_texts=encode_texts,
        count_tokens=text_encoder.count_tokens,
        keep_texts=True,
    )


def with_image_encoder(encoder: Encoder, second: Encoder | ImageEncoder) -> Encoder:
    """Let another encoder see the images too, in a space of its own.

    An image is a unit vector of both, side by side and of equal length; a noun is
    where the first encoder puts it, and 0 in the space of the second. So nouns are
    as near to an image as they are to the first encoder, whose texts they are.

    Args:
      encoder: Of images and nouns.
      second: Of images; what it makes of nouns is not used.

    Returns:
      The encoder of both. Pixels for the one and the other lie behind each other in
      a canvas that is about square.
    """
    widths = encoder.width, second.width
    sizes = encoder.image_size, second.image_size
    counts = [height * width for height, width in sizes]
    side = math.isqrt(sum(counts) - 1) + 1

    def preprocess(image: Image.Image) -> np.ndarray:
        canvas = np.zeros((side * side, 3), np.uint8)
        canvas[: counts[0]] = encoder.preprocess(image).reshape(-1, 3)
        canvas[counts[0] : sum(counts)] = second.preprocess(image).reshape(-1, 3)
        return canvas.reshape(side, side, 3)

    def encode_images(params: Any, pixels: jax.Array) -> jax.Array:
        rows = pixels.reshape(pixels.shape[0], -1, 3)
        first = rows[:, : counts[0]].reshape(-1, *sizes[0], 3)
        other = rows[:, counts[0] : sum(counts)].reshape(-1, *sizes[1], 3)
        both = [
            encoder.encode_images(params["first"], first),
            second.encode_images(params["second"], other),
        ]
        return jnp.concatenate(both, axis=1) * 0.5**0.5

    def encode_texts(params: Any, tokens: Any) -> jax.Array:
        texts = encoder.encode_texts(params["first"], tokens)
        return jnp.pad(texts, ((0, 0), (0, widths[1])))

    def join(first: str, other: str) -> str:
        return hashlib.sha256(f"{first} {other}".encode()).hexdigest()

    seen = second.image_fingerprint or second.fingerprint
    licences = dict.fromkeys((encoder.licence, second.licence))
    return encoder._replace(
        fingerprint=join(encoder.fingerprint, seen),
        image_fingerprint=join(encoder.image_fingerprint or encoder.fingerprint, seen),
        licence=" and ".join(licences),
        domain=f"{encoder.domain}; images also seen by {second.name}: {second.domain}",
        width=sum(widths),
        image_size=(side, side),
        params={"first": encoder.params, "second": second.params},
        preprocess=preprocess,
        encode_images=encode_images,
        encode_texts=encode_texts,
        spaces=widths,
    )


def compile_encoder(
    encode: Callable[[Any, Any], jax.Array], params: Any, batch_size: int
) -> Callable[[Any], jax.Array]:
    """Compile an encoder for batches that are split over the local devices.

    As many local devices as divide the batch size each get a copy of the weights
    and a share of the rows; a row is computed from itself alone, so that neither
    devices nor hosts wait for each other.

    Args:
      encode: ``(params, batch)`` to embeddings; the rows of the batch, a tree of
        arrays, stay in their order.
      params: Weights.
      batch_size: Rows of each batch.

    Returns:
      The function of a batch on the host; one compilation for one shape.
    """
    count = _count_devices(batch_size)
    compiled = _compile(encode, count)
    if count == 1:
        weights = jax.device_put(params)
        return lambda batch: compiled(weights, batch)
    mesh = data_mesh(count, devices=jax.local_devices())
    weights = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return lambda batch: compiled(weights, jax.device_put(batch, sharding))


def _count_devices(batch_size: int) -> int:
    """As many local devices as divide a batch; one, if one was chosen."""
    if jax.config.jax_default_device is not None:  # pyright: ignore
        return 1
    most = min(jax.local_device_count(), batch_size)
    return next(count for count in range(most, 0, -1) if batch_size % count == 0)


# Kept, so that a second set finds the compiled function of the first.
@lru_cache(8)
def _compile(
    encode: Callable[[Any, Any], jax.Array], count: int
) -> Callable[[Any, Any], jax.Array]:
    """Compile a function for some devices; nothing but its code is held."""
    if count == 1:
        return jax.jit(encode)
    rows = PartitionSpec(DATA_AXIS)
    mapped = jax.shard_map(
        encode,
        mesh=data_mesh(count, devices=jax.local_devices()),
        in_specs=(PartitionSpec(), rows),
        out_specs=rows,
        # Scans inside would have to say of every carry how it varies.
        check_vma=False,
    )
    return jax.jit(mapped)


def encode_ahead(
    encode: Callable[[Any], jax.Array], batches: Iterable[tuple[Label, Any]]
) -> Iterator[tuple[Label, np.ndarray | None]]:
    """Encode labelled batches; one computes while the next is prepared.

    Yields:
      Each label with the embeddings of its batch on the host, float32. The label of a
      batch that is None comes at once, with None.
    """
    computing: tuple[Label, jax.Array] | None = None
    for label, batch in batches:
        if batch is None:
            yield label, None
            continue
        embeddings = encode(batch)
        if computing is not None:
            yield computing[0], np.asarray(computing[1], np.float32)
        computing = label, embeddings
    if computing is not None:
        yield computing[0], np.asarray(computing[1], np.float32)
