r"""Time and peak memory of the whole job from embeddings to written files, by size.

python -m benchmarks.scale --images=2000,10000,100000 --clusters=40 --cache=CACHE
python -m benchmarks.scale --images=1000000 --cache=CACHE --set=train.epochs=2 \
  --set=train.batch_size=4096 --set=retrieval.kmeans_restarts=2 \
  --set=losses.prior=uniform --set=semantics.nouns_per_center=320

Of each stage: seconds, processor seconds, those of tracing and compiling among them,
GB read and written through files, and memory. Functions are compiled anew unless jax
is told of a folder that keeps them (JAX_COMPILATION_CACHE_DIR).

Embeddings are made from real ones: `CACHE` is a folder of embeddings that a run of
the launcher left (take a copy). Rows are drawn from it with replacement and jittered
by Gaussian noise of the real rows' own covariance times `--jitter` squared; then they
are unit vectors again. Before, images and nouns move to the `--width` axes that hold
most of the real images, the first right singular vectors of their table: real
embeddings are another width. So copies of one image are neighbours, not equals, and
the set has the spread and the axes of the real one; it has no more than its kinds of
images. The vocabulary is the real one, as the same encoder embeds it. Without
`--cache` all is made up: unit vectors around as many centres as clusters are asked
for, with nouns around the same centres and others around none.

The images are a `.npy` file, opened memory-mapped as a user's may be. The job is that
of the launchers without their encoder: `mca_jax.cluster` with checkpoints, and
`write_outputs`. Each of several sizes gets a process of its own: peak memory is the
process's, as the system counts it, pages of mapped files that it holds among them.

`--peer=faiss-kmeans` (or evoc, umap-hdbscan and what else benchmarks.peers has)
clusters the same rows by another's program instead, and says how long that took;
nouns, names, confidences and files are not among it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import mca_jax
from benchmarks.peers import PEERS, run_peer
from benchmarks.runs import held_gib, peak_gib, reset_peak
from mca_jax.encoders import build_encoder
from mca_jax.encoders.cache.embedding_cache import EmbeddingCache
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.report.write import write_outputs
from mca_jax.semantics import NounTable, load_nouns
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

__all__ = ["main"]

_BLOCK = 65_536
_NOISE = 1.0
_COMPILING = {
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
}


class _Seeds(NamedTuple):
    """What a set of any size is made from: images are drawn from ``rows``.

    ``spread`` is a factor of the jitter's covariance, ``[d, d]``.
    """

    rows: np.ndarray
    spread: np.ndarray
    nouns: np.ndarray
    table: NounTable
    about: str


class _Spent(NamedTuple):
    """What a process has used so far.

    Attributes:
      seconds: By the clock.
      worked: Of all processors.
      compiled: In which jax traced, lowered and compiled, or read what was compiled.
      moved: GB read and written through files; mapped pages are not among them.
    """

    seconds: float
    worked: float
    compiled: float
    moved: float


class _Stages:
    """A callback that records what each stage takes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.peak = 0.0
        self._stage, self._compiled = "", 0.0
        self._before = self._spent()
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event in _COMPILING:
            self._compiled += duration_secs

    def _spent(self) -> _Spent:
        io = dict(
            line.split(": ") for line in Path("/proc/self/io").read_text().splitlines()
        )
        moved = (int(io["rchar"]) + int(io["wchar"])) / 1e9
        return _Spent(time.perf_counter(), time.process_time(), self._compiled, moved)

    def start(self, stage: str, total: int | None) -> None:
        self.stop()
        reset_peak()
        self._stage, self._before = stage, self._spent()

    def advance(self, count: int) -> None:
        pass

    def log(self, event: str, values: dict[str, Any]) -> None:
        if event == "warning":
            print(f"warning: {values}", flush=True)

    def stop(self) -> None:
        """End the stage, if one is running."""
        if not self._stage:
            return
        peak = peak_gib()
        spent = _Spent(*np.subtract(self._spent(), self._before).tolist())
        self.peak = max(self.peak, peak)
        held = held_gib()
        row = {
            "stage": self._stage,
            "seconds": round(spent.seconds, 1),
            "cpu_seconds": round(spent.worked, 1),
            "compiling_seconds": round(spent.compiled, 1),
            "moved_gb": round(spent.moved, 2),
            "peak_gib": round(peak, 2),
            "anonymous_at_end_gib": round(held, 2),
        }
        self.rows.append(row)
        print(
            f"{self._stage:<20}{spent.seconds:8.1f} s {spent.worked:8.1f} s of CPU, "
            f"{spent.compiled:6.1f} s compiling, {spent.moved:6.2f} GB moved, peak "
            f"{peak:5.2f} GiB, {held:5.2f} GiB not of files at its end",
            flush=True,
        )
        self._stage = ""


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _real_seeds(folder: str, width: int, jitter: float) -> _Seeds:
    """Real rows and nouns on the axes that hold most of the images."""
    encoder, table = build_encoder("lite"), load_nouns("wordnet")
    key = encoder.image_fingerprint or encoder.fingerprint
    cache = EmbeddingCache(folder, encoder.name, key)
    found = [cache.get(digest) for digest in sorted(cache.digests)]
    if not found:
        raise SystemExit(f"No embeddings of {encoder.name} in {folder!r}")
    real = np.stack([row for row in found if row is not None])
    # Right singular vectors, the strongest first.
    axes = np.linalg.eigh(real.T @ real)[1][:, ::-1][:, :width].astype(np.float32)
    rows = real @ axes
    kept = float((rows**2).sum() / (real**2).sum())
    nouns = embed_nouns(encoder, table.names, table.synsets).embeddings @ axes
    variances, directions = np.linalg.eigh(np.cov(_unit(rows).T))
    spread = directions * np.sqrt(np.maximum(variances, 0.0)) * jitter
    about = (
        f"{len(real)} real embeddings, {real.shape[1]} wide, on their {width} first "
        f"axes ({100 * kept:.1f} % of their squared length); drawn with replacement, "
        f"jitter {jitter} of their standard deviation on every axis"
    )
    return _Seeds(_unit(rows), spread.T.astype(np.float32), _unit(nouns), table, about)


