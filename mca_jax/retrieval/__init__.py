"""Nearest neighbours and k-means by cosine, exact, in bounded memory."""

from mca_jax.retrieval.cells import probe_neighbors
from mca_jax.retrieval.kmeans import KMeansResult, spherical_kmeans
from mca_jax.retrieval.neighbors import (
    NeighborTable,
    image_neighbors,
    noun_neighbors,
    sample_neighbors,
)
from mca_jax.retrieval.projection import (
    Projection,
    apply_projection,
    fit_projection,
)
from mca_jax.retrieval.smoothing import smooth_embeddings, smooth_new
from mca_jax.retrieval.topk import blocked_topk

__all__ = [
    "KMeansResult",
    "NeighborTable",
    "Projection",
    "apply_projection",
    "blocked_topk",
    "fit_projection",
    "image_neighbors",
    "noun_neighbors",
    "probe_neighbors",
    "sample_neighbors",
    "spherical_kmeans",
    "smooth_embeddings",
    "smooth_new",
]
