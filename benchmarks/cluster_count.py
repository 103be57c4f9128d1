"""How far the estimated number of clusters is off, on folders with known classes.

python -m benchmarks.cluster_count --images=DIR --cache=DIR [--images=... --cache=...]

Each set is taken whole with several seeds, then some of its classes, drawn several
times; several sets are also put together, thinned to one size of a class. Classes
are drawn by ``--draws``: 0 and 1 set the constants of the rule, so the default
leaves them out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.sets import load_sets
from mca_jax.neighbors.cluster_count import ClusterCount, estimate_cluster_count
from mca_jax.pipeline.config import Config

__all__ = ["Labelled", "draw_classes", "join_sets", "main", "table_row"]

_FEW_CLASSES = 10
_THINNED = 60


class Labelled(NamedTuple):
    """Embeddings ``[n, d]`` with the class of each, from 0 without gaps."""

    name: str
    embeddings: np.ndarray
    labels: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


def draw_classes(
    given: Labelled, count: int, draw: int, *, most_of_class: int | None = None
) -> Labelled:
    """Keep the images, or ``most_of_class`` of them, of ``count`` drawn classes."""
    random = np.random.default_rng([draw, count])
    rows, labels = [], []
    for label, source in enumerate(random.permutation(given.num_classes)[:count]):
        own = np.flatnonzero(given.labels == source)
        if most_of_class is not None and len(own) > most_of_class:
            own = random.choice(own, most_of_class, replace=False)
        rows.append(own)
        labels.append(np.full(len(own), label))
    order = np.argsort(np.concatenate(rows))
    kept = np.concatenate(rows)[order]
    return Labelled(given.name, given.embeddings[kept], np.concatenate(labels)[order])


def join_sets(sets: Sequence[Labelled]) -> Labelled:
    """Put sets together; classes of different sets are different classes."""
    starts = np.cumsum([0, *(each.num_classes for each in sets)])
    labels = [each.labels + at for each, at in zip(sets, starts, strict=False)]
    return Labelled(
        " + ".join(each.name for each in sets),
        np.concatenate([each.embeddings for each in sets]),
        np.concatenate(labels),
    )


def table_row(
    name: str, classes: int, found: Sequence[ClusterCount], seconds: float
) -> str:
    """Sum up the estimates of one number of classes, as a row of Markdown."""
    errors = [abs(each.num_clusters - classes) for each in found]
    inside = sum(each.low <= classes <= each.high for each in found)
    shown = ", ".join(
        f"{each.num_clusters} ({each.low} to {each.high})" for each in found
    )
    return (
        f"| {name} | {classes} | {shown} | {np.mean(errors):.1f} | "
        f"{inside} of {len(found)} | {seconds:.0f} |"
    )


def _cases(
    sets: Sequence[Labelled], draws: Sequence[int], seeds: int
) -> Iterator[tuple[str, int, list[tuple[int, Labelled]]]]:
    """Name, number of classes, and the seeds and sets to estimate it on."""
    for given in sets:
        classes = given.num_classes
        yield given.name, classes, [(seed, given) for seed in range(seeds)]
        few = classes <= _FEW_CLASSES
        for count in range(5, classes) if few else (5, 10, 15, 20, 30):
            if count < classes:
                chosen = [(draw, draw_classes(given, count, draw)) for draw in draws]
                yield given.name, count, chosen
    if len(sets) > 1:
        union = join_sets(sets)
        for count in (15, 25, 35, 45, union.num_classes):
            if count <= union.num_classes:
                chosen = [
                    (draw, draw_classes(union, count, draw, most_of_class=_THINNED))
                    for draw in draws
                ]
                yield f"{union.name}, {_THINNED} a class", count, chosen
        whole = [(seed, union) for seed in range(seeds)]
        yield f"{union.name}, all", union.num_classes, whole


def main() -> None:
    """Print a table of estimates and errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, action="append", required=True)
    parser.add_argument("--cache", type=Path, action="append", required=True)
    parser.add_argument("--draws", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    loaded = load_sets(arguments.images, arguments.cache, Config())
    sets = [
        Labelled(given.name, given.embeddings, answers.labels)
        for given, answers in loaded
    ]
    del loaded
    print("| set | classes | estimates (interval) | mean error | inside | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, classes, chosen in _cases(sets, arguments.draws, arguments.seeds):
        started = time.monotonic()
        found = [
            estimate_cluster_count(jax.random.key(seed), each.embeddings)
            for seed, each in chosen
        ]
        seconds = (time.monotonic() - started) / len(chosen)
        print(table_row(name, classes, found, seconds), flush=True)


if __name__ == "__main__":
    main()
