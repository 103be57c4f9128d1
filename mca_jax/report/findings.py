"""Finds likely outliers and duplicates among the images; takes no labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

from mca_jax.core.host_tables import release, row_blocks

__all__ = [
    "DuplicateGroup",
    "Outlier",
    "find_duplicates",
    "find_outliers",
    "picture_correlation",
]

_OUTLIER_NEIGHBORS = 10
_OUTLIER_PART = 100
_LEAST_OUTLIERS = 8
_MOST_OUTLIERS = 1000
_PAIR_NEIGHBORS = 5
_MOST_PAIRS = 2000
_MIN_COSINE = 0.8
_MIN_CORRELATION = 0.92
# Coarse enough that another size, compression or a shift by a pixel are no matter.
_COMPARED_EDGE = 16
_BLOCK = 512
# Rows after which what was read of a large set is given back.
_RELEASE = 64 * _BLOCK


class Outlier(NamedTuple):
    """An image's row and its mean cosine distance to its nearest ones, in [0, 2]."""

    row: int
    distance: float


class DuplicateGroup(NamedTuple):
    """Images that show the same.

    Attributes:
      kind: ``"identical"`` for the same content, ``"near"`` for the same
        picture in another size, crop, compression or mirrored.
      rows: Rows of the images, ascending, two or more.
      similarity: Lowest cosine of two embeddings by which the group hangs
        together, in [-1, 1].
    """

    kind: str
    rows: tuple[int, ...]
    similarity: float


