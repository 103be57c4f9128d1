"""A small encoder and a folder of images, for tests of the store."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mca_jax.data import find_images, open_source
from mca_jax.encoders.encoder import Encoder

WIDTH = 6
SIDE = 8


def build_small_encoder(fingerprint: str = "first", traces: list[int] | None = None):
    """A convolution, a mean and a matrix: an encoder in all but size."""
    generator = np.random.default_rng(0)
    params = {
        "kernel": generator.normal(size=(3, 3, 3, 5)).astype(np.float32),
        "matrix": generator.normal(size=(5, WIDTH)).astype(np.float32),
    }

    def preprocess(image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    def encode_images(params, pixels):
        if traces is not None:
            traces.append(1)
        features = jax.lax.conv_general_dilated(
            pixels.astype(jnp.float32) / 255,
            params["kernel"],
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        vectors = jax.nn.relu(features).mean(axis=(1, 2)) @ params["matrix"]
        return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)

    return Encoder(
        name="small/one",
        fingerprint=fingerprint,
        licence="Apache-2.0",
        domain="noise",
        width=WIDTH,
        image_size=(SIDE, SIDE),
        params=params,
        preprocess=preprocess,
        encode_images=encode_images,
        tokenize=lambda names, synset_ids: np.zeros((len(names), 1)),
        encode_texts=lambda params, tokens: jnp.zeros((len(tokens), WIDTH)),
    )


def expected_embeddings(encoder: Encoder, paths) -> np.ndarray:
    """Each image by itself, without jit, threads or batches."""
    rows = []
    for path in paths:
        pixels = encoder.preprocess(Image.open(path).convert("RGB"))
        rows.append(
            np.asarray(
                encoder.encode_images(encoder.params, jnp.asarray(pixels)[None])
            )[0]
        )
    return np.stack(rows)


def write_images(folder: Path, count: int, start: int = 0) -> None:
    for index in range(start, start + count):
        generator = np.random.default_rng(index)
        pixels = generator.integers(0, 256, (SIDE, SIDE + 2, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


def count_reads(folder: Path):
    """A source of a folder, and the list of rows that were read."""
    source = open_source(find_images(folder))
    reads: list[int] = []

    def read(row: int):
        reads.append(row)
        return source.read(row)

    return source._replace(read=read), reads


def chunk_files(cache_dir: Path) -> list[Path]:
    return sorted(cache_dir.glob("*/chunk-*.npy"))
