"""Names of clusters against true classes, beside the noun nearest to the centroid.

python -m benchmarks.name_quality --images=DIR[,DIR] --cache=DIR[,DIR] --seeds=3

A folder of --images has a sub-folder for each class and is called like an entry of
class_synsets.json. Clusters and names are those of a run with the settings of today;
labels only judge them. With --groups=DIR the clusters are kept there, and a second
call names them again without training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.methods import Shared
from benchmarks.sets import Answers, SweepSet, load_sets
from mca_jax.core.random import make_keys
from mca_jax.evaluation import contingency_table
from mca_jax.evaluation.names import score_names
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.describe import name_tree, nouns_to_see
from mca_jax.pipeline.inputs import Nouns
from mca_jax.pipeline.stages import predict_prepared, train_heads
from mca_jax.semantics import NounTable
from mca_jax.semantics.naming import ClusterName

__all__ = [
    "Groups",
    "Judged",
    "find_groups",
    "groups_of",
    "judge_names",
    "main",
    "name_found",
]

_CLASSES = Path(__file__).with_name("class_synsets.json")


class Groups(NamedTuple):
    """What a run hands to the naming.

    Attributes:
      assignments: Cluster of each image, int32 ``[n]``.
      points: What was clustered, float32 ``[n, c]``.
      image_mean: Mean embedding of the images, ``[d]``.
      noun_mean: Mean embedding of the vocabulary, ``[d]``.
      nearest: Row of the table of the noun nearest to each cluster's mean, ``[k]``.
      trust: How far the nouns fit the images, from ``text_trust``.
    """

    assignments: np.ndarray
    points: np.ndarray
    image_mean: np.ndarray
    noun_mean: np.ndarray
    nearest: np.ndarray
    trust: np.ndarray


class Judged(NamedTuple):
    """Names of one run against the classes they were matched to.

    Attributes:
      classes: Class of each cluster, by the best one-to-one match.
      accuracy: Share of images in the cluster of their class.
      right: Whether each name is within three steps of its class.
      scores: Share of such names and mean Wu-Palmer similarity, of the names and of
        the nearest nouns.
    """

    classes: list[int]
    accuracy: float
    right: list[bool]
    scores: dict[str, tuple[float, float]]


def find_groups(shared: Shared, config: Config) -> Groups:
    """Cluster once, as a run does."""
    projected, prepared = shared.project(config), shared.prepare(config)
    setup = shared.setup(config)
    fit = train_heads(
        make_keys(jax.random.key(config.seed)).training,
        setup,
        prepared.data,
        prepared.initialization,
        config,
        text_share=prepared.text_share,
    )
    predictions = predict_prepared(setup.heads, fit.params, prepared.data)
    assignments = predictions.probabilities.argmax(axis=1).astype(np.int32)
    points = np.asarray(prepared.data.images)
    means = np.zeros((config.num_clusters, points.shape[1]))
    np.add.at(means, assignments, points)
    nearest = (means @ np.asarray(prepared.nouns.embeddings).T).argmax(axis=1)
    return Groups(
        assignments,
        points,
        np.asarray(projected.projection.mean),
        np.asarray(projected.noun_mean),
        np.asarray(prepared.nouns.rows)[nearest],
        np.asarray(prepared.trust),
    )


def name_found(
    groups: Groups, given: SweepSet, seen: Nouns, config: Config
) -> list[ClusterName]:
    """Name the clusters of a run as it names them."""
    names, _ = name_tree(
        groups.points,
        given.embeddings,
        groups.assignments,
        seen,
        num_clusters=config.num_clusters,
        image_mean=groups.image_mean,
        noun_mean=groups.noun_mean,
    )
    return names


def judge_names(
    names: list[ClusterName],
    groups: Groups,
    answers: Answers,
    table: NounTable,
    synsets: dict[str, list[str]],
) -> Judged:
    """Match clusters to classes one to one, and score the names."""
    count = len(names)
    counts = contingency_table(answers.labels, groups.assignments, count, count)
    class_of = dict(zip(*linear_sum_assignment(-counts.T), strict=True))
    row_of = {synset: row for row, synset in enumerate(table.synsets)}
    classes = [int(class_of[index]) for index in range(count)]
    rows = [
        [row_of[each] for each in synsets[answers.class_names[label]] if each in row_of]
        for label in classes
    ]
    heads = [name.headline for name in names]
    found = {"names": heads, "nearest noun": groups.nearest.tolist()}
    scores = {way: score_names(table, rows_, rows) for way, rows_ in found.items()}
    right = [
        score_names(table, [head], [own]).related > 0
        for head, own in zip(heads, rows, strict=True)
    ]
    hits = sum(counts[label, index] for index, label in enumerate(classes))
    return Judged(
        classes,
        float(hits / len(answers.labels)),
        right,
        {way: (each.related, each.wu_palmer) for way, each in scores.items()},
    )


def groups_of(
    folder: Path | None, given: SweepSet, shared: Shared, config: Config
) -> Groups:
    """Find the clusters of a run, or read them from the folder where they are kept."""
    if folder is None:
        return find_groups(shared, config)
    path = folder / f"{given.name}-{config.num_clusters}-{config.seed}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **find_groups(shared, config)._asdict())
    with np.load(path) as file:
        return Groups(**{name: file[name] for name in Groups._fields})


def _print_set(
    given: SweepSet, answers: Answers, options: argparse.Namespace
) -> list[float]:
    synsets = json.loads(_CLASSES.read_text())[given.name]
    nouns = Nouns(given.table, given.nouns, np.arange(len(given.nouns)))
    shared, rows = Shared(given), []
    for seed in range(options.seeds):
        shared.forget_seed()
        config = apply_overrides(
            Config(), [f"seed={seed}", f"num_clusters={given.num_clusters}"]
        )
        groups = groups_of(options.groups, given, shared, config)
        names = name_found(groups, given, nouns_to_see(nouns, config), config)
        judged = judge_names(names, groups, answers, given.table, synsets)
        sure = np.array([not name.guess for name in names])
        wrong = sure & ~np.array(judged.right)
        rows.append(
            [
                judged.accuracy,
                *judged.scores["names"],
                *judged.scores["nearest noun"],
                float(sure.mean()),
                float(wrong.mean()),
                float(groups.trust),
            ]
        )
        if options.list and not seed:
            for name, label, right in zip(
                names, judged.classes, judged.right, strict=True
            ):
                mark = "right" if right else "-"
                print(f"| {answers.class_names[label]} | {name.name} | {mark} |")
    return np.mean(rows, axis=0).tolist()


def main() -> None:
    """Cluster once a seed and print the scores of the names."""
    parser = argparse.ArgumentParser(description=__doc__)

    def paths(text: str) -> list[Path]:
        return [Path(part) for part in text.split(",") if part]

    parser.add_argument("--images", type=paths, required=True)
    parser.add_argument("--cache", type=paths, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--groups", type=Path, help="keeps the clusters here")
    parser.add_argument("--list", action="store_true", help="print the first's names")
    options = parser.parse_args()
    rows = []
    for given, answers in load_sets(options.images, options.cache, Config()):
        acc, related, similar, first, first_similar, sure, wrong, trust = _print_set(
            given, answers, options
        )
        row = (
            f"| {given.name} | {100 * acc:.1f} | {100 * related:.1f} | {similar:.3f} | "
            f"{100 * first:.1f} | {first_similar:.3f} | {100 * sure:.1f} | "
            f"{100 * wrong:.1f} | {trust:.2f} |"
        )
        print(row, flush=True)
        rows.append(row)
    print(
        "\n| set | ACC | related | Wu-Palmer | nearest noun | its Wu-Palmer | sure | "
        "sure and wrong | text_trust |\n|---|---|---|---|---|---|---|---|---|",
        *rows,
        sep="\n",
    )


if __name__ == "__main__":
    main()
