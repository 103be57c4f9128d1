"""Prediction of photographs, beside embedding them and the encoder alone.

python -m benchmarks.prediction_speed --checkpoint=OUT --images=DIR --count=1000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mca_jax
from mca_jax.data import ImageFolder, find_images
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.encoder import compile_encoder
from mca_jax.model.predict import load_encoder

__all__ = ["main"]

_BATCH = 32


def _rate(count: int, run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return count / (time.perf_counter() - started)


def main() -> None:
    """Alternate both and print medians of images a second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    predictor = mca_jax.load(arguments.checkpoint)
    encoder = load_encoder(predictor.model)
    found = find_images(arguments.images)
    step = max(1, len(found.paths) // arguments.count)
    paths = found.paths[::step][: arguments.count]
    folder = ImageFolder(found.root, paths, ())
    height, width = encoder.image_size
    pixels = np.random.default_rng(0).standard_normal(
        (_BATCH, height, width, 3), np.float32
    )
    encode = compile_encoder(encoder.encode_images, encoder.params, _BATCH)
    batches = -(-len(paths) // _BATCH)

    def tower() -> None:
        for _ in range(batches):
            jax.block_until_ready(encode(pixels))

    def predict() -> None:
        predictor.predict(folder)

    def embed() -> None:
        embed_images(encoder, folder, batch_size=_BATCH)

    predict()
    embed()
    tower()
    rates = np.array(
        [
            (
                _rate(batches * _BATCH, tower),
                _rate(len(paths), embed),
                _rate(len(paths), predict),
            )
            for _ in range(arguments.rounds)
        ]
    )
    names = ("encoder alone", "embedding of files", "prediction of files")
    for name, rate in zip(names, np.median(rates, axis=0), strict=True):
        print(f"{name}: {rate:.1f} images/s")
    ratios = np.median(rates[:, 2:] / rates[:, :2], axis=0)
    print(f"prediction against the encoder: {ratios[0]:.2f}")
    print(f"prediction against embedding: {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
