"""The map of the images: which points, where, and what the page says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from mca_jax.core.text import printable
from mca_jax.model.result import ClusterResult
from mca_jax.neighbors import apply_projection, fit_projection, image_neighbors
from mca_jax.report.images import SHEET_COLUMNS
from mca_jax.report.layout import lay_out

__all__ = [
    "ImageMap",
    "choose_points",
    "find_neighbors",
    "make_map",
    "map_context",
]

_MOST_POINTS = 10_000
_NEIGHBORS = 20
# Coordinates are whole numbers on the page; finer than any screen.
_UNITS = 10_000
_LABEL_CELLS = 40
_LABEL_BLUR = 1.5


class ImageMap(NamedTuple):
    """Positions of images on a plane.

    Attributes:
      rows: Rows of the images, ascending, int64 ``[m]``.
      positions: Their coordinates, whole numbers from 0, the longer side of the map
        10,000 wide, int64 ``[m, 2]``; the second runs down.
      total: Number of images of the run; more than ``m`` if a part is shown.
    """

    rows: Int[np.ndarray, " m"]
    positions: Int[np.ndarray, "m 2"]
    total: int


def find_neighbors(embeddings: Float[np.ndarray, "n d"]) -> Int[np.ndarray, "n r"]:
    """Find each image's up to 20 nearest others, nearest first, on the main axes."""
    if len(embeddings) < 2:
        return np.zeros((len(embeddings), 0), np.int32)
    # As for training: whitened in as many directions as there are images, all
    # would be equally far from each other.
    axes = max(2, min(64, len(embeddings) // 8))
    vectors = jnp.asarray(embeddings, jnp.float32)
    projected = apply_projection(fit_projection(vectors, components=axes), vectors)
    return np.asarray(image_neighbors(projected, num_neighbors=_NEIGHBORS).indices)


def choose_points(result: ClusterResult, *, seed: int) -> Int[np.ndarray, " m"]:
    """Choose the images that the map shows.

    Returns:
      All rows if they are at most 10,000, else as many drawn at random by ``seed``,
      and the image nearest to the centre of each cluster.
    """
    count = len(result.paths)
    if count <= _MOST_POINTS:
        return np.arange(count)
    central = [each.exemplars[0] for each in result.clusters if each.exemplars]
    drawn = np.random.default_rng(seed).choice(count, _MOST_POINTS, replace=False)
    return np.unique(np.concatenate([np.asarray(central, np.int64), drawn]))


def make_map(
    result: ClusterResult, neighbors: Int[np.ndarray, "n r"], *, seed: int
) -> ImageMap:
    """Lay the images of a run out on a plane; equal arguments give equal maps.

    Args:
      result: What a run returned.
      neighbors: Rows of each image's nearest others; found anew, among the images
        shown, where only a part is shown.
      seed: Seed of the part that is shown and of the layout, at least 0.
    """
    rows = choose_points(result, seed=seed)
    embeddings = result.embeddings[rows].astype(np.float32)
    if len(rows) < len(result.paths):
        neighbors = find_neighbors(embeddings)
    positions = lay_out(embeddings, neighbors, seed=seed)
    low = positions.min(axis=0) if len(positions) else np.zeros(2)
    width = float((positions - low).max()) if len(positions) else 1.0
    scaled = np.rint((positions - low) * (_UNITS / max(width, 1e-9))).astype(np.int64)
    return ImageMap(rows, scaled, len(result.paths))


def _label_positions(
    image_map: ImageMap, assignments: Int[np.ndarray, " m"], count: int
) -> list[list[int]]:
    """For each cluster the position of an image where it is densest, or nothing."""
    found: list[list[int]] = []
    edges = np.linspace(0, _UNITS + 1, _LABEL_CELLS + 1)
    centers = (edges[1:] + edges[:-1]) / 2
    for index in range(count):
        positions = image_map.positions[assignments == index]
        if not len(positions):
            found.append([])
            continue
        crowd, _, _ = np.histogram2d(*positions.T, bins=(edges, edges))
        blurred = ndimage.gaussian_filter(crowd, _LABEL_BLUR, mode="constant")
        peak = centers[list(np.unravel_index(blurred.argmax(), blurred.shape))]
        apart = ((positions - peak) ** 2).sum(axis=1)
        found.append(positions[apart.argmin()].tolist())
    return found


def map_context(
    result: ClusterResult,
    image_map: ImageMap,
    *,
    tile_rows: Sequence[int],
    edge: int,
    sheets: Sequence[str],
) -> dict[str, Any]:
    """Collect what the page says of each point; ``data`` is plain JSON.

    ``tile_rows`` are the rows with a tile, in the order of the tiles, which are
    ``edge`` pixels wide on ``sheets`` at these addresses.
    """
    rows = image_map.rows
    assignments = result.assignments[rows]
    slots = {row: slot for slot, row in enumerate(tile_rows)}
    labels = _label_positions(image_map, assignments, len(result.clusters))
    sizes = np.bincount(assignments, minlength=len(result.clusters))
    names = [printable(cluster.name) for cluster in result.clusters]
    shown, total = len(rows), image_map.total
    text = f"All {total:,} images"
    if shown < total:
        part = f"{100 * shown / total:.1f}%"
        text = f"{shown:,} of {total:,} images ({part}), drawn at random"
    return {
        "text": text,
        "pictured": len(tile_rows),
        "missing": len(rows) - len(tile_rows),
        "clusters": [
            (index, names[index])
            for index in np.argsort(-sizes, kind="stable").tolist()
            if sizes[index]
        ],
        "data": {
            "edge": edge,
            "columns": SHEET_COLUMNS,
            "sheets": list(sheets),
            "x": image_map.positions[:, 0].tolist(),
            "y": image_map.positions[:, 1].tolist(),
            "cluster": assignments.tolist(),
            "confidence": np.rint(100 * result.confidences[rows]).astype(int).tolist(),
            "tile": [slots.get(row, -1) for row in rows.tolist()],
            "path": [printable(result.paths[row]) for row in rows.tolist()],
            "names": names,
            "sizes": sizes.tolist(),
            "labels": labels,
        },
    }
