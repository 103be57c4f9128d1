"""The sets of the sweep: embeddings on one side, the answers on the other.

What trains gets a ``SweepSet``, which holds no label. The ``Answers`` go to the
functions that score a finished run, and to the draw of a long-tailed set, which has
to know the classes in order to thin them out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.progress import Clock
from mca_jax.data import folder_labels
from mca_jax.encoders.registry import build_image_encoder
from mca_jax.pipeline.config import Config, EncoderConfig
from mca_jax.pipeline.inputs import (
    Inputs,
    embed_source,
    embed_view_sample,
    embed_vocabulary,
    open_encoders,
    open_inputs,
)
from mca_jax.semantics import NounTable

__all__ = [
    "Answers",
    "SweepSet",
    "draw_long_tail",
    "join_sets",
    "load_sets",
    "long_tail_sizes",
]


class SweepSet(NamedTuple):
    """What a method may read of a set.

    Attributes:
      name: Name of the folder, with the ratio of a long-tailed draw; of a union those
        of its sets.
      base: The same without the ratio.
      ratio: Largest class over smallest of a draw; 1 for the set itself.
      embeddings: Of the images, float32 ``[n, d]``.
      nouns: Embeddings of the vocabulary, float32 ``[m, d]``.
      table: The vocabulary.
      num_clusters: ``k``: the number of classes is taken as known.
      encoder: Fingerprint of the encoder.
      digest: Hash of the embeddings.
      views: Embeddings of views of some images of the whole set, ``[s, v, d]``; None
        without.
      spaces: Widths of the spaces that ``embeddings`` consist of, as of ``Encoder``.
    """

    name: str
    base: str
    ratio: int
    embeddings: np.ndarray
    nouns: np.ndarray
    table: NounTable
    num_clusters: int
    encoder: str
    digest: str
    views: np.ndarray | None = None
    spaces: tuple[int, ...] = ()


class Answers(NamedTuple):
    """What only scoring may read.

    Attributes:
      labels: Class of each image, int ``[n]``.
      class_names: Name of each class.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]


def _digest(embeddings: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(embeddings).data).hexdigest()[:16]


def _embed(
    inputs: Inputs, config: EncoderConfig, cache_dir: Path
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray | None]:
    """Paths, embeddings, and embeddings of views of a set.

    Of two encoders each has a cache of its own, so that runs of one and of both are
    of the same embeddings, made once.
    """
    if config.image:
        alone = replace(config, image="")
        first, _ = open_encoders(alone, inputs.table)
        second = build_image_encoder(config.image)
        paths, *rows = _embed(inputs._replace(encoder=first), alone, cache_dir)
        # What reads no nouns is no whole encoder, and none are read here.
        others = inputs._replace(encoder=second)  # pyright: ignore[reportArgumentType]
        same, *more = _embed(others, alone, cache_dir)
        if same != paths:
            raise InputError(f"Expected one set of images for both in {cache_dir}")
        both = [
            None
            if one is None or other is None
            # As with_image_encoder does it.
            else np.concatenate([one, other], axis=-1) * np.float32(0.5**0.5)
            for one, other in zip(rows, more, strict=True)
        ]
        assert both[0] is not None
        return paths, both[0], both[1]
    clock = Clock(None)
    found = embed_source(inputs, config, clock, cache_dir=cache_dir)
    found, views = embed_view_sample(inputs, found, config, clock, cache_dir=cache_dir)
    return found.paths, np.asarray(found.embeddings, np.float32), views


def load_sets(
    folders: Sequence[Path], caches: Sequence[Path], config: Config
) -> list[tuple[SweepSet, Answers]]:
    """Embed folders whose sub-folders are classes, or read what is embedded.

    ``caches`` has the folder of the cache of each, or one for all.

    Raises:
      InputError: A folder can't be used, two have one name, or the numbers of
        folders and caches don't fit.
    """
    if len(caches) not in (1, len(folders)):
        raise InputError(
            f"Expected one --cache, or one for each of {len(folders)} folders, found "
            f"{len(caches)}"
        )
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) != len(names):
        raise InputError(f"Expected folders of different names, found {names}")
    inputs = [open_inputs(folder, None, None, None, config) for folder in folders]
    embedded = [
        _embed(each, config.encoder, caches[i % len(caches)])
        for i, each in enumerate(inputs)
    ]
    vocabulary = embed_vocabulary(
        inputs[0], config.encoder, Clock(None), cache_dir=caches[0]
    )
    encoder, table = vocabulary.encoder, vocabulary.nouns.table
    assert encoder is not None
    nouns = np.asarray(vocabulary.nouns.embeddings, np.float32)
    sets = []
    for name, (paths, rows, views) in zip(names, embedded, strict=True):
        answers = Answers(*folder_labels(paths))
        whole = SweepSet(
            name=name,
            base=name,
            ratio=1,
            embeddings=rows,
            nouns=nouns,
            table=table,
            num_clusters=len(answers.class_names),
            encoder=encoder.fingerprint,
            digest=_digest(rows),
            views=views,
            spaces=encoder.spaces,
        )
        sets.append((whole, answers))
    return sets


