"""What else people cluster embeddings with, from the packages of the extra ``peers``.

Each takes the encoder's embeddings as they are, the number of classes where it takes a
number, and a seed. None takes labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module

import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.errors import InputError

__all__ = ["PEERS", "run_peer"]

_DIMENSIONS = 10
_NEIGHBORS = 15


def _kmeans(rows: Float[np.ndarray, "n d"], k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    found = KMeans(k, n_init=10, random_state=seed)  # pyright: ignore
    return found.fit_predict(rows)


def _ward(rows: Float[np.ndarray, "n d"], k: int, seed: int) -> np.ndarray:
    del seed  # nothing is drawn
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(k, linkage="ward").fit_predict(rows)


def _spectral(rows: Float[np.ndarray, "n d"], k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import SpectralClustering

    with warnings.catch_warnings():
        # Groups that lie apart make a graph in several pieces, which it solves too.
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return SpectralClustering(
            k,
            affinity="nearest_neighbors",
            n_neighbors=_NEIGHBORS,
            assign_labels="cluster_qr",
            random_state=seed,
        ).fit_predict(rows)


def _umap(rows: Float[np.ndarray, "n d"], seed: int) -> np.ndarray:
    return (
        import_module("umap")
        .UMAP(
            n_components=_DIMENSIONS,
            n_neighbors=_NEIGHBORS,
            min_dist=0.0,
            metric="cosine",
            random_state=seed,
            n_jobs=1,
        )
        .fit_transform(rows)
    )


def _umap_kmeans(rows: Float[np.ndarray, "n d"], k: int, seed: int) -> np.ndarray:
    return _kmeans(_umap(rows, seed), k, seed)


def _umap_hdbscan(rows: Float[np.ndarray, "n d"], k: int, seed: int) -> np.ndarray:
    del k  # it finds a number of its own
    from sklearn.cluster import HDBSCAN

    return HDBSCAN(min_cluster_size=_NEIGHBORS).fit_predict(_umap(rows, seed))


def _evoc(rows: Float[np.ndarray, "n d"], k: int, seed: int) -> np.ndarray:
    model = import_module("evoc").EVoC(random_state=seed)
    model.fit_predict(rows)
    # Of its layers the one whose number of groups is nearest to the classes'.
    return min(model.cluster_layers_, key=lambda layer: abs(layer.max() + 1 - k))


PEERS: dict[str, tuple[Callable[..., np.ndarray], str]] = {
    "sklearn-kmeans": (_kmeans, "scikit-learn's k-means, ten restarts"),
    "ward": (_ward, "scikit-learn's agglomerative clustering, Ward's linkage"),
    "spectral": (_spectral, "scikit-learn's spectral clustering, 15 neighbours"),
    "umap-kmeans": (_umap_kmeans, "UMAP to 10 dimensions, then k-means"),
    "umap-hdbscan": (_umap_hdbscan, "UMAP to 10 dimensions, then HDBSCAN"),
    "evoc": (_evoc, "EVoC, its layer nearest to the number of classes"),
}
"""Each peer's function of embeddings, number of classes and seed, and what it is."""


def run_peer(
    name: str, embeddings: Float[np.ndarray, "n d"], *, num_clusters: int, seed: int
) -> Int[np.ndarray, " n"]:
    """Cluster embeddings by a peer; what it leaves out is a group of its own.

    Raises:
      InputError: Its package is not installed.
    """
    try:
        found = PEERS[name][0](embeddings, num_clusters, seed)
    except ImportError as error:
        raise InputError(
            f"{name} needs a package that is not installed ({error.name}); install it "
            "with pip install -e '.[peers]'"
        ) from error
    found = np.asarray(found, np.int32)
    return np.where(found < 0, found.max() + 1, found).astype(np.int32)
