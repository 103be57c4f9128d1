"""Nearest neighbours and k-means by cosine, exact, in bounded memory."""

from mca_jax.neighbors.approximate import probe_neighbors
from mca_jax.neighbors.exact import (
    NeighborTable,
    blocked_topk,
    image_neighbors,
    noun_neighbors,
    sample_neighbors,
)
from mca_jax.neighbors.kmeans import KMeansResult, spherical_kmeans
from mca_jax.neighbors.projection import (
    Projection,
    apply_projection,
    fit_projection,
    view_covariance,
)
from mca_jax.neighbors.smoothing import smooth_embeddings, smooth_new
from mca_jax.neighbors.spaces import fit_spaces

__all__ = [
    "KMeansResult",
    "NeighborTable",
    "Projection",
    "apply_projection",
    "blocked_topk",
    "fit_projection",
    "fit_spaces",
    "image_neighbors",
    "noun_neighbors",
    "probe_neighbors",
    "sample_neighbors",
    "spherical_kmeans",
    "smooth_embeddings",
    "smooth_new",
    "view_covariance",
]