def _neighbor_cosines(
    embeddings: Float[np.ndarray, "n d"],
    neighbors: Int[np.ndarray, "n r"],
    center: Float[np.ndarray, " d"],
) -> Float[np.ndarray, "n r"]:
    """Cosine of each row with its neighbours, seen from a centre."""
    cosines = np.zeros(neighbors.shape, np.float32)
    # Block by block: the rows of the neighbours are many times all rows.
    for start in range(0, len(embeddings), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = embeddings[block].astype(np.float32) - center
        near = embeddings[neighbors[block]].astype(np.float32) - center
        lengths = np.linalg.norm(own, axis=-1)[:, None] * np.linalg.norm(near, axis=-1)
        products = np.einsum("nd,nrd->nr", own, near)
        cosines[block] = products / np.maximum(lengths, 1e-12)
        if start % _RELEASE == 0:
            release(embeddings)
    return cosines


def find_outliers(
    embeddings: Float[np.ndarray, "n d"], neighbors: Int[np.ndarray, "n r"]
) -> tuple[Outlier, ...]:
    """Find the images that are farthest from their own nearest images.

    Args:
      embeddings: One row an image.
      neighbors: Rows of each image's nearest others, nearest first; 10 are used.

    Returns:
      The most distant hundredth of the images, at least 8 and at most 1,000 of
      them, most distant first; none where there are no neighbours.

    References:
      Sun et al., "Out-of-distribution detection with deep nearest neighbors",
      2022; here with the mean over neighbours in place of the last one.
    """
    if not neighbors.shape[1]:
        return ()
    # From the mean image: what all images share tells none apart.
    mean = embeddings.mean(axis=0, dtype=np.float32)
    cosines = _neighbor_cosines(embeddings, neighbors[:, :_OUTLIER_NEIGHBORS], mean)
    distances = 1.0 - cosines.mean(axis=1)
    wanted = np.clip(len(distances) // _OUTLIER_PART, _LEAST_OUTLIERS, _MOST_OUTLIERS)
    order = np.argsort(-distances, kind="stable")[: int(wanted)]
    return tuple(Outlier(row, float(distances[row])) for row in order.tolist())


def picture_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlate two small pictures ``[edge, edge, 3]``, the second also mirrored.

    Returns:
      The larger of both correlations, in [-1, 1]; 1 for two plain pictures of one
      colour, 0 where only one of them is plain.
    """
    first, second = (
        np.asarray(
            Image.fromarray(pixels).resize(
                (_COMPARED_EDGE, _COMPARED_EDGE), Image.Resampling.BOX
            ),
            np.float64,
        )
        for pixels in (one, other)
    )
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    if scale < 1e-9:
        return float(np.array_equal(one, other))
    return (
        max(float((first * second).sum()), float((first * second[:, ::-1]).sum()))
        / scale
    )


def _groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Connected components of two rows or more, by their first row."""
    if not pairs:
        return []
    left, right = np.asarray(pairs).T
    graph = sparse.coo_array((np.ones(len(pairs)), (left, right)), shape=(count, count))
    _, parts = csgraph.connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    for row in sorted({*left.tolist(), *right.tolist()}):
        members.setdefault(int(parts[row]), []).append(row)
    return sorted(members.values())


def _identical(
    embeddings: Float[np.ndarray, "n d"], same_content: Callable[[int, int], bool]
) -> list[list[int]]:
    """Rows of equal content: they have equal embeddings, but that is no proof."""
    if not len(embeddings):
        return []
    digests = np.empty((len(embeddings), 2), np.uint64)
    for block in row_blocks(embeddings):
        for row, embedding in enumerate(embeddings[block], block.start):
            digest = hashlib.blake2b(embedding.tobytes(), digest_size=16).digest()
            digests[row] = np.frombuffer(digest, np.uint64)
    # Stable: rows of one digest stay in their order.
    order = np.lexsort(digests.T)
    new = np.any(np.diff(digests[order], axis=0), axis=1)
    # Of each row in that order, where those of its digest begin.
    begin = np.maximum.accumulate(
        np.where(np.r_[True, new], np.arange(len(new) + 1), 0)
    )
    pairs = [
        (int(order[begin[at]]), int(order[at]))
        for at in np.flatnonzero(~new) + 1
        if same_content(int(order[begin[at]]), int(order[at]))
    ]
    return _groups(len(embeddings), pairs)


def _likely_pairs(
    embeddings: Float[np.ndarray, "n d"],
    neighbors: Int[np.ndarray, "n r"],
    first_of: Mapping[int, int],
) -> dict[tuple[int, int], float]:
    """Pairs of different content with like embeddings, most alike first."""
    near = neighbors[:, :_PAIR_NEIGHBORS]
    origin = np.zeros(embeddings.shape[1], np.float32)
    cosines = _neighbor_cosines(embeddings, near, origin)
    rows, ranks = np.nonzero(cosines >= _MIN_COSINE)
    origins = np.arange(len(embeddings))
    for row, first in first_of.items():
        origins[row] = first
    ends = np.stack([origins[rows], origins[near[rows, ranks]]])
    one, two = ends.min(axis=0), ends.max(axis=0)
    found = cosines[rows, ranks]
    # Most pairs are found from both sides: the last one counts.
    codes = (one * len(embeddings) + two)[::-1]
    _, last = np.unique(codes, return_index=True)
    last = len(codes) - 1 - last
    last = last[one[last] != two[last]]
    order = last[np.lexsort((two[last], one[last], -found[last]))][:_MOST_PAIRS]
    return {(int(one[at]), int(two[at])): float(found[at]) for at in order}


def find_duplicates(
    embeddings: Float[np.ndarray, "n d"],
    neighbors: Int[np.ndarray, "n r"],
    *,
    same_content: Callable[[int, int], bool],
    read_tiles: Callable[[list[int]], Mapping[int, np.ndarray]],
) -> tuple[DuplicateGroup, ...]:
    """Find images of the same content, and those that show nearly the same.

    Embeddings propose, the pictures decide: images of equal embeddings are
    compared as they are, and the 2,000 most similar pairs of neighbours by small
    pictures, upright and mirrored.

    Args:
      embeddings: One row an image; equal content gives equal rows.
      neighbors: Rows of each image's nearest others; the first 5 are candidates.
      same_content: Whether two rows hold the same picture, bit for bit.
      read_tiles: Small square pictures of some rows, uint8 ``[edge, edge, 3]``;
        rows that can't be read are absent.

    Returns:
      Identical ones first, then by falling similarity. A row stands in one group
      of each kind at most; of identical images only the first is compared with
      others.
    """
    identical = _identical(embeddings, same_content)
    first_of = {row: rows[0] for rows in identical for row in rows}
    likely = _likely_pairs(embeddings, neighbors, first_of)
    tiles = read_tiles(sorted({row for pair in likely for row in pair}))
    alike = {
        pair: cosine
        for pair, cosine in likely.items()
        if pair[0] in tiles
        and pair[1] in tiles
        and picture_correlation(tiles[pair[0]], tiles[pair[1]]) >= _MIN_CORRELATION
    }
    near = []
    for rows in _groups(len(embeddings), list(alike)):
        lowest = min(cosine for pair, cosine in alike.items() if pair[0] in rows)
        near.append(DuplicateGroup("near", tuple(rows), lowest))
    near.sort(key=lambda group: (-group.similarity, group.rows))
    return (
        *(DuplicateGroup("identical", tuple(rows), 1.0) for rows in identical),
        *near,
    )
