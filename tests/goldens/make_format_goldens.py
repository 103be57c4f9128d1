"""Makes ``formats/v<version>/``: every kind of file that a run leaves on disk.

They are what a user of that version has, and what later versions have to read.
They are written once, by the version that they are named after, and never again:
whoever changes a format keeps the old folder, adds one of the new version, and
says in ``tests/test_stored_formats.py`` what becomes of the old one::

    python tests/goldens/make_format_goldens.py

The folder holds

* ``images``, small pictures of noise in two colours, and ``nouns.txt``;
* ``run``, the finished run on them with the tiny CLIP checkpoint beside this file;
* ``image-cache`` and ``noun-cache``, the embeddings that this run kept;
* ``edited``, a run on embeddings after a new name, a merge and a split;
* ``checkpoints``, of a run that was killed halfway: step 2 of 4;
* ``expected.npz``, what was given to those runs, and what came of it.

Nothing in there names a folder of the machine that it was made on, but for the
index of ``image-cache``, which holds those of a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import mca_jax

__all__ = [
    "ENCODER",
    "FOLDERS",
    "GOLDENS",
    "NOUNS",
    "RUN_FILES",
    "cluster_blobs",
    "cluster_images",
]

GOLDENS = Path(__file__).resolve().parent

FOLDERS = GOLDENS / "formats"
"""One folder a version."""

ENCODER = "clip/laion"
"""The checkpoint's path from the working directory; the caches are called by it."""

NOUNS = ("cat", "boat", "tree", "lamp", "rose", "car", "dog", "hat")

RUN_FILES = (
    "config.json",
    "clusters.json",
    "model.json",
    "model.safetensors",
    "result.json",
    "result.safetensors",
)
"""What is kept of a workdir; the report and the tables are never read again."""

_SIDE = 12


def cluster_images(*changes: str) -> mca_jax.ClusterResult:
    """Cluster the pictures of a version, which is the working directory.

    It needs ``clip`` in there too, for the encoder; caches are read and written.

    Args:
      *changes: Settings of later versions, as ``name=value``.

    Returns:
      The result.
    """
    overrides = [
        f"encoder.name={ENCODER}",
        "encoder.noun_cache=noun-cache",
        "semantics.vocabulary=nouns.txt",
        "train.epochs=2",
        *changes,
    ]
    return mca_jax.cluster(
        "images",
        num_clusters=2,
        config=mca_jax.apply_overrides(mca_jax.Config(), overrides),
        cache_dir="image-cache",
    )


def cluster_blobs(
    embeddings: np.ndarray,
    *settings: str,
    checkpoint_dir: Path | None = None,
    callback: Any = None,
) -> mca_jax.ClusterResult:
    """Cluster four groups of embeddings.

    Args:
      embeddings: Unit vectors ``[n, 8]``, one axis a noun.
      *settings: Beside the defaults.
      checkpoint_dir: As for ``mca_jax.cluster``.
      callback: Likewise.

    Returns:
      The result of four passes.
    """
    overrides = ["train.epochs=4", "train.loss_tolerance=0", *settings]
    return mca_jax.cluster(
        image_embeddings=embeddings,
        noun_embeddings=np.eye(len(NOUNS), dtype=np.float32),
        nouns=NOUNS,
        num_clusters=4,
        config=mca_jax.apply_overrides(mca_jax.Config(), overrides),
        checkpoint_dir=checkpoint_dir,
        callback=callback,
    )