def join_sets(
    sets: Sequence[tuple[SweepSet, Answers]], union: str
) -> tuple[SweepSet, Answers]:
    """Put sets of unlike pictures together; their classes stay different ones.

    Args:
      sets: Sets of one encoder and vocabulary.
      union: Names of at least two of them, joined by ``+``.

    Raises:
      InputError: There is no such set, or there are not two.
    """
    known = {given.name: (given, answers) for given, answers in sets}
    names = union.split("+")
    for name in names:
        check_one_of("set of a union", name, known)
    check_in_range("sets of a union", len(set(names)), 2)
    parts, answers = zip(*(known[name] for name in names), strict=True)
    class_names = [name for each in answers for name in each.class_names]
    starts = np.cumsum([0, *(each.num_clusters for each in parts)])
    views = [each.views for each in parts if each.views is not None]
    embeddings = np.concatenate([each.embeddings for each in parts])
    joined = parts[0]._replace(
        name=union,
        base=union,
        embeddings=embeddings,
        num_clusters=len(class_names),
        digest=_digest(embeddings),
        views=np.concatenate(views) if len(views) == len(parts) else None,
    )
    labels = [each.labels + start for each, start in zip(answers, starts, strict=False)]
    return joined, Answers(np.concatenate(labels), tuple(class_names))


def long_tail_sizes(counts: Sequence[int], ratio: int) -> list[int]:
    r"""Decide how many images of each class a long-tailed draw keeps.

    .. math:: n_j = \lfloor n_0\, \rho^{-j / (k - 1)} \rceil

    for the ``j``-th largest class, with the largest :math:`n_0` that every class
    can serve; no class gets less than one image.

    Raises:
      InputError: Fewer than two classes, or a ratio below 1.

    References:
      Cui et al., Class-Balanced Loss Based on Effective Number of Samples,
      CVPR 2019, Section 5.1.
    """
    check_in_range("number of classes", len(counts), 2)
    check_in_range("long-tail ratio", ratio, 1)
    factors = ratio ** (-np.arange(len(counts)) / (len(counts) - 1))
    head = float(np.min(np.asarray(counts) / factors))
    # Rounding must not ask for one image more than there is.
    sizes = np.minimum(np.rint(head * factors), counts)
    return [max(1, int(size)) for size in sizes]


def draw_long_tail(
    whole: SweepSet, answers: Answers, *, ratio: int, seed: int
) -> tuple[SweepSet, Answers]:
    """Thin the classes of a set out, each to its share of a long tail.

    Larger classes come first, so that few images are lost; classes of one size
    and the images of a class are drawn.

    ``ratio`` is that of the largest class over the smallest; ``seed`` is that of the
    draw, not of a run.

    Raises:
      InputError: Fewer than two classes, or a ratio below 1.
    """
    random = np.random.default_rng([seed, ratio])
    counts = np.bincount(answers.labels, minlength=len(answers.class_names))
    order = random.permutation(len(counts))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes = long_tail_sizes(counts[order].tolist(), ratio)
    kept = [
        random.choice(np.flatnonzero(answers.labels == label), size, replace=False)
        for label, size in zip(order, sizes, strict=True)
    ]
    rows = np.sort(np.concatenate(kept))
    embeddings = whole.embeddings[rows]
    drawn = whole._replace(
        name=f"{whole.name}-lt{ratio}",
        ratio=ratio,
        embeddings=embeddings,
        digest=_digest(embeddings),
    )
    return drawn, answers._replace(labels=answers.labels[rows])
