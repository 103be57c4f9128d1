"""Names of clusters against true classes, beside the noun nearest to the centroid.

python -m benchmarks.name_quality --images=DIR --cache=DIR --classes=caltech40 --seeds=5
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from mca_jax.core.random import make_keys
from mca_jax.data import find_images, folder_labels
from mca_jax.encoders import build_encoder
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.evaluation import contingency_table
from mca_jax.evaluation.names import score_names
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.describe import name_groups, nouns_to_see
from mca_jax.pipeline.inputs import Nouns
from mca_jax.pipeline.stages import (
    build_setup,
    cluster_images,
    find_neighbors,
    gather_data,
    predict_prepared,
    project,
    select_nouns,
    shard_embeddings,
    train_heads,
)
from mca_jax.semantics import load_nouns
from mca_jax.semantics.naming import ClusterName

__all__ = ["main"]

_CLASSES = Path(__file__).with_name("class_synsets.json")


class Named(NamedTuple):
    """Clusters of one run and what they are called.

    Attributes:
      assignments: Cluster of each image.
      names: Names of the clusters.
      headlines: Row of the table of each name, by the way it was found.
    """

    assignments: np.ndarray
    names: list[ClusterName]
    headlines: dict[str, list[int]]


def _run(images: np.ndarray, nouns: Nouns, config: Config) -> Named:
    """Cluster and name once."""
    keys = make_keys(jax.random.key(config.seed))
    projected = project(shard_embeddings(images, config), nouns, config)
    near = find_neighbors(keys.neighbor_search, projected.images, config)
    kmeans = cluster_images(keys.kmeans, near.images, config)
    space, _ = select_nouns(projected.nouns, kmeans.centers, config)
    prepared = gather_data(
        *(keys, near.images, kmeans, space, config),
        near=near.neighbors.indices,
        unsmoothed=projected.images,
    )
    data, setup = prepared.data, build_setup(prepared.data, config)
    fit = train_heads(
        *(keys.training, setup, data, prepared.initialization, config),
        text_share=prepared.text_share,
    )
    predictions = predict_prepared(setup.heads, fit.params, data)
    assignments = predictions.probabilities.argmax(axis=1)
    named = name_groups(
        images,
        assignments,
        nouns_to_see(nouns, config),
        num_groups=config.num_clusters,
        image_mean=np.asarray(projected.projection.mean),
        noun_mean=np.asarray(projected.noun_mean),
    )
    points = np.asarray(data.images)
    means = np.zeros((config.num_clusters, points.shape[1]))
    np.add.at(means, assignments, points)
    nearest = (means @ np.asarray(space.embeddings).T).argmax(axis=1)
    found = {
        "headline": [name.headline for name in named],
        "nearest noun": np.asarray(space.rows)[nearest].tolist(),
    }
    return Named(assignments, named, found)


def main() -> None:
    """Cluster once a seed and print the scores of the names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--classes", required=True, help="entry of class_synsets.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--list", action="store_true", help="print the first's names")
    arguments = parser.parse_args()
    synsets = json.loads(_CLASSES.read_text())[arguments.classes]
    table = load_nouns("wordnet")
    rows = {synset: row for row, synset in enumerate(table.synsets)}
    scores: dict[str, list[tuple[float, float]]] = {"headline": [], "nearest noun": []}
    wrong, sure, accuracy = [], [], []
    encoder = build_encoder("lite")
    embedded = embed_images(
        encoder, find_images(arguments.images), cache_dir=arguments.cache
    )
    labels, names = folder_labels(embedded.paths)
    vectors = embed_nouns(encoder, table.names, table.synsets).embeddings
    nouns = Nouns(table, jnp.asarray(vectors), np.arange(len(vectors)))
    for seed in range(arguments.seeds):
        config = apply_overrides(
            Config(), [f"seed={seed}", f"num_clusters={len(names)}"]
        )
        found = _run(embedded.embeddings, nouns, config)
        counts = contingency_table(labels, found.assignments, len(names), len(names))
        class_of = dict(zip(*linear_sum_assignment(-counts.T), strict=True))
        accuracy.append(sum(counts[c, i] for i, c in class_of.items()) / len(labels))
        classes = [
            [rows[each] for each in synsets[names[class_of[index]]] if each in rows]
            for index in range(len(names))
        ]
        for name, heads in found.headlines.items():
            score = score_names(table, heads, classes)
            scores[name].append((score.related, score.wu_palmer))
        right = [
            score_names(table, [name.headline], [own]).related > 0
            for name, own in zip(found.names, classes, strict=True)
        ]
        guesses = [name.guess for name in found.names]
        wrong.append(
            np.mean([not (r or g) for r, g in zip(right, guesses, strict=True)])
        )
        sure.append(1 - np.mean(guesses))
        if arguments.list and not seed:
            for index, name in enumerate(found.names):
                mark = "right" if right[index] else "-"
                print(f"| {names[class_of[index]]} | {name.name} | {mark} |")
    print(f"| set | {arguments.classes} | ACC {100 * np.mean(accuracy):.1f} %")
    for name, values in scores.items():
        related, similarity = np.mean(values, axis=0)
        print(f"| {name} | {100 * related:.1f} % | {similarity:.3f} |")
    print(
        f"| sure | {100 * np.mean(sure):.1f} % | surely wrong | "
        f"{100 * np.mean(wrong):.1f} % |",
        flush=True,
    )


if __name__ == "__main__":
    main()
