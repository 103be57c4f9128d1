"""Scores of the main job over seeds, on a folder whose sub-folders are classes.

python -m benchmarks.cluster_quality --images=DIR --cache=DIR --seeds=5
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

import mca_jax
from mca_jax.data import folder_labels

__all__ = ["main"]


def main() -> None:
    """Cluster once a seed and print mean, deviation, time and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(arguments.seeds):
        config = mca_jax.apply_overrides(
            mca_jax.Config(), [f"seed={seed}", *arguments.set]
        )
        classes = len([path for path in arguments.images.iterdir() if path.is_dir()])
        started = time.monotonic()
        result = mca_jax.cluster(
            arguments.images,
            num_clusters=classes,
            config=config,
            cache_dir=arguments.cache,
            baselines=["consistency_only"],
        )
        seconds = time.monotonic() - started
        labels, names = folder_labels(result.paths)
        scored = mca_jax.score_result(result, labels, names).metrics["scores"]
        for method, score in scored.items():
            rows.setdefault(method, []).append(
                (score["acc"], score["nmi"], score["ari"])
            )
        print(f"seed {seed}: {seconds:.1f} s, {scored['mca']}", flush=True)
    for method, scores in rows.items():
        values = 100 * np.array(scores)
        mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
        shown = [f"{m:.1f} ({d:.1f})" for m, d in zip(mean, deviation, strict=True)]
        print(f"| {method} | {' / '.join(shown)} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
