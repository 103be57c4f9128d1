"""Duplicates among made-up bursts: recall, precision, time and memory.

python -m benchmarks.duplicates --photos=DIR --count=520
python -m benchmarks.duplicates --rows=50000
python -m benchmarks.duplicates --photos=DIR --count=520 --peer=PYTHON --fastdup=PYTHON
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from mca_jax.data import find_images
from mca_jax.encoders import build_encoder
from mca_jax.encoders.embed_images import embed_images
from mca_jax.neighbors import image_neighbors
from mca_jax.report.duplicates import FileSize, find_duplicates, shrink

__all__ = ["main"]

# Each prints, for every file, the names of those that it takes for the same.
_PHASH = """
import json, sys
from imagededup.methods import PHash
method = PHash(verbose=False)
codes = method.encode_images(image_dir=sys.argv[1])
found = method.find_duplicates(encoding_map=codes, max_distance_threshold=10)
print(json.dumps(found))
"""
_FASTDUP = """
import json, os, sys, tempfile, fastdup
found = {}
with tempfile.TemporaryDirectory() as folder:
    job = fastdup.create(work_dir=folder, input_dir=sys.argv[1])
    job.run(threshold=0.5, print_summary=False)
    pairs = job.similarity()
    pairs = pairs[pairs.distance >= 0.9]
    for one, two in zip(pairs.filename_from, pairs.filename_to):
        found.setdefault(os.path.basename(one), []).append(os.path.basename(two))
print()
print(json.dumps(found))
"""


def _copies(picture: Image.Image) -> Sequence[tuple[Image.Image, int]]:
    """Five files of one picture: smaller, more compressed, and two of them cut."""
    width, height = picture.size
    cut = picture.crop((width // 20, height // 20, width - width // 20, height))
    side = picture.crop((width // 10, 0, width, height))
    return (
        (picture, 90),
        (picture.resize((width * 3 // 4, height * 3 // 4)), 60),
        (picture.resize((width // 3, height // 3)), 75),
        (cut, 80),
        (side.resize((width * 7 // 10, height * 7 // 10)), 70),
    )


def _make_bursts(photos: Path, out: Path, count: int) -> None:
    """Write five files of each of some photographs; names begin with the group."""
    names = find_images(photos).paths
    for number, row in enumerate(np.linspace(0, len(names) - 1, count).astype(int)):
        with Image.open(photos / names[row]) as picture:
            upright = picture.convert("RGB")
        for each, (copy, quality) in enumerate(_copies(upright)):
            copy.save(out / f"g{number:05}_{each}.jpg", quality=quality)


def _score(groups: Sequence[Sequence[int]], truth: np.ndarray) -> str:
    """Recall and precision over pairs, and how many groups are whole."""
    found = right = 0
    for rows in groups:
        sizes = np.unique(truth[list(rows)], return_counts=True)[1]
        found += len(rows) * (len(rows) - 1) // 2
        right += int((sizes * (sizes - 1) // 2).sum())
    sizes = np.bincount(truth)
    wanted = int((sizes * (sizes - 1) // 2).sum())
    largest = {}
    for rows in groups:
        for group, size in zip(
            *np.unique(truth[list(rows)], return_counts=True), strict=True
        ):
            largest[group] = max(largest.get(group, 0), size)
    whole = sum(largest.get(group, 0) == size for group, size in enumerate(sizes))
    return (
        f"recall {right / wanted:.4f}, precision {right / max(found, 1):.4f}, "
        f"{whole} of {len(sizes)} groups whole"
    )


def _memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB peak"


def _files(photos: Path, count: int, peers: dict[str, tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_bursts(photos, folder, count)
        embedded = embed_images(build_encoder("lite"), folder)
        neighbors = image_neighbors(jnp.asarray(embedded.embeddings)).indices
        truth = np.array([int(path[1:6]) for path in embedded.paths])
        started = time.perf_counter()
        pictures = np.stack([shrink(Image.open(folder / p)) for p in embedded.paths])
        read = time.perf_counter() - started
        started = time.perf_counter()
        groups = find_duplicates(
            embedded.embeddings,
            np.asarray(neighbors),
            pictures,
            digests=embedded.digests,
            same_content=lambda one, two: False,
            measure=lambda row: FileSize(0, 0, 0),
        )
        spent = time.perf_counter() - started
        scored = _score([group.rows for group in groups], truth)
        print(
            f"{len(truth)} files: {scored}; read in {read:.1f} s, compared in "
            f"{spent:.1f} s; {_memory()}"
        )
        for name, peer in peers.items():
            print(f"{name}: {_run_peer(*peer, folder, embedded.paths, truth)}")


def _run_peer(
    python: str, code: str, folder: Path, paths: Sequence[str], truth: np.ndarray
) -> str:
    """Score a peer's pairs, joined to groups as ours are."""
    started = time.perf_counter()
    done = subprocess.run(
        [python, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    spent = time.perf_counter() - started
    rows = {path: row for row, path in enumerate(paths)}
    label = np.arange(len(paths))
    for name, others in json.loads(done.stdout.splitlines()[-1]).items():
        for other in others:
            label[label == label[rows[other]]] = label[rows[name]]
    groups = [np.flatnonzero(label == each) for each in np.unique(label)]
    groups = [group.tolist() for group in groups if len(group) > 1]
    return f"{_score(groups, truth)}; {spent:.1f} s in all"


def _rows(count: int) -> None:
    """Groups of five among made-up small pictures and embeddings."""
    random = np.random.default_rng(0)
    truth = np.arange(count) // 5
    scenes = random.integers(0, 256, (truth[-1] + 1, 4, 4, 3)).astype(np.float32)
    pictures = np.zeros((count, 16, 16, 3), np.uint8)
    for start in range(0, count, 8192):
        large = scenes[truth[start : start + 8192]].repeat(4, axis=1).repeat(4, axis=2)
        large += random.normal(scale=6, size=large.shape)
        pictures[start : start + 8192] = large.clip(0, 255)
    embeddings = random.normal(size=(len(scenes), 128)).astype(np.float32)[truth]
    embeddings += random.normal(scale=0.3, size=embeddings.shape).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    neighbors = (np.arange(count)[:, None] + np.arange(1, 21)) % count
    before = _memory()
    started = time.perf_counter()
    groups = find_duplicates(
        embeddings,
        neighbors,
        pictures,
        digests=None,
        same_content=lambda one, two: False,
        measure=lambda row: FileSize(0, 0, 0),
    )
    spent = time.perf_counter() - started
    scored = _score([group.rows for group in groups], truth)
    print(f"{count} rows: {scored}; {spent:.1f} s; {_memory()}, {before} before")


def main() -> None:
    """Make bursts, search them and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=520)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--peer", help="a Python that has imagededup")
    parser.add_argument("--fastdup", help="a Python that has fastdup")
    options = parser.parse_args()
    peers = {}
    if options.peer is not None:
        peers["imagededup, PHash"] = (options.peer, _PHASH)
    if options.fastdup is not None:
        peers["fastdup"] = (options.fastdup, _FASTDUP)
    if options.photos is not None:
        _files(options.photos, options.count, peers)
    if options.rows:
        _rows(options.rows)


if __name__ == "__main__":
    main()
