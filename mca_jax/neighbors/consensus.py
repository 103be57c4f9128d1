"""Consensus clustering: one partition that agrees with several."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import check_in_range
from mca_jax.core.numerics import l2_normalize
from mca_jax.neighbors.kmeans import lloyd_iterations

__all__ = ["consensus_partition"]

_MOST_ITERATIONS = 100


@partial(jax.jit, static_argnames="num_clusters")
def consensus_partition(
    partitions: Int[Array, "p n"],
    votes: Float[Array, " p"] | None = None,
    *,
    num_clusters: int,
) -> Int[Array, " n"]:
    r"""Find the partition that agrees most with the given ones.

    Each row becomes its clusters in all partitions, one-hot and side by side:

    .. math:: b_i = \bigl(\sqrt{w_1}\, e_{y^{(1)}_i},\, \dots,\,
        \sqrt{w_p}\, e_{y^{(p)}_i}\bigr)

    and these are clustered by spherical k-means, from every given partition in
    turn. Two rows are as similar as the share of votes that has them
    together. What only one partition believes, for its seeding or the space that it
    was found in, is outvoted.

    Args:
      partitions: Clusters in ``[0, k)`` by several clusterings, at least one.
      votes: Of each partition, positive; their shares are ``w``. One each where
        none are given.
      num_clusters: ``k``.

    Returns:
      Clusters in ``[0, k)``, numbered as in the partition that it began from; of one
      partition, that one.

    References:
      Topchy, Jain and Punch, Clustering Ensembles: Models of Consensus and Weak
      Partitions, PAMI 2005, Section 3.2; Wu et al., K-means-based Consensus
      Clustering, TKDE 2015.

    Example:
      >>> votes = jnp.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])
      >>> consensus_partition(votes, num_clusters=2).tolist()
      [0, 0, 1, 1]
    """
    count, num_rows = partitions.shape
    check_in_range("partitions", count, 1)
    shares = jnp.ones(count) if votes is None else votes
    shares = shares / jnp.sum(shares)
    codes = jax.nn.one_hot(partitions.T, num_clusters) * jnp.sqrt(shares)[None, :, None]
    codes = codes.reshape(num_rows, -1)

    def run(partition: Array) -> tuple[Array, Array]:
        sums = jax.nn.one_hot(partition, num_clusters).T @ codes
        found = lloyd_iterations(
            codes, l2_normalize(sums), max_iterations=_MOST_ITERATIONS
        )
        return found.assignments, found.objective

    found, objectives = jax.lax.map(run, partitions)
    return found[jnp.argmax(objectives)]
