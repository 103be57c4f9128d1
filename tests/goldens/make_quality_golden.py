"""Makes ``quality.npz``: embeddings of real photographs, and how well they cluster.

Made-up blobs cluster perfectly before and after many a mistake. These are 551
photographs of ten classes of Caltech-101, some of which are hard to tell apart,
embedded by ``lite`` and brought to their first 128 axes, more than a run uses of so
few images. The nouns are WordNet's five nearest to each image, filled up to 1,500 by
others drawn at random; neither looks at a label. The classes were chosen by score:
the set must be hard, and yet be clustered alike from most seeds. Needs a folder with
one sub-folder a class::

    python tests/goldens/make_quality_golden.py FOLDER

The file holds neither pictures nor the names of any. It says what was measured when it
was made, with seeds 0 to 9 and default settings on a CPU:

====== ====== ====== ====== ==================
ACC    median mean   least  standard deviation
====== ====== ====== ====== ==================
method 0.8421 0.8463 0.8403 0.0138
kmeans 0.8367 0.8367 0.8312 0.0024
====== ====== ====== ====== ==================

One seed of the ten found a better solution, 0.8857, hence the median; the others
differ by 0.002, one image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mca_jax
from mca_jax.data import find_images, open_source
from mca_jax.encoders import build_encoder
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.semantics import NounTable, load_nouns

__all__ = ["CLASSES", "GOLDEN", "cluster_golden", "score_golden"]

CLASSES = (
    "beaver",
    "crocodile",
    "crocodile_head",
    "elephant",
    "ferry",
    "flamingo_head",
    "ibis",
    "kangaroo",
    "ketch",
    "rhino",
)
"""Names of the sub-folders."""

GOLDEN = Path(__file__).with_name("quality.npz")
"""The file that this writes."""

_NUM_NOUNS = 1500
_WIDTH = 128
_NEAREST = 5
_SEEDS = range(10)


def cluster_golden(
    golden: dict[str, np.ndarray], seed: int, *settings: str
) -> mca_jax.ClusterResult:
    """Cluster the images of the file.

    Args:
      golden: Its arrays.
      seed: Seed of the run.
      *settings: Other than the defaults.

    Returns:
      The result.
    """
    overrides = [f"seed={seed}", *settings]
    return mca_jax.cluster(
        image_embeddings=golden["images"],
        noun_embeddings=golden["nouns"],
        nouns=golden["noun_names"].tolist(),
        num_clusters=len(golden["classes"]),
        config=mca_jax.apply_overrides(mca_jax.Config(), overrides),
    )


def score_golden(
    golden: dict[str, np.ndarray], result: mca_jax.ClusterResult
) -> dict[str, float]:
    """Score a run against the classes.

    Args:
      golden: The arrays of the file.
      result: From ``cluster_golden``.

    Returns:
      ACC under ``"mca"`` and ``"kmeans"``.
    """
    scored = mca_jax.score_result(result, golden["labels"], golden["classes"].tolist())
    scores = scored.metrics["scores"]
    return {name: scores[name]["acc"] for name in ("mca", "kmeans")}


def _reduce(vectors: np.ndarray, axes: np.ndarray) -> np.ndarray:
    reduced = vectors @ axes
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    return reduced.astype(np.float16)


def _centered(vectors: np.ndarray) -> np.ndarray:
    moved = vectors - vectors.mean(axis=0)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def _choose_nouns(images: np.ndarray, nouns: np.ndarray, table: NounTable) -> list[int]:
    """Rows of the nouns nearest to some image, then others at random."""
    # Each around its own mean, as a run compares them.
    cosines = _centered(images) @ _centered(nouns).T
    near = np.unique(np.argpartition(-cosines, _NEAREST, axis=1)[:, :_NEAREST])
    others = np.random.default_rng(0).permutation(len(table.names))
    chosen: dict[str, int] = {}
    for row in (*near.tolist(), *others.tolist()):
        name = table.names[row]
        # A list of names holds each once, and none with a comma in it.
        if "," in name or table.offensive[row] or len(chosen) == _NUM_NOUNS:
            continue
        chosen.setdefault(name.casefold(), row)
    return list(chosen.values())


def _make(folder: Path) -> dict[str, np.ndarray]:
    encoder, table = build_encoder("lite"), load_nouns()
    parts = [
        embed_images(encoder, open_source(find_images(folder / name))).embeddings
        for name in CLASSES
    ]
    labels = np.repeat(np.arange(len(CLASSES)), [len(part) for part in parts])
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = np.concatenate(parts)[order], labels[order]
    nouns = embed_nouns(encoder, table.names, table.synsets).embeddings
    rows = _choose_nouns(images, nouns, table)
    axes = np.linalg.svd(images, full_matrices=False)[2][:_WIDTH].T
    return {
        "images": _reduce(images, axes),
        "labels": labels.astype(np.int8),
        "classes": np.array(CLASSES),
        "nouns": _reduce(nouns[rows], axes),
        "noun_names": np.array([table.names[row] for row in rows]),
    }


def main() -> None:
    """Write the golden beside this script, with the scores of some seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="one sub-folder a class")
    golden = _make(parser.parse_args().folder)
    scores = [score_golden(golden, cluster_golden(golden, seed)) for seed in _SEEDS]
    for name in ("mca", "kmeans"):
        measured = np.array([each[name] for each in scores])
        golden[f"measured_{name}"] = measured
        print(  # noqa: T201
            f"{name}: median {np.median(measured):.4f}, mean {measured.mean():.4f}, "
            f"least {measured.min():.4f}, standard deviation {measured.std(ddof=1):.4f}"
        )
    np.savez_compressed(GOLDEN, allow_pickle=False, **golden)


if __name__ == "__main__":
    main()
