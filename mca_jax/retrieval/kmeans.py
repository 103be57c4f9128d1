"""Spherical k-means: k-means++ seeding, restarts, no cluster left empty."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.checks import check_in_range
from mca_jax.numerics import l2_normalize
from mca_jax.types import PRNGKey

__all__ = [
    "KMeansResult",
    "assign_nearest",
    "lloyd_iterations",
    "seed_centers",
    "spherical_kmeans",
]


class KMeansResult(NamedTuple):
    """The best of several k-means runs.

    Attributes:
      centers: Unit vectors, float32 ``[k, d]``.
      assignments: Nearest centre of each row, int32 ``[n]``.
      objective: Mean cosine of a row to its centre, in [-1, 1]; higher is
        better.
    """

    centers: Float[Array, "k d"]
    assignments: Int[Array, " n"]
    objective: Float[Array, ""]


def assign_nearest(
    rows: Float[Array, "n d"], centers: Float[Array, "k d"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Assign every row to the centre of largest cosine.

    Args:
      rows: Unit vectors.
      centers: Unit vectors.

    Returns:
      Index of the nearest centre and the cosine to it; ties go to the lower
      index.
    """
    scores = rows @ centers.T
    return jnp.argmax(scores, axis=1).astype(jnp.int32), jnp.max(scores, axis=1)


def seed_centers(
    key: PRNGKey, rows: Float[Array, "n d"], *, num_clusters: int, num_trials: int = 4
) -> Float[Array, "k d"]:
    """Choose starting centres by greedy k-means++.

    Each further centre is the best of ``num_trials`` rows drawn with
    probability proportional to ``1 - cos`` to the nearest centre so far (half
    the squared distance of unit vectors; Arthur and Vassilvitskii, 2007).

    Args:
      key: Key of the draws.
      rows: Unit vectors.
      num_clusters: ``k``.
      num_trials: Candidates a centre, at least 1.

    Returns:
      ``k`` of the rows.
    """
    first_key, rest_key = jax.random.split(key)
    first = jax.random.randint(first_key, (), 0, rows.shape[0])
    chosen = jnp.zeros(num_clusters, jnp.int32).at[0].set(first)
    distance = jnp.maximum(1.0 - rows @ rows[first], 0.0)

    def add_center(
        i: Int[Array, ""], carry: tuple[Int[Array, " k"], Float[Array, " n"]]
    ) -> tuple[Int[Array, " k"], Float[Array, " n"]]:
        chosen, distance = carry
        # The floor keeps the draw defined when all rows coincide.
        trials = jax.random.categorical(
            jax.random.fold_in(rest_key, i),
            jnp.log(distance + 1e-12),
            shape=(num_trials,),
        )
        shrunk = jnp.minimum(
            distance[None, :], jnp.maximum(1.0 - rows[trials] @ rows.T, 0.0)
        )
        best = jnp.argmin(jnp.sum(shrunk, axis=1))
        return chosen.at[i].set(trials[best].astype(jnp.int32)), shrunk[best]

    chosen, _ = jax.lax.fori_loop(1, num_clusters, add_center, (chosen, distance))
    return rows[chosen]


def lloyd_iterations(
    rows: Float[Array, "n d"],
    centers: Float[Array, "k d"],
    *,
    max_iterations: int = 100,
) -> KMeansResult:
    """Alternate assignment and mean direction until nothing changes.

    A cluster that loses all its rows is moved onto the row that is served worst
    by its centre: several empty clusters take different rows.

    Args:
      rows: Unit vectors.
      centers: Starting centres.
      max_iterations: Bound on the alternations, at least 1.

    Returns:
      Centres, assignments to them and the objective.
    """
    k = centers.shape[0]

    def improve(
        carry: tuple[Float[Array, "k d"], Int[Array, " n"], Int[Array, ""], Array],
    ) -> tuple[Float[Array, "k d"], Int[Array, " n"], Int[Array, ""], Array]:
        centers, previous, iteration, _ = carry
        assignments, cosine = assign_nearest(rows, centers)
        sums = jax.ops.segment_sum(rows, assignments, num_segments=k)
        counts = jax.ops.segment_sum(jnp.ones_like(cosine), assignments, num_segments=k)
        empty = counts == 0
        _, worst = jax.lax.top_k(-cosine, min(k, rows.shape[0]))
        rank = jnp.clip(jnp.cumsum(empty) - 1, 0, worst.shape[0] - 1)
        centers = jnp.where(empty[:, None], rows[worst[rank]], l2_normalize(sums))
        moved = jnp.any(assignments != previous) | jnp.any(empty)
        return centers, assignments, iteration + 1, moved

    def unfinished(
        carry: tuple[Float[Array, "k d"], Int[Array, " n"], Int[Array, ""], Array],
    ) -> Array:
        return carry[3] & (carry[2] < max_iterations)

    none = jnp.full(rows.shape[0], -1, jnp.int32)
    start = (centers, none, jnp.zeros((), jnp.int32), jnp.ones((), bool))
    centers, *_ = jax.lax.while_loop(unfinished, improve, start)
    assignments, cosine = assign_nearest(rows, centers)
    return KMeansResult(centers, assignments, jnp.mean(cosine))


@partial(jax.jit, static_argnames=("num_clusters", "num_restarts", "max_iterations"))
def _best_of_restarts(
    key: PRNGKey,
    rows: Float[Array, "n d"],
    *,
    num_clusters: int,
    num_restarts: int,
    max_iterations: int,
) -> KMeansResult:
    def run(key: PRNGKey) -> KMeansResult:
        centers = seed_centers(key, rows, num_clusters=num_clusters)
        return lloyd_iterations(rows, centers, max_iterations=max_iterations)

    # map, not vmap: memory of one run, and each stops as soon as it has converged.
    runs = jax.lax.map(run, jax.random.split(key, num_restarts))
    best = jnp.argmax(runs.objective)
    return jax.tree.map(lambda leaf: leaf[best], runs)


def spherical_kmeans(
    key: PRNGKey,
    rows: Float[Array, "n d"],
    *,
    num_clusters: int,
    num_restarts: int = 10,
    max_iterations: int = 100,
) -> KMeansResult:
    """Cluster unit vectors by direction; keep the best of several restarts.

    Args:
      key: Key of the seeding.
      rows: Unit vectors.
      num_clusters: ``k``, at least 2 and at most ``n``.
      num_restarts: Independent seedings, at least 1; that of the largest
        objective is kept.
      max_iterations: Bound on the iterations of each.

    Returns:
      Centres, assignments and objective of the best restart.

    Raises:
      InputError: ``num_clusters`` is below 2 or above the number of rows.
    """
    check_in_range("num_clusters", num_clusters, 2, rows.shape[0])
    return _best_of_restarts(
        key,
        rows,
        num_clusters=num_clusters,
        num_restarts=num_restarts,
        max_iterations=max_iterations,
    )
