"""Small finished runs on made-up embeddings, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoders.small_encoder import WIDTH, build_small_encoder

import mca_jax
from mca_jax.encoders import ENCODERS, Encoder
from mca_jax.model.result import ClusterResult

NOUNS = ("cat", "boat", "tree", "lamp", "rose", "car", "dog", "hat")


def blobs(seed: int = 0, *, per_axis: int = 30, num_axes: int = 4) -> np.ndarray:
    """Unit vectors around the first axes of an eight-dimensional space."""
    random = np.random.default_rng(seed)
    vectors = np.repeat(np.eye(len(NOUNS))[:num_axes], per_axis, axis=0)
    vectors += random.normal(scale=0.1, size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def small_vocabulary(folder: Path) -> str:
    """Write a vocabulary of few nouns, and return the setting that names it."""
    (folder / "nouns.txt").write_text("\n".join(NOUNS))
    return f"semantics.vocabulary={folder / 'nouns.txt'}"


def build_small() -> Encoder:
    """An encoder in all but size, with a place for every noun."""

    def encode_texts(params: Any, tokens: Any) -> jax.Array:
        vectors = jax.random.normal(jax.random.key(0), (len(tokens), WIDTH))
        return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)

    return build_small_encoder()._replace(name="small", encode_texts=encode_texts)


@contextmanager
def small_encoder() -> Iterator[str]:
    """Let ``"small"`` name that encoder for a while; yields the setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "small", build_small)
        yield "encoder.name=small"


@cache
def small_run(num_clusters: int = 4) -> ClusterResult:
    """Cluster the blobs; one run for all tests."""
    config = mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=4"])
    return mca_jax.cluster(
        image_embeddings=blobs(),
        noun_embeddings=np.eye(len(NOUNS), dtype=np.float32),
        nouns=NOUNS,
        num_clusters=num_clusters,
        config=config,
    )
