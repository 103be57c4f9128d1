"""Diffusion map: the axes along which a walk over the neighbour graph mixes slowest."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import eigsh

from mca_jax.core.errors import check_in_range

__all__ = ["diffusion_map", "neighbor_graph"]


def neighbor_graph(neighbors: Int[np.ndarray, "n r"]) -> csr_array:
    """Join every image and its neighbours, twice where both name the other.

    Args:
      neighbors: Neighbours of each image, itself not among them.

    Returns:
      Symmetric weights 0, 1 or 2, sparse ``[n, n]``.

    Example:
      >>> neighbor_graph(np.array([[1], [0], [1]])).toarray().tolist()
      [[0.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    count, each = neighbors.shape
    rows = np.repeat(np.arange(count), each)
    edges = np.ones(rows.size)
    graph = csr_array((edges, (rows, neighbors.ravel())), shape=(count, count))
    return (graph + graph.T).tocsr()


def diffusion_map(
    start: Float[np.ndarray, " n"],
    graph: csr_array,
    *,
    num_axes: int,
    num_steps: int = 2,
) -> Float[np.ndarray, "n m"]:
    r"""Place images by where a random walk from them over their neighbours gets to.

    With :math:`W` the weights of the graph, :math:`D` their sums and
    :math:`\lambda_j, \psi_j` the largest eigenvalues and right eigenvectors of
    :math:`D^{-1} W`,

    .. math:: y_i \propto
        \bigl(\lambda_0^t \psi_0(i), \dots, \lambda_m^t \psi_m(i)\bigr)

    of length 1. Images that many short ways join come together, also where no
    centre is near to all of them.

    Args:
      start: Where the iteration for the eigenvectors begins: any numbers that are
        no eigenvector, such as random ones.
      graph: From :func:`neighbor_graph`. Of more parts that nothing joins than
        there are axes, which of them come together is chance.
      num_axes: ``m``, beside the constant one; at least 1 and below ``n - 1``.
      num_steps: ``t``, at least 0: more steps leave the slower axes only.

    Returns:
      Unit vectors, float32 ``[n, m + 1]``.

    References:
      Coifman and Lafon, Diffusion Maps, 2006; of length 1 as in Ng, Jordan and
      Weiss, On Spectral Clustering, 2001.

    Example:
      >>> near = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]])
      >>> graph = neighbor_graph(near)
      >>> points = diffusion_map(np.arange(1.0, 7.0), graph, num_axes=1)
      >>> np.round(points @ points[0], 3).tolist()
      [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    check_in_range("axes of the diffusion map", num_axes, 1, graph.shape[0] - 2)
    scale = diags_array(1 / np.sqrt(graph.sum(axis=1)))
    # The symmetric matrix that has the same eigenvalues.
    values, vectors = eigsh(
        (scale @ graph @ scale).tocsr(), k=num_axes + 1, which="LA", v0=start
    )
    points = (scale @ vectors) * np.maximum(values, 0.0) ** num_steps
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