def _draw_blobs(seed: int, per_axis: int) -> np.ndarray:
    """Unit vectors around four of the nouns."""
    random = np.random.default_rng(seed)
    vectors = np.repeat(np.eye(len(NOUNS))[:4], per_axis, axis=0)
    vectors += random.normal(scale=0.15, size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def _write_inputs(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(12):
        pixels = random.integers(0, 60, (_SIDE, _SIDE, 3))
        # Red ones and blue ones: two clusters that nobody can mistake.
        pixels[..., 2 * (number % 2)] += 180
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.save(folder / f"images/{number:02d}.png")
    (folder / "nouns.txt").write_text("\n".join(NOUNS) + "\n")


def _keep_run(result: mca_jax.ClusterResult, folder: Path) -> None:
    """Write a workdir and drop what nobody reads."""
    mca_jax.save_version(result, folder)
    for path in folder.iterdir():
        if path.name not in RUN_FILES:
            path.unlink()


def _expectations(
    name: str, result: mca_jax.ClusterResult, new: np.ndarray
) -> dict[str, Any]:
    """What has to come of a finished run, and of its model on new embeddings."""
    placed = mca_jax.Predictor(result.model).predict(image_embeddings=new)
    return {
        f"{name}/embeddings": result.embeddings,
        f"{name}/assignments": result.assignments,
        f"{name}/probabilities": result.probabilities,
        f"{name}/names": np.array([cluster.name for cluster in result.clusters]),
        f"{name}/new": new,
        f"{name}/new_clusters": placed.clusters,
        f"{name}/new_nearest": placed.nearest,
        f"{name}/new_probabilities": placed.probabilities,
    }


def _make_images(folder: Path) -> dict[str, Any]:
    _write_inputs(folder)
    # Of a file that was just written the index of the cache notes nothing.
    time.sleep(2.5)
    # By relative names, so that the files name no folder of this machine.
    os.chdir(folder)
    Path("clip").symlink_to(GOLDENS / "clip")
    result = cluster_images()
    Path("clip").unlink()
    _keep_run(result, folder / "run")
    random = np.random.default_rng(1)
    noise = random.normal(scale=0.02, size=result.embeddings.shape)
    new = (result.embeddings + noise)[:6].astype(np.float32)
    return _expectations("run", result, new)


def _make_edited(folder: Path, blobs: np.ndarray) -> dict[str, Any]:
    result = cluster_blobs(blobs)
    result = mca_jax.rename_cluster(result, 1, "second group")
    result = mca_jax.merge_clusters(result, [0, 2], name="both")
    result = mca_jax.split_cluster(
        jax.random.key(0), result, 0, overrides=["train.epochs=2"]
    )
    _keep_run(result, folder / "edited")
    # The last of the new ones is like none of the images.
    new = np.concatenate([_draw_blobs(1, 2), -np.eye(8, dtype=np.float32)[:1]])
    return _expectations("edited", result, new)


def _make_checkpoints(folder: Path, blobs: np.ndarray) -> dict[str, Any]:
    kept = folder / "checkpoints"
    result = cluster_blobs(blobs, "checkpoint.every_steps=2", checkpoint_dir=kept)
    (train,) = kept.glob("*/train")
    assert sorted(path.name for path in train.iterdir()) == [
        "00000002",
        "00000004",
    ]
    # What a kill before the end would have left.
    shutil.rmtree(train / "00000004")
    return {
        "checkpoints/embeddings": blobs,
        "checkpoints/assignments": result.assignments,
        "checkpoints/probabilities": result.probabilities,
        "checkpoints/losses": np.array([row["loss"] for row in result.history]),
    }


def main() -> None:
    """Write the folder of this version.

    Raises:
      SystemExit: It is there: files of a version that was used are never replaced.
    """
    version = "v" + ".".join(mca_jax.__version__.split(".")[:2])
    target = FOLDERS / version
    if target.exists():
        raise SystemExit(f"{target} is there, and is to stay as it was written")
    with tempfile.TemporaryDirectory(prefix="mca_jax-") as temporary:
        folder = Path(temporary)
        blobs = _draw_blobs(0, 12)
        expected = {
            **_make_images(folder),
            **_make_edited(folder, blobs),
            **_make_checkpoints(folder, blobs),
        }
        np.savez_compressed(folder / "expected.npz", allow_pickle=False, **expected)
        os.chdir(GOLDENS)
        shutil.copytree(folder, target)


if __name__ == "__main__":
    main()
