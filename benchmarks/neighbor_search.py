"""Recall against time and memory of ways to find the nearest images on a CPU.

python -m benchmarks.neighbor_search --cache=CACHE --images=300000 --jitter=0.5,1

Rows are made as benchmarks.scale makes them: real embeddings on their first axes,
drawn with replacement and jittered; ``--jitter=0`` takes the real ones as they are.
Each way finds 20 other rows for every row, in a process of its own that imports,
builds, compiles and searches; recall is that of 2,000 rows against all. The libraries
are those of the extra ``peers``; without one its way ends with its error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

__all__ = ["WAYS", "main"]

_NEIGHBORS = 20
_JUDGED = 2_000


def _exact(rows: np.ndarray, _: float) -> np.ndarray:
    from mca_jax.core.parallel import HostRows
    from mca_jax.neighbors.exact import image_neighbors

    found = image_neighbors(HostRows(rows, 65_536), num_neighbors=_NEIGHBORS)
    return np.asarray(found.indices)


def _lists(rows: np.ndarray, probes: float) -> np.ndarray:
    import jax

    from mca_jax.core.parallel import HostRows
    from mca_jax.neighbors import probe_neighbors

    found = probe_neighbors(
        jax.random.key(0),
        HostRows(rows, 65_536),
        num_neighbors=_NEIGHBORS,
        num_probes=int(probes),
    )
    return np.asarray(found.table.indices)


def _descent(rows: np.ndarray, neighbors: float) -> np.ndarray:
    index = import_module("pynndescent").NNDescent(
        rows,
        metric="dot",
        n_neighbors=int(neighbors),
        random_state=0,
        n_jobs=os.cpu_count(),
    )
    return index.neighbor_graph[0]


def _ivf(rows: np.ndarray, probes: float) -> np.ndarray:
    faiss = import_module("faiss")
    lists = int(np.sqrt(len(rows)))
    flat = faiss.IndexFlatIP(rows.shape[1])
    index = faiss.IndexIVFFlat(flat, rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.train(rows)
    index.add(rows)
    index.nprobe = int(probes)
    return index.search(rows, _NEIGHBORS + 1)[1]


def _hnsw(rows: np.ndarray, depth: float) -> np.ndarray:
    faiss = import_module("faiss")
    index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    index.hnsw.efSearch = int(depth)
    index.add(rows)
    return index.search(rows, _NEIGHBORS + 1)[1]


def _usearch(rows: np.ndarray, depth: float) -> np.ndarray:
    index = import_module("usearch.index").Index(
        ndim=rows.shape[1], metric="ip", expansion_search=int(depth)
    )
    ids = np.arange(len(rows))
    index.add(ids, rows, threads=os.cpu_count() or 1)
    found = index.search(rows, _NEIGHBORS + 1, threads=os.cpu_count() or 1)
    return found.keys.astype(np.int64)


WAYS: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...]]] = {
    "exact": (_exact, (0,)),
    "inverted lists": (_lists, (24, 48, 56)),
    "pynndescent": (_descent, (20, 30)),
    "faiss IVF": (_ivf, (24, 48)),
    "faiss HNSW": (_hnsw, (32, 96)),
    "usearch": (_usearch, (64, 128)),
}
"""Each way, and the settings it is tried with."""


def _work(name: str, path: str, setting: float, out: str) -> None:
    """Search in a process of its own, and leave what it took."""
    from benchmarks.runs import held_gib, peak_gib, reset_peak

    rows = np.load(path)
    reset_peak()
    before = held_gib()
    started, worked = time.perf_counter(), time.process_time()
    found = WAYS[name][0](rows, setting)
    took = time.perf_counter() - started, time.process_time() - worked
    np.savez(out, found=found, took=took, peak=peak_gib() - before)


def _truth(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    judged = np.random.default_rng(0).permutation(len(rows))[:_JUDGED]
    scores = rows[judged] @ rows.T
    scores[np.arange(len(judged)), judged] = -np.inf
    return judged, np.argpartition(-scores, _NEIGHBORS)[:, :_NEIGHBORS]


def _recall(found: np.ndarray, judged: np.ndarray, truth: np.ndarray) -> float:
    shares = []
    for row, true in zip(judged, truth, strict=True):
        others = [other for other in found[row].tolist() if other != row]
        shares.append(len(set(others[:_NEIGHBORS]) & set(true.tolist())) / _NEIGHBORS)
    return float(np.mean(shares))


def _rows(cache: str, width: int, count: int, jitter: float) -> np.ndarray:
    from benchmarks.scale import _real_seeds

    seeds = _real_seeds(cache, width, jitter)
    if not jitter:
        return np.ascontiguousarray(seeds.rows, np.float32)
    random = np.random.default_rng(0)
    drawn = seeds.rows[random.integers(0, len(seeds.rows), count)]
    noise = random.normal(size=drawn.shape).astype(np.float32) @ seeds.spread
    moved = drawn + noise
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return np.ascontiguousarray(moved, np.float32)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--jitter", default="0.5,1")
    parser.add_argument("--only", default=",".join(WAYS))
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("| rows | jitter | way | setting | recall | seconds | CPU s | GiB more |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path, out = str(Path(folder, "rows.npy")), str(Path(folder, "found.npz"))
        for jitter in map(float, options.jitter.split(",")):
            rows = _rows(options.cache, options.width, options.images, jitter)
            np.save(path, rows)
            judged, truth = _truth(rows)
            for name in options.only.split(","):
                for setting in WAYS[name][1]:
                    Path(out).unlink(missing_ok=True)
                    process = context.Process(
                        target=_work, args=(name, path, setting, out)
                    )
                    process.start()
                    process.join()
                    if not Path(out).exists():
                        print(f"{name} ended with {process.exitcode}", flush=True)
                        continue
                    with np.load(out) as file:
                        recall = _recall(file["found"], judged, truth)
                        seconds, worked = file["took"]
                        print(
                            f"| {len(rows)} | {jitter:g} | {name} | {setting:g} "
                            f"| {recall:.3f} | {seconds:.1f} | {worked:.1f} "
                            f"| {float(file['peak']):.2f} |",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
