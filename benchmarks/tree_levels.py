"""Levels of the tree against runs made for their numbers, and EVoC's layers.

python -m benchmarks.tree_levels --images=DIR[,DIR] --cache=DIR[,DIR] --groups=DIR

A folder of --images has a sub-folder for each class. The tree is that of a run with as
many clusters as classes; it is cut at half and at twice as many, and each cut is
compared with a run made for that number. EVoC clusters the same embeddings; each of its
layers is compared with the tree cut at as many groups.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.methods import Shared
from benchmarks.name_quality import Groups, groups_of
from benchmarks.sets import SweepSet, load_sets
from mca_jax.evaluation import contingency_table, score_clustering
from mca_jax.model.tree import ClusterTree
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.describe import name_tree, nouns_to_see
from mca_jax.pipeline.inputs import Nouns

__all__ = ["main", "purity"]


def purity(labels: np.ndarray, groups: np.ndarray) -> float:
    """Share of images that are of the class that most of their group are of.

    Example:
      >>> purity(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
      0.75
    """
    return float(contingency_table(labels, groups).max(axis=0).sum() / len(labels))


def _grow(groups: Groups, given: SweepSet, config: Config) -> tuple[ClusterTree, float]:
    """Grow and name the tree of a run; return it and the seconds that took."""
    nouns = Nouns(given.table, given.nouns, np.arange(len(given.nouns)))
    seen = nouns_to_see(nouns, config)
    started = time.perf_counter()
    _, tree = name_tree(
        groups.points,
        given.embeddings,
        groups.assignments,
        seen,
        num_clusters=config.num_clusters,
        image_mean=groups.image_mean,
        noun_mean=groups.noun_mean,
    )
    return tree, time.perf_counter() - started


def main() -> None:
    """Print a table of levels, and one of layers."""
    parser = argparse.ArgumentParser(description=__doc__)

    def paths(text: str) -> list[Path]:
        return [Path(part) for part in text.split(",") if part]

    parser.add_argument("--images", type=paths, required=True)
    parser.add_argument("--cache", type=paths, required=True)
    parser.add_argument("--groups", type=Path, help="keeps the clusters here")
    options = parser.parse_args()
    layers = []
    print("| set | groups | purity, cut | purity, own run | tree, s |")
    print("|---|---|---|---|---|", flush=True)
    for given, answers in load_sets(options.images, options.cache, Config()):
        classes = given.num_clusters

        def run_for(count: int, given: SweepSet = given) -> tuple[Groups, Config]:
            config = apply_overrides(Config(), ["seed=0", f"num_clusters={count}"])
            return groups_of(options.groups, given, Shared(given), config), config

        groups, config = run_for(classes)
        tree, seconds = _grow(groups, given, config)
        for count in (max(2, classes // 2), classes, 2 * classes):
            cut = purity(answers.labels, np.asarray(tree.cut(count).groups))
            made = groups if count == classes else run_for(count)[0]
            own = purity(answers.labels, made.assignments)
            print(
                f"| {given.name} | {count} | {100 * cut:.1f} | {100 * own:.1f} | "
                f"{seconds:.1f} |",
                flush=True,
            )
        model = import_module("evoc").EVoC(random_state=0)
        started = time.perf_counter()
        model.fit_predict(given.embeddings)
        seconds = time.perf_counter() - started
        for layer in model.cluster_layers_:
            count = int(layer.max()) + 1
            found = np.where(layer < 0, count, layer)
            theirs = score_clustering(answers.labels, found)
            level = np.asarray(tree.cut(max(2, count)).groups)
            ours = score_clustering(answers.labels, level)
            none = 100 * np.mean(layer < 0)
            layers.append(
                f"| {given.name} | {classes} | {count} | {none:.0f} "
                f"| {100 * theirs.nmi:.1f} | {100 * ours.nmi:.1f} | {seconds:.1f} |"
            )
    print(
        "\n| set | classes | groups of the layer | in none, % | its NMI | NMI of the "
        "tree cut there | EVoC, s |\n|---|---|---|---|---|---|---|",
        *layers,
        sep="\n",
    )


if __name__ == "__main__":
    main()
