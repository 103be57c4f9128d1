"""Results of made-up runs on pieces of real photographs, for tests."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from mca_jax.data.files import SkippedImage
from mca_jax.model.result import Cluster, ClusterResult, ScoredNoun

NOUNS = (
    ("dahlia", "n11960673", "any of several plants of the genus Dahlia"),
    ("pagoda", "n03874965", "an Asian temple; usually a pyramidal tower"),
    ("garden", "n03417042", "a plot of ground where plants are cultivated"),
    ("roof", "n04105068", "a protective covering that covers the top of a building"),
    ("petal", "n11675025", "part of the perianth that is usually brightly colored"),
)


@cache
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The two photographs that scikit-learn brings, uint8."""
    return load_sample_image("flower.jpg"), load_sample_image("china.jpg")


def crop(row: int, size: int = 96) -> Image.Image:
    """A piece of one of the photographs, another for each row."""
    photo = photographs()[row % 2]
    random = np.random.default_rng(row)
    top = random.integers(photo.shape[0] - size)
    left = random.integers(photo.shape[1] - size)
    return Image.fromarray(photo[top : top + size, left : left + size])


def write_images(folder: Path, paths: Sequence[str]) -> None:
    """Write one piece a path."""
    for row, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        crop(row).save(folder / path, "JPEG")


def draw_probabilities(assignments: np.ndarray, num_clusters: int) -> np.ndarray:
    """Probabilities whose largest entry is the assignment."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(assignments), num_clusters))
    rows = np.arange(len(assignments))
    logits[rows, assignments] = logits.max(axis=1) + random.gamma(2, 1.5, len(rows))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def make_clusters(
    assignments: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> tuple[Cluster, ...]:
    """Describe each cluster; its most confident images are the exemplars."""
    clusters = []
    for index, name in enumerate(names):
        rows = np.flatnonzero(assignments == index)
        sure = rows[np.argsort(-probabilities[rows, index], kind="stable")]
        nouns = [
            ScoredNoun(noun, synset, 0.5 / (1 + place), gloss)
            for place, (noun, synset, gloss) in enumerate(NOUNS)
        ]
        clusters.append(
            Cluster(
                index=index,
                size=len(rows),
                name=name,
                confidence=float(probabilities[rows, index].mean()) if len(rows) else 0,
                nouns=tuple(nouns) if len(rows) else (),
                exemplars=tuple(sure[:16].tolist()),
            )
        )
    return tuple(clusters)


def nearest_rows(embeddings: np.ndarray, most: int = 20) -> np.ndarray:
    """Rows of each row's nearest others by cosine, nearest first."""
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -np.inf)
    count = min(most, len(embeddings) - 1)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count].astype(np.int32)


def make_history(epochs: int = 8) -> tuple[dict[str, float], ...]:
    """A history as training writes it."""
    return tuple(
        {
            "epoch": float(epoch),
            "loss": -6.0 - 2.0 * (1 - 0.7**epoch),
            "consistency": 1.9 * 0.7**epoch + 0.2,
            "balance": -5.0 - 0.1 * epoch,
            "instance": 2.0 * 0.8**epoch,
            "prototype": 1.1 * 0.9**epoch,
            "semantic": 0.8 * 0.8**epoch,
            "trust": 0.4 + 0.03 * epoch,
            "labelled": 1 - 0.8**epoch,
            "grad_norm": 3.0 * 0.75**epoch,
            "changed": 0.3 * 0.5**epoch,
        }
        for epoch in range(1, epochs + 1)
    )


def build_result(
    root: Path | None = None,
    *,
    num_images: int = 40,
    num_clusters: int = 4,
    paths: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    assignments: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    **changes: object,
) -> ClusterResult:
    """A result as a run returns it; every number follows from the arguments.

    Args:
      root: Folder for the pictures, which are written; None makes a result on
        arrays.
      num_images: Rows.
      num_clusters: Clusters.
      paths: File names; None numbers them.
      names: Names of the clusters; None numbers them.
      assignments: Cluster of each image; None fills them in turn.
      labels: Class of each image; None leaves the scores out.
      **changes: Fields of the result to replace.
    """
    if assignments is None:
        assignments = np.arange(num_images) % num_clusters
    assignments = np.asarray(assignments, np.int32)
    num_images = len(assignments)
    names = names or [f"noun {index}" for index in range(num_clusters)]
    if paths is None and root is None:
        paths = [f"row-{row:06d}" for row in range(num_images)]
    elif paths is None:
        paths = [f"photos/{row:04d}.jpg" for row in range(num_images)]
    if root is not None:
        write_images(root, paths)
    probabilities = draw_probabilities(assignments, len(names))
    random = np.random.default_rng(1)
    embeddings = np.eye(len(names), 16)[assignments]
    embeddings += random.normal(scale=0.2, size=embeddings.shape)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    metrics: dict[str, object] = {
        "label_free": {"consistency": 0.91, "confidence": 0.84, "imbalance": 0.52}
    }
    if labels is not None:
        counts = np.zeros((labels.max() + 1, len(names)), np.int64)
        np.add.at(counts, (labels, assignments), 1)
        metrics["scores"] = {
            "mca": {"acc": 0.8812, "nmi": 0.921, "ari": 0.851},
            "kmeans": {"acc": 0.86, "nmi": 0.912, "ari": 0.813},
            "consistency_only": {"acc": 0.873, "nmi": 0.913, "ari": 0.837},
        }
        metrics["contingency"] = {
            "classes": [f"class {index}" for index in range(len(counts))],
            "counts": counts,
        }
    result = ClusterResult(
        paths=tuple(paths),
        root="" if root is None else str(root),
        assignments=assignments,
        probabilities=probabilities,
        clusters=make_clusters(assignments, probabilities, names),
        metrics=metrics,
        history=make_history(),
        status="converged",
        skipped=(SkippedImage("photos/broken.jpg", "truncated JPEG file"),),
        audit={
            "unrelated": 51_000,
            "people": 10_205,
            "offensive": 210,
            "too_general": 300,
            "not_unique": 12,
            "not_relevant": 18_000,
            "ancestor": 388,
            "kept": 2_000,
        },
        warnings=("The vocabulary fits these images poorly: take names with care.",),
        seconds={"embed": 12.3, "train": 4.5},
        config={"num_clusters": len(names), "seed": 0, "train": {"epochs": 30}},
        provenance={
            "encoder": {
                "name": "lite",
                "domain": "photographs of everyday things (ImageNet)",
                "licence": "Apache-2.0",
            },
            "versions": {"jax": "0.10.2"},
        },
        embeddings=embeddings.astype(np.float32),
        params={},
        neighbors=nearest_rows(embeddings) if num_images <= 3000 else None,
    )
    return dataclasses.replace(result, **changes)
