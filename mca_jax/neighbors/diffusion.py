"""Diffusion map: the axes along which a walk over the neighbour graph mixes slowest."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array, diags_array

from mca_jax.core.errors import check_in_range

__all__ = ["diffusion_map", "neighbor_graph"]

_DEGREE = 8
_MOST_ROUNDS = 20
# Change of the wanted eigenvalues between two rounds that ends the search.
_TOLERANCE = 1e-4


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


def _leading(
    matrix: csr_array, start: Float[np.ndarray, "n b"], count: int
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "n m"]]:
    """Find the largest eigenvalues of a matrix with eigenvalues in [-1, 1].

    Subspace iteration, each round filtered by the Chebyshev polynomial that is small
    below the subspace's smallest value (Zhou et al., Parallel Self-consistent-field
    Calculations via Chebyshev-filtered Subspace Acceleration, 2006). A Lanczos
    method finds an eigenvalue of several graphs that nothing joins but once.
    """
    basis, below = np.linalg.qr(start)[0], 0.0
    values = np.full(count, np.inf)
    for _ in range(_MOST_ROUNDS):
        middle, half = (below - 1) / 2, (below + 1) / 2
        last, basis = basis, (matrix @ basis - middle * basis) / half
        for _ in range(_DEGREE - 1):
            turned = 2 * (matrix @ basis - middle * basis) / half
            last, basis = basis, turned - last
        basis = np.linalg.qr(basis)[0]
        found, turn = np.linalg.eigh(basis.T @ (matrix @ basis))
        basis, before, values = basis @ turn, values, found[-count:]
        if np.abs(values - before).max() < _TOLERANCE:
            break
        below = float(np.clip(found[0], -0.5, 0.95))
    return values, basis[:, -count:]


def diffusion_map(
    start: Float[np.ndarray, "n b"],
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
      start: Random numbers with which the search for the eigenvectors begins; some
        columns more than ``m + 1`` make it short.
      graph: From :func:`neighbor_graph`. Of more parts that nothing joins than
        there are axes, which of them come together is chance.
      num_axes: ``m``, beside the constant one; at least 1, below ``n`` and ``b``.
      num_steps: ``t``, at least 0: more steps leave the slower axes only.

    Returns:
      Unit vectors, float32 ``[n, m + 1]``.

    References:
      Coifman and Lafon, Diffusion Maps, 2006; of length 1 as in Ng, Jordan and
      Weiss, On Spectral Clustering, 2001.

    Example:
      >>> near = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]])
      >>> graph = neighbor_graph(near)
      >>> start = np.random.default_rng(0).normal(size=(6, 3))
      >>> points = diffusion_map(start, graph, num_axes=1)
      >>> np.round(points @ points[0], 3).tolist()
      [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    most = min(start.shape) - 1
    check_in_range("axes of the diffusion map", num_axes, 1, most)
    scale = diags_array(1 / np.sqrt(graph.sum(axis=1)))
    # The symmetric matrix that has the same eigenvalues.
    symmetric = (scale @ graph @ scale).tocsr().astype(np.float32)
    values, vectors = _leading(symmetric, start, num_axes + 1)
    points = (scale @ vectors) * np.maximum(values, 0.0) ** num_steps
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
