"""Finds images that show the same, whatever the size of the set; takes no labels.

Small pictures of 16 pixels a side decide. Without their mean colour, and as unit
vectors, those of one picture in other sizes and compressions have a cosine near one,
so all pairs of a set are one product of matrices, block by block. Crops and mirror
images are looked for among the neighbours by the encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

from mca_jax.core.host_tables import release, row_blocks
from mca_jax.neighbors.graph import near_images

__all__ = ["SMALL_EDGE", "DuplicateGroup", "FileSize", "find_duplicates", "shrink"]

SMALL_EDGE = 16
"""Edge in pixels of the pictures that are compared."""

_EDGE = 8
# Measured on photographs, textures, waste on plain ground and aerial scenes, see
# benchmarks/RESULTS.md: cosines of copies are above, those of other pictures below.
_MIN_COSINE = 0.965
_MIN_FINE_COSINE = 0.95
# Below this deviation of the pixels, noise makes a good part of a picture.
_FAINT = 8.0
_MIN_FAINT_COSINE = 0.985
# Crops: whole pictures that are not even so alike are not compared any further.
_MIN_UNCROPPED = 0.6
_MIN_EMBEDDING_COSINE = 0.4
# Shares of the edge that are cut off at each of the four sides.
_CUTS = (0.0, 0.05, 0.1)
# Images up to which all pairs are compared; above, each with those that an
# approximate search finds.
_ALL_PAIRS = 100_000
_NEAREST = 20
_BLOCK = 256
_PAIR_BLOCK = 8192


class FileSize(NamedTuple):
    """Size of a picture in pixels, and of its file in bytes; 0 where it is gone."""

    width: int
    height: int
    num_bytes: int


class DuplicateGroup(NamedTuple):
    """Images that show the same.

    Attributes:
      kind: ``"identical"`` for the same content, ``"near"`` for the same
        picture in another size, crop, compression or mirrored.
      rows: Rows of the images, ascending, two or more.
      similarity: Lowest cosine of the embeddings of the best one and another, in
        [-1, 1].
      best: Row of the one with most pixels, and of these with most bytes.
      sizes: Size of each.
    """

    kind: str
    rows: tuple[int, ...]
    similarity: float
    best: int
    sizes: tuple[FileSize, ...]


def shrink(image: Image.Image) -> UInt8[np.ndarray, "16 16 3"]:
    """Make the small picture that is compared: all of it, whatever its shape."""
    edges = (SMALL_EDGE, SMALL_EDGE)
    return np.asarray(image.convert("RGB").resize(edges, Image.Resampling.BOX))


def _unit(pictures: np.ndarray) -> np.ndarray:
    """Flat unit vectors without the mean colour; zero for a picture of one colour."""
    values = pictures.astype(np.float32)
    values -= values.mean(axis=(-3, -2), keepdims=True)
    flat = values.reshape(*values.shape[:-3], -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)


def _coarse(pictures: np.ndarray) -> np.ndarray:
    """Halve the edges of small pictures."""
    half = pictures.reshape(len(pictures), _EDGE, 2, _EDGE, 2, 3)
    return half.mean(axis=(2, 4), dtype=np.float32)


@cache
def _windows() -> tuple[np.ndarray, np.ndarray]:
    """Matrices that cut a small picture and halve it, ``[w, 8, 16]`` down and across.

    They are those of Pillow's own resizing.
    """
    lines = Image.fromarray(np.eye(SMALL_EDGE, dtype=np.float32))

    def matrix(start: float, end: float) -> np.ndarray:
        box = (start, 0, SMALL_EDGE - end, SMALL_EDGE)
        size = (_EDGE, SMALL_EDGE)
        return np.asarray(lines.resize(size, Image.Resampling.BILINEAR, box=box)).T

    down, across = [], []
    for shares in product(_CUTS, repeat=4):
        left, top, right, bottom = np.multiply(shares, SMALL_EDGE)
        down.append(matrix(top, bottom))
        across.append(matrix(left, right))
    return np.stack(down), np.stack(across)


def _crops(pictures: np.ndarray) -> np.ndarray:
    """All crops of small pictures as unit vectors, ``[b, w, 192]``."""
    down, across = _windows()
    values = pictures.astype(np.float32)
    cut = np.einsum("wyi,bijc->bwyjc", down, values, optimize=True)
    return _unit(np.einsum("wxj,bwyjc->bwyxc", across, cut, optimize=True))


class _Parts:
    """Connected parts of a graph whose links come block by block."""

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count)

    def link(self, one: np.ndarray, two: np.ndarray) -> None:
        """Put the parts of the ends of these links together."""
        ends = self.labels[one], self.labels[two]
        if not np.any(ends[0] != ends[1]):
            return
        count = len(self.labels)
        graph = sparse.coo_array((np.ones(len(one), bool), ends), shape=(count, count))
        _, joined = csgraph.connected_components(graph, directed=False)
        self.labels = joined[self.labels]

    def groups(self) -> list[np.ndarray]:
        """Members of each part of two or more, ascending."""
        order = np.argsort(self.labels, kind="stable")
        cuts = np.flatnonzero(np.diff(self.labels[order])) + 1
        return [part for part in np.split(order, cuts) if len(part) > 1]


def _similar_pairs(
    vectors: Float[np.ndarray, "n c"],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows whose cosine reaches the least one, block by block."""
    count = len(vectors)
    if count > _ALL_PAIRS:
        near, _ = near_images(
            jax.random.key(0),
            jnp.asarray(vectors),
            num_neighbors=_NEAREST,
            exact_up_to=_ALL_PAIRS,
        )
        table = np.asarray(near.indices)
        for start in range(0, count, _BLOCK):
            block = table[start : start + _BLOCK]
            own = np.arange(start, start + len(block))
            cosines = np.einsum("bc,brc->br", vectors[own], vectors[block])
            rows, ranks = np.nonzero(cosines >= _MIN_COSINE)
            yield own[rows], block[rows, ranks]
        return
    for start in range(0, count, _BLOCK):
        products = vectors[start : start + _BLOCK] @ vectors[start:].T
        rows, columns = np.nonzero(products >= _MIN_COSINE)
        later = columns > rows
        yield start + rows[later], start + columns[later]


