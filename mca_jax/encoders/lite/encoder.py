r"""The embedded encoders ``lite`` and ``lite2``: no download, no account.

Images go through an EfficientNet-Lite trained on ImageNet; an embedding is the
pooled features less a fixed mean, at unit norm. A noun :math:`n` is embedded
where its images would be,

.. math:: t(n) = \mathrm{normalise}\Big(\sum_c p_c(n)\, w_c\Big),

with :math:`w_c` the centred unit classifier row of ImageNet class :math:`c` and
:math:`p(n)` the noun's mixture of classes, computed beforehand for every noun
of WordNet by ``experiments/build_lite_assets.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mca_jax.core.assets import asset_fingerprint, load_asset
from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.numerics import l2_normalize
from mca_jax.encoders.encoder import Encoder
from mca_jax.encoders.lite.efficientnet import (
    LITE0,
    LITE2,
    Convolution,
    NetSpec,
    extract_features,
)

__all__ = [
    "Lexicon",
    "build_lexicon",
    "build_lite",
    "build_lite2",
    "find_rows",
    "preprocess",
]

_NOUNS = "lite.nouns.npz"
# Counts up whenever the same pixels or names give other embeddings.
_VERSION = "lite preprocessing 1"
_SHARDS = 2
_NAMED = 5
# Endings of regular plurals and of their singulars, as WordNet's own morphy has
# them; irregular plurals are lemmas of the index.
_PLURALS = (
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("s", ""),
)


class Lexicon(NamedTuple):
    """Where nouns are in a table with one row a WordNet synset.

    Attributes:
      offsets: WordNet 3.0 offset of each row, ascending, int32 ``[M]``.
      rows: Row of each lemma's most probable sense; lemmas are in lower case,
        with spaces.
    """

    offsets: np.ndarray
    rows: Mapping[str, int]


def build_lexicon(
    offsets: np.ndarray, lemmas: np.ndarray, lemma_rows: np.ndarray
) -> Lexicon:
    """Unpack a lexicon from the arrays of an asset; lemmas are UTF-8, one a line."""
    names = lemmas.tobytes().decode("utf-8").split("\n")
    return Lexicon(offsets, dict(zip(names, lemma_rows.tolist(), strict=True)))


def find_rows(
    lexicon: Lexicon, names: Sequence[str], synset_ids: Sequence[str]
) -> np.ndarray:
    """Find each noun by its synset id, or by its name where it has none.

    Names are in any case, with spaces or underscores, plural allowed; ids are WordNet
    3.0's, such as ``"n02084071"``, or empty. Returns int32 rows.

    Raises:
      InputError: Names and ids differ in number, or a noun is in neither list;
        up to five are named.
    """
    if len(names) != len(synset_ids):
        raise InputError(
            f"Expected one synset id for each of {len(names)} names, "
            f"found {len(synset_ids)}"
        )
    known = {offset: row for row, offset in enumerate(lexicon.offsets.tolist())}
    rows = np.full(len(names), -1, np.int32)
    for index, (name, synset) in enumerate(zip(names, synset_ids, strict=True)):
        row = known.get(_offset(synset))
        rows[index] = _row_of_name(lexicon, name) if row is None else row
    unknown = [name for name, row in zip(names, rows, strict=True) if row < 0]
    if unknown:
        listed = ", ".join(repr(name) for name in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(
            f"Not among WordNet's nouns: {listed}{more}; leave them out, or choose "
            "a CLIP encoder, which takes any text"
        )
    return rows


def _offset(synset: str) -> int:
    """Return the number in a noun's synset id, or -1."""
    digits = synset[1:]
    return int(digits) if synset[:1] == "n" and digits.isdecimal() else -1


def _row_of_name(lexicon: Lexicon, name: str) -> int:
    """Return the row of the first form of a name that is known, or -1."""
    lemma = " ".join(name.replace("_", " ").lower().split())
    return next(
        (lexicon.rows[form] for form in _forms(lemma) if form in lexicon.rows), -1
    )


def _forms(lemma: str) -> Iterator[str]:
    """Yield a name as it is, then as the plural of something."""
    yield lemma
    for plural, singular in _PLURALS:
        if lemma.endswith(plural):
            yield lemma[: -len(plural)] + singular


