"""Time and peak memory of each stage from embeddings to clusters, by size.

python -m benchmarks.scale --images=50000 --width=512 --clusters=100

The embeddings are synthetic: unit vectors around as many centres as clusters are
asked for, with nouns around the same centres and others around none. They say how
the stages grow, nothing of quality.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from mca_jax.config import Config, apply_overrides
from mca_jax.neighborhood import find_neighborhood
from mca_jax.parallel import HostRows, mesh_of, place_rows
from mca_jax.retrieval import spherical_kmeans
from mca_jax.semantics import build_semantic_space
from mca_jax.semantics.vocabulary import parse_vocabulary
from mca_jax.stages import (
    gather_data,
    place_embeddings,
    project,
    read_prepared,
    split_key,
    train_heads,
)

__all__ = ["main"]

_BLOCK = 65_536
_NOISE = 1.0
_GIB = 2**30


def _peak_gib() -> float:
    """Largest resident memory so far; the system counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB


class _Stages:
    """Seconds and peak memory of each stage, printed as they end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | str]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds, peak = time.perf_counter() - start, _peak_gib()
        row = {"stage": name, "seconds": round(seconds, 2), "peak_gib": round(peak, 2)}
        self.rows.append(row)
        print(f"{name:<22}{seconds:9.1f} s{peak:9.2f} GiB", flush=True)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _write_images(path: Path, centers: np.ndarray, count: int) -> np.ndarray:
    """Write vectors around the centres block by block; return the file's map."""
    shape = (count, centers.shape[1])
    table = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    random = np.random.default_rng(1)
    scale = _NOISE / np.sqrt(shape[1])
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        noise = random.normal(size=(len(rows), shape[1])) * scale
        table[rows] = _unit(centers[rows % len(centers)] + noise)
    table.flush()
    del table
    return np.load(path, mmap_mode="r")


def _make_nouns(centers: np.ndarray, count: int) -> np.ndarray:
    """Half the nouns around the centres, the others anywhere."""
    random = np.random.default_rng(2)
    scale = _NOISE / np.sqrt(centers.shape[1])
    nouns = random.normal(size=(count, centers.shape[1])).astype(np.float32) * scale
    near = np.arange(count // 2)
    nouns[near] += centers[near % len(centers)]
    return _unit(nouns)


def _run(stages: _Stages, images: np.ndarray, nouns: np.ndarray, config: Config) -> str:
    """Do the whole job; say where the images were."""
    table = parse_vocabulary("\n".join(f"noun{i}" for i in range(len(nouns))), "nouns")
    keys = split_key(config.seed)
    with stages.stage("place and project"):
        placed = place_embeddings(images, config)
        projected = project(placed, jax.numpy.asarray(nouns), config)
        del placed
    mesh = mesh_of(projected.images)
    with stages.stage("neighbours"):
        near = find_neighborhood(projected.images, config)
        jax.block_until_ready(near.neighbors.indices)
    with stages.stage("k-means"):
        kmeans = spherical_kmeans(
            keys.kmeans,
            near.images,
            num_clusters=config.num_clusters,
            num_restarts=config.retrieval.kmeans_restarts,
            sample_size=max(config.retrieval.kmeans_sample, config.num_clusters),
        )
        jax.block_until_ready(kmeans.centers)
    with stages.stage("semantic space"):
        space = build_semantic_space(
            table,
            projected.nouns if mesh is None else place_rows(projected.nouns, mesh),
            kmeans.centers,
            nouns_per_center=config.semantics.nouns_per_center,
        )
    with stages.stage("nouns of images"):
        prepared = gather_data(near.images, kmeans, space, config, near)
    with stages.stage("training"):
        trained = train_heads(keys.training, prepared, config)
    with stages.stage("read-out"):
        read_prepared(trained, prepared)
    recall = near.recall
    found = "exact" if recall is None else f"recall {recall:.3f}"
    place = "host" if isinstance(near.images, HostRows) else "device"
    return f"images on the {place}, neighbours {found}, {len(space.rows)} nouns kept"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print a line for each stage.

    Args:
      argv: Arguments; None takes those of the command line.

    Returns:
      Exit status 0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--nouns", type=int, default=82_115)
    parser.add_argument("--set", action="append", default=[], help="train.epochs=3")
    parser.add_argument("--folder", default=None, help="for the embeddings' file")
    parser.add_argument("--json", default=None, help="file for the numbers")
    given = parser.parse_args(argv)
    config = apply_overrides(Config(num_clusters=given.clusters), given.set)
    random = np.random.default_rng(0)
    centers = _unit(random.normal(size=(given.clusters, given.width)))
    stages = _Stages()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        images = _write_images(Path(folder) / "images.npy", centers, given.images)
        nouns = _make_nouns(centers, given.nouns)
        made = time.perf_counter() - start
        print(f"{given.images} x {given.width} made in {made:.1f} s", flush=True)
        start = time.perf_counter()
        about = _run(stages, images, nouns, config)
    seconds = time.perf_counter() - start
    print(f"whole job {seconds:.1f} s, peak {_peak_gib():.2f} GiB; {about}")
    if given.json:
        numbers = {"arguments": vars(given), "stages": stages.rows, "about": about}
        Path(given.json).write_text(json.dumps(numbers, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