def _compare_whole(
    pictures: np.ndarray, vectors: np.ndarray, faint: np.ndarray, parts: _Parts
) -> None:
    """Link pictures that are alike as they are, in whatever size or compression."""
    for one, two in _similar_pairs(vectors):
        for start in range(0, len(one), _PAIR_BLOCK):
            ends = one[start : start + _PAIR_BLOCK], two[start : start + _PAIR_BLOCK]
            # What hangs together already need not be compared.
            new = parts.labels[ends[0]] != parts.labels[ends[1]]
            left, right = ends[0][new], ends[1][new]
            fine = np.einsum(
                "pc,pc->p", _unit(pictures[left]), _unit(pictures[right]), optimize=True
            )
            least = np.where(
                faint[left] | faint[right], _MIN_FAINT_COSINE, _MIN_FINE_COSINE
            )
            alike = fine >= least
            parts.link(left[alike], right[alike])


def _distinct_neighbors(
    embeddings: np.ndarray, neighbors: np.ndarray, rows: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Neighbours as places among the different images.

    An image with more copies than it has neighbours knows none but itself; the others
    that are near to it are looked for again.
    """
    table = place[neighbors[rows]]
    crowded = np.flatnonzero((table == np.arange(len(rows))[:, None]).all(axis=1))
    count = min(table.shape[1], len(rows) - 1)
    for start in range(0, len(crowded) if count else 0, _BLOCK):
        own = crowded[start : start + _BLOCK]
        best, found = np.full((len(own), 0), 0.0), np.zeros((len(own), 0), np.int64)
        for first in range(0, len(rows), _PAIR_BLOCK):
            others = np.arange(first, min(first + _PAIR_BLOCK, len(rows)))
            products = embeddings[rows[own]] @ embeddings[rows[others]].T
            products[own[:, None] == others[None]] = -2.0
            best = np.concatenate([best, products], axis=1)
            found = np.concatenate([found, np.tile(others, (len(own), 1))], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :count]
            best = np.take_along_axis(best, order, axis=1)
            found = np.take_along_axis(found, order, axis=1)
            release(embeddings)
        table[own, :count] = found
    return table


def _candidates(
    embeddings: np.ndarray,
    table: np.ndarray,
    rows: np.ndarray,
    vectors: np.ndarray,
    faint: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbours that may be crops or mirror images, in both directions."""
    mirrored = vectors.reshape(-1, _EDGE, _EDGE, 3)[:, :, ::-1].reshape(vectors.shape)
    ones, twos = [], []
    for start in range(0, len(rows), _BLOCK):
        own = np.arange(start, min(start + _BLOCK, len(rows)))
        one, two = np.repeat(own, table.shape[1]), table[own].ravel()
        use = (one != two) & ~faint[one] & ~faint[two]
        one, two = one[use], two[use]
        whole = np.einsum("pc,pc->p", vectors[one], vectors[two])
        whole = np.maximum(whole, np.einsum("pc,pc->p", vectors[one], mirrored[two]))
        use = whole >= _MIN_UNCROPPED
        one, two = one[use], two[use]
        first, second = embeddings[rows[one]], embeddings[rows[two]]
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        products = np.einsum("pd,pd->p", first, second, dtype=np.float32)
        use = products >= _MIN_EMBEDDING_COSINE * np.maximum(lengths, 1e-12)
        ones.append(one[use])
        twos.append(two[use])
        release(embeddings)
    one, two = np.concatenate(ones), np.concatenate(twos)
    codes = np.unique(np.r_[one * len(rows) + two, two * len(rows) + one])
    return codes // len(rows), codes % len(rows)


def _compare_crops(
    pictures: np.ndarray,
    vectors: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    parts: _Parts,
) -> None:
    """Link pictures that are a crop or the mirror image of a neighbour."""
    one, two = pairs
    for start in range(0, len(one), _BLOCK):
        left, right = one[start : start + _BLOCK], two[start : start + _BLOCK]
        new = parts.labels[left] != parts.labels[right]
        left, right = left[new], right[new]
        if not len(left):
            continue
        own, places = np.unique(left, return_inverse=True)
        cropped = _crops(pictures[own])
        best = np.einsum("pwc,pc->pw", cropped[places], vectors[right]).max(axis=1)
        flipped = _unit(pictures[left][:, :, ::-1])
        mirror = np.einsum("pc,pc->p", flipped, _unit(pictures[right]))
        alike = (best >= _MIN_COSINE) | (mirror >= _MIN_FINE_COSINE)
        parts.link(left[alike], right[alike])


def _near(
    embeddings: np.ndarray,
    neighbors: np.ndarray,
    pictures: np.ndarray,
    origins: np.ndarray,
) -> list[np.ndarray]:
    """Groups of rows that show nearly the same; of identical ones only the first."""
    rows = np.flatnonzero(origins == np.arange(len(origins)))
    place = np.searchsorted(rows, origins)
    own = pictures if len(rows) == len(pictures) else pictures[rows]
    vectors = np.concatenate(
        [_unit(_coarse(own[s : s + 4096])) for s in range(0, len(own), 4096)]
    )
    deviations = np.concatenate(
        [_coarse(own[s : s + 4096]).std(axis=(1, 2)) for s in range(0, len(own), 4096)]
    )
    faint = np.sqrt((deviations**2).mean(axis=1)) < _FAINT
    parts = _Parts(len(rows))
    _compare_whole(own, vectors, faint, parts)
    table = _distinct_neighbors(embeddings, neighbors, rows, place)
    pairs = _candidates(embeddings, table, rows, vectors, faint)
    _compare_crops(own, vectors, pairs, parts)
    return [rows[group] for group in parts.groups()]


def _identical(
    embeddings: np.ndarray,
    digests: np.ndarray | None,
    same_content: Callable[[int, int], bool],
) -> list[np.ndarray]:
    """Rows of equal content, by their digests.

    Without these, equal embeddings propose: that is no proof.
    """
    known = digests is not None
    if digests is None:
        digests = np.empty((len(embeddings), 16), np.uint8)
        for block in row_blocks(embeddings):
            for row, embedding in enumerate(embeddings[block], block.start):
                digest = hashlib.blake2b(embedding.tobytes(), digest_size=16).digest()
                digests[row] = np.frombuffer(digest, np.uint8)
    _, first, labels = np.unique(
        np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel(),
        return_index=True,
        return_inverse=True,
    )
    begin = first[labels]
    again = np.flatnonzero(begin != np.arange(len(begin)))
    if not known:
        rows = again.tolist()
        same = [same_content(int(begin[row]), row) for row in rows]
        again = again[np.array(same, bool)]
    parts = _Parts(len(embeddings))
    parts.link(begin[again], again)
    return parts.groups()


def _group(
    kind: str,
    rows: np.ndarray,
    embeddings: np.ndarray,
    measure: Callable[[int], FileSize],
) -> DuplicateGroup:
    """Put together what is said of a group."""
    members = tuple(rows.tolist())
    sizes = tuple(measure(row) for row in members)
    best = max(
        range(len(members)),
        key=lambda i: (sizes[i].width * sizes[i].height, sizes[i].num_bytes, -i),
    )
    if kind == "identical":
        return DuplicateGroup(kind, members, 1.0, members[best], sizes)
    vectors = embeddings[rows].astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    lowest = float(np.delete(vectors @ vectors[best], best).min())
    return DuplicateGroup(kind, members, lowest, members[best], sizes)


def find_duplicates(
    embeddings: Float[np.ndarray, "n d"],
    neighbors: Int[np.ndarray, "n r"],
    pictures: UInt8[np.ndarray, "n 16 16 3"] | None,
    *,
    digests: UInt8[np.ndarray, "n b"] | None,
    same_content: Callable[[int, int], bool],
    measure: Callable[[int], FileSize],
) -> tuple[DuplicateGroup, ...]:
    """Find images of the same content, and those that show nearly the same.

    Memory grows with the images, not with their pairs. Up to 100,000 of them all pairs
    are compared as whole pictures; crops of up to a tenth of an edge, and mirror
    images, are found where they are neighbours by the encoder.

    Args:
      embeddings: One row an image.
      neighbors: Rows of each image's nearest others.
      pictures: Small pictures by :func:`shrink`, one colour where there is none; None
        finds identical ones only.
      digests: What tells contents apart; None compares them where embeddings are
        equal.
      same_content: Whether two rows hold the same picture, bit for bit.
      measure: Size of a row's picture and file.

    Returns:
      Identical ones first, then by falling similarity. A row stands in one group
      of each kind at most; of identical images only the first is compared with
      others, and is the best of them.
    """
    if not len(embeddings):
        return ()
    identical = _identical(embeddings, digests, same_content)
    origins = np.arange(len(embeddings))
    for rows in identical:
        origins[rows] = rows[0]
    found = [_group("identical", rows, embeddings, measure) for rows in identical]
    near = []
    if pictures is not None:
        near = [
            _group("near", rows, embeddings, measure)
            for rows in _near(embeddings, neighbors, pictures, origins)
        ]
    near.sort(key=lambda group: (-group.similarity, group.rows))
    return (*sorted(found, key=lambda group: group.rows), *near)
