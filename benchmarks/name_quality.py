"""Names of clusters against true classes, beside the noun nearest to the centroid.

python -m benchmarks.name_quality --images=DIR --cache=DIR --classes=caltech40 --seeds=5
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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
from mca_jax.pipeline.describe import name_predictions
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

__all__ = ["main"]

_CLASSES = Path(__file__).with_name("class_synsets.json")


def _run(
    images: np.ndarray, nouns: Nouns, config: Config
) -> tuple[np.ndarray, dict[str, list[int]]]:
    """Cluster once; return assignments and the row of each cluster's name."""
    keys = make_keys(jax.random.key(config.seed))
    projected = project(shard_embeddings(images, config), nouns, config)
    near = find_neighbors(keys.neighbor_search, projected.images, config)
    kmeans = cluster_images(keys.kmeans, near.images, config)
    space, _ = select_nouns(projected.nouns, kmeans.centers, config)
    prepared = gather_data(
        keys, near.images, kmeans, space, config, near=near.neighbors.indices
    )
    data, setup = prepared.data, build_setup(prepared.data, config)
    fit = train_heads(keys.training, setup, data, prepared.initialization, config)
    predictions = predict_prepared(setup.heads, fit.params, data)
    assignments = predictions.probabilities.argmax(axis=1)
    named = name_predictions(
        predictions, data.noun_neighbors, prepared.nouns, assignments
    )
    points = np.asarray(data.images)
    means = np.zeros((config.num_clusters, points.shape[1]))
    np.add.at(means, assignments, points)
    nearest = (means @ np.asarray(space.embeddings).T).argmax(axis=1)
    return assignments, {
        "headline": [name.headline for name in named],
        "nearest noun": np.asarray(space.rows)[nearest].tolist(),
    }


def main() -> None:
    """Cluster once a seed and print both scores of the names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--classes", required=True, help="entry of class_synsets.json")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    synsets = json.loads(_CLASSES.read_text())[arguments.classes]
    table = load_nouns("wordnet")
    rows = {synset: row for row, synset in enumerate(table.synsets)}
    scores: dict[str, list[tuple[float, float]]] = {"headline": [], "nearest noun": []}
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
        assignments, found = _run(embedded.embeddings, nouns, config)
        counts = contingency_table(labels, assignments, len(names), len(names))
        class_of = dict(zip(*linear_sum_assignment(-counts.T), strict=True))
        classes = [
            [rows[each] for each in synsets[names[class_of[index]]] if each in rows]
            for index in range(len(names))
        ]
        for name, heads in found.items():
            score = score_names(table, heads, classes)
            scores[name].append((score.related, score.wu_palmer))
        print(f"seed {seed}: {scores['headline'][-1]}", flush=True)
    for name, values in scores.items():
        related, similarity = np.mean(values, axis=0)
        print(f"| {name} | {100 * related:.1f} % | {similarity:.3f} |")


if __name__ == "__main__":
    main()