def _made_up_seeds(clusters: int, width: int, nouns: int) -> _Seeds:
    """Centres, and half the nouns around them, the others anywhere."""
    random = np.random.default_rng(0)
    centers = _unit(random.normal(size=(clusters, width))).astype(np.float32)
    scale = _NOISE / np.sqrt(width)
    vectors = random.normal(size=(nouns, width)).astype(np.float32) * scale
    near = np.arange(nouns // 2)
    vectors[near] += centers[near % clusters]
    spread = np.eye(width, dtype=np.float32) * scale
    names = "\n".join(f"noun{index}" for index in range(nouns))
    table = parse_vocabulary(names, "nouns")
    return _Seeds(centers, spread, _unit(vectors), table, "made-up embeddings")


def _write_images(path: Path, seeds: _Seeds, count: int) -> np.ndarray:
    """Write jittered vectors block by block; return the file's map."""
    random = np.random.default_rng(1)
    width = seeds.rows.shape[1]
    table = np.lib.format.open_memmap(path, "w+", np.float32, (count, width))
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        drawn = seeds.rows[random.integers(len(seeds.rows), size=size)]
        noise = random.standard_normal((size, width), np.float32) @ seeds.spread
        table[start : start + size] = _unit(drawn + noise)
    table.flush()
    del table
    return np.load(path, mmap_mode="r")


def _run(
    stages: _Stages, images: np.ndarray, seeds: _Seeds, config: Config, workdir: Path
) -> str:
    """Do the whole job; say what came out."""
    result = mca_jax.cluster(
        image_embeddings=images,
        noun_embeddings=seeds.nouns,
        nouns=seeds.table,
        config=config,
        checkpoint_dir=workdir / "checkpoints",
        callback=stages,
    )
    stages.start("Writing", None)
    written = write_outputs(result, workdir)
    stages.stop()
    size = sum(path.stat().st_size for path in written.values()) / 1e9
    measured = result.metrics["label_free"]
    recall = measured.get("neighbor_recall")
    found = "exact" if recall is None else f"approximate, recall {recall:.3f}"
    used = sum(1 for each in result.clusters if each.size)
    return (
        f"neighbours {found}; {result.audit['kept']} nouns kept of "
        f"{len(seeds.table.names)}; {used} clusters used; training {result.status} "
        f"after {len(result.history)} epochs; {size:.2f} GB written"
    )


def _faiss_kmeans(rows: np.ndarray, clusters: int) -> np.ndarray:
    """Faiss's spherical k-means of all rows, twenty-five iterations as it has them."""
    faiss = import_module("faiss")
    most = -(-len(rows) // clusters)
    means = faiss.Kmeans(
        rows.shape[1], clusters, spherical=True, seed=0, max_points_per_centroid=most
    )
    means.train(rows)
    return means.assign(rows)[1]


def _run_other(stages: _Stages, name: str, images: np.ndarray, clusters: int) -> str:
    """Let a peer cluster the rows; say what came out."""
    stages.start(name, None)
    rows = np.asarray(images)
    if name == "faiss-kmeans":
        found = _faiss_kmeans(rows, clusters)
    else:
        found = run_peer(name, rows, num_clusters=clusters, seed=0)
    stages.stop()
    return f"{name}: {len(np.unique(found))} groups"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="1000000", help="or several: 2000,10000")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--cache", default=None, help="of a run, or made-up vectors")
    parser.add_argument("--jitter", type=float, default=0.5)
    parser.add_argument("--nouns", type=int, default=82_115, help="made-up ones")
    parser.add_argument(
        "--memory", type=float, default=8.0, help="GiB of the machine that is meant"
    )
    parser.add_argument("--set", action="append", default=[], help="train.epochs=3")
    parser.add_argument("--peer", default=None, choices=["faiss-kmeans", *PEERS])
    parser.add_argument("--folder", default=None, help="for the files of the run")
    parser.add_argument("--json", default=None, help="file for the numbers")
    given = parser.parse_args(argv)
    if "," in given.images:
        rest = [each for each in argv or sys.argv[1:] if "--images" not in each]
        for count in given.images.split(","):
            command = [sys.executable, "-m", "benchmarks.scale", f"--images={count}"]
            subprocess.run([*command, *rest], check=True)
        return 0
    print(f"imports {time.process_time():.1f} s of CPU")
    config = apply_overrides(
        Config(num_clusters=given.clusters),
        # What the default takes on such a machine.
        [f"train.memory_budget_gib={given.memory / 2}", *given.set],
    )
    stages = _Stages()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.cache:
            seeds = _real_seeds(given.cache, given.width, given.jitter)
        else:
            seeds = _made_up_seeds(given.clusters, given.width, given.nouns)
        images = _write_images(Path(folder) / "images.npy", seeds, int(given.images))
        made = time.perf_counter() - start
        print(f"{given.images} x {given.width} made in {made:.1f} s: {seeds.about}")
        workdir = Path(folder) / "OUT"
        workdir.mkdir()
        start = time.perf_counter()
        if given.peer:
            about = _run_other(stages, given.peer, images, given.clusters)
        else:
            about = _run(stages, images, seeds, config, workdir)
    seconds = time.perf_counter() - start
    print(f"whole job {seconds:.1f} s, peak {stages.peak:.2f} GiB; {about}")
    if given.json:
        numbers = {
            "arguments": vars(given),
            "seeds": seeds.about,
            "seconds": round(seconds, 1),
            "peak_gib": round(stages.peak, 2),
            "stages": stages.rows,
            "about": about,
        }
        Path(given.json).write_text(json.dumps(numbers, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