def preprocess(image: Image.Image, *, size: int) -> np.ndarray:
    """Scale the shorter side to ``size + 32`` pixels and crop the centre.

    Both are one resampling of the central square, so that a panorama costs no
    more than another picture.

    Of an upright RGB image; returns uint8 pixels ``[size, size, 3]``.
    """
    width, height = image.size
    side = min(width, height) * size / (size + 32)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _encode_images(
    params: Mapping[str, jax.Array],
    pixels: jax.Array,
    *,
    net: NetSpec,
    convolution: Convolution,
) -> jax.Array:
    """Map pixels to centred unit features."""
    features = extract_features(
        params, pixels, strides=net.strides, convolution=convolution
    )
    return l2_normalize(features - params["mean"][None])


def _encode_texts(
    params: Mapping[str, jax.Array], tokens: Mapping[str, jax.Array]
) -> jax.Array:
    """Map mixtures of classes to unit vectors.

    A loop over the few classes of each noun: gathering all rows at once would
    take that many times the memory of the result.
    """
    rows = jnp.asarray(params["classes"], jnp.float32)
    classes, weights = (jnp.asarray(tokens[key]) for key in ("classes", "weights"))
    start = jnp.zeros((classes.shape[0], rows.shape[1]), jnp.float32)

    def add(total: jax.Array, column: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        index, weight = column
        return total + rows[index] * weight.astype(jnp.float32)[:, None], None

    total, _ = jax.lax.scan(add, start, (classes.T, weights.T))
    return l2_normalize(total)


def _tokenize(
    names: Sequence[str],
    synset_ids: Sequence[str],
    *,
    lexicon: Lexicon,
    classes: np.ndarray,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    """Look up the mixtures of nouns."""
    rows = find_rows(lexicon, names, synset_ids)
    return {"classes": classes[rows], "weights": weights[rows]}


def _build(
    name: str, asset: str, net: NetSpec, convolution: Convolution | None
) -> Encoder:
    """Load one net's assets and the nouns, and tie them together."""
    if convolution is None:
        convolution = "unrolled" if jax.default_backend() == "cpu" else "direct"
    check_one_of("convolution", convolution, get_args(Convolution))
    shards = [f"{asset}.image.{index}.npz" for index in range(_SHARDS)]
    files = [*shards, f"{asset}.space.npz"]
    params = {key: array for file in files for key, array in load_asset(file).items()}
    nouns = load_asset(_NOUNS)
    lexicon = build_lexicon(nouns["offsets"], nouns["lemmas"], nouns["lemma_rows"])
    return Encoder(
        name=name,
        fingerprint=asset_fingerprint([*files, _NOUNS], version=_VERSION),
        licence="Apache-2.0",
        domain="photographs of everyday things (ImageNet)",
        width=params["classes"].shape[1],
        image_size=(net.image_size, net.image_size),
        params=params,
        preprocess=partial(preprocess, size=net.image_size),
        encode_images=partial(_encode_images, net=net, convolution=convolution),
        tokenize=partial(
            _tokenize,
            lexicon=lexicon,
            classes=nouns["classes"],
            weights=nouns["weights"],
        ),
        encode_texts=_encode_texts,
        keep_texts=False,
    )


def build_lite(*, convolution: Convolution | None = None) -> Encoder:
    """Load ``lite``: EfficientNet-Lite0 at 224 pixels, 1280 dimensions.

    Args:
      convolution: ``"unrolled"``, which is fast on a CPU, ``"direct"``, which is
        right on accelerators, or None to choose by JAX's default backend.

    Raises:
      InputError: An asset is missing or was altered, or ``convolution`` is none
        of the above.

    Example:
      >>> import numpy as np
      >>> encoder = build_lite()
      >>> tokens = encoder.tokenize(["dog", "wolves"], ["n02084071", ""])
      >>> nouns = np.asarray(encoder.encode_texts(encoder.params, tokens))
      >>> nouns.shape
      (2, 1280)
    """
    return _build("lite", "lite0", LITE0, convolution)


def build_lite2(*, convolution: Convolution | None = None) -> Encoder:
    """Load ``lite2``: EfficientNet-Lite2 at 260 pixels, better and slower.

    ``convolution`` and errors are as for `build_lite`.
    """
    return _build("lite2", "lite2", LITE2, convolution)
