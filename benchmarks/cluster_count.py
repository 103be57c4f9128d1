"""How far the estimated number of clusters is off, on folders with known classes.

python -m benchmarks.cluster_count --images=DIR[,DIR] --cache=DIR[,DIR]

Each set is taken whole, then some of its classes, drawn several times; unlike sets
are also put together, some classes of each, thinned to one size of a class. The last
lines sum up by how much the estimates are off and how often the interval holds.
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

__all__ = [
    "Labelled",
    "draw_classes",
    "join_sets",
    "main",
    "summary_row",
    "table_row",
]

_COUNTS = (3, 5, 8, 12, 20, 30)
_THINNED = 60
_MOST_OF_A_SET = 20


class Labelled(NamedTuple):
    """Embeddings ``[n, d]`` with the class of each, from 0 without gaps.

    ``views`` are those of some images of the whole set, ``[s, v, d]``.
    """

    name: str
    embeddings: np.ndarray
    labels: np.ndarray
    views: np.ndarray | None = None

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
    return given._replace(
        embeddings=given.embeddings[kept], labels=np.concatenate(labels)[order]
    )


def join_sets(sets: Sequence[Labelled]) -> Labelled:
    """Put sets together; classes of different sets are different classes."""
    starts = np.cumsum([0, *(each.num_classes for each in sets)])
    labels = [each.labels + at for each, at in zip(sets, starts, strict=False)]
    views = [each.views for each in sets if each.views is not None]
    return Labelled(
        " + ".join(each.name for each in sets),
        np.concatenate([each.embeddings for each in sets]),
        np.concatenate(labels),
        np.concatenate(views) if len(views) == len(sets) else None,
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


def summary_row(kind: str, found: Sequence[tuple[int, ClusterCount]]) -> str:
    """Sum up estimates beside the true numbers, as a row of Markdown.

    Example:
      >>> one = ClusterCount(5, 4, 6, np.arange(2, 9), np.zeros(7), 100)
      >>> summary_row("some", [(6, one), (10, one)])
      '| some | 2 | 1.60 | 1.84 | 50 % | 1.5 |'
    """
    factors = [
        max(each.num_clusters / true, true / each.num_clusters) for true, each in found
    ]
    inside = np.mean([each.low <= true <= each.high for true, each in found])
    width = np.median([each.high / each.low for _, each in found])
    return (
        f"| {kind} | {len(found)} | {np.median(factors):.2f} | "
        f"{np.quantile(factors, 0.8):.2f} | {100 * inside:.0f} % | {width:.1f} |"
    )


def _cases(
    sets: Sequence[Labelled], draws: Sequence[int], unions: int
) -> Iterator[tuple[str, list[Labelled]]]:
    """Kind, and the sets to count the clusters of."""
    for given in sets:
        yield "whole sets", [given]
    for given in sets:
        for count in _COUNTS:
            if count < given.num_classes:
                parts = [draw_classes(given, count, draw) for draw in draws]
                yield "classes of a set", parts
    random = np.random.default_rng(min(draws))
    for draw in range(unions if len(sets) > 1 else 0):
        chosen = random.choice(len(sets), 2 + (draw % 4 == 0), replace=False)
        parts = []
        for index in chosen.tolist():
            most = min(_MOST_OF_A_SET, sets[index].num_classes)
            count = int(random.integers(2, most + 1))
            parts.append(draw_classes(sets[index], count, draw, most_of_class=_THINNED))
        yield "unions of sets", [join_sets(parts)]


def main() -> None:
    """Print a table of estimates, and one of their errors."""
    parser = argparse.ArgumentParser(description=__doc__)

    def paths(text: str) -> list[Path]:
        return [Path(part) for part in text.split(",") if part]

    parser.add_argument("--images", type=paths, required=True)
    parser.add_argument("--cache", type=paths, required=True)
    parser.add_argument("--draws", type=int, nargs="+", default=[2])
    parser.add_argument("--unions", type=int, default=12)
    options = parser.parse_args()
    sets = [
        Labelled(given.name, given.embeddings, answers.labels, given.views)
        for given, answers in load_sets(options.images, options.cache, Config())
    ]
    print("| set | classes | estimates (interval) | mean error | inside | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    found: dict[str, list[tuple[int, ClusterCount]]] = {}
    for kind, parts in _cases(sets, options.draws, options.unions):
        started = time.monotonic()
        counted = [
            estimate_cluster_count(jax.random.key(0), part.embeddings, views=part.views)
            for part in parts
        ]
        seconds = (time.monotonic() - started) / len(parts)
        classes = parts[0].num_classes
        print(table_row(parts[0].name, classes, counted, seconds), flush=True)
        found.setdefault(kind, []).extend((classes, each) for each in counted)
    print(
        "\n| what | number | median factor | 80 % below | interval holds | its width |"
        "\n|---|---|---|---|---|---|"
    )
    for kind, pairs in found.items():
        print(summary_row(kind, pairs))
    print(summary_row("all", [pair for pairs in found.values() for pair in pairs]))


if __name__ == "__main__":
    main()
