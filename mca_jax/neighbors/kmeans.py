"""Spherical k-means: k-means++ seeding, restarts, no cluster left empty."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.core.errors import check_in_range
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    fetch,
    fetch_rows,
    over_devices,
    replicate,
    shard_rows,
)
from mca_jax.core.parallel.collectives import (
    all_rows,
    global_sum,
    mean_rows,
    num_rows,
    take_rows,
    valid_rows,
)
from mca_jax.core.types import PRNGKey
from mca_jax.neighbors.streamed import streamed_lloyd
from mca_jax.neighbors.topk import first_largest

__all__ = [
    "KMeansResult",
    "assign_nearest",
    "lloyd_iterations",
    "seed_centers",
    "spherical_kmeans",
]


# Iterations over all rows from centres that a sample has settled on.
_POLISHING = 10


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
    return first_largest(rows @ centers.T)


def seed_centers(
    key: PRNGKey,
    rows: Float[Array, "n d"],
    *,
    num_clusters: int,
    num_trials: int = 4,
    axis_name: str | None = None,
    count: int | None = None,
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
      axis_name: Axis of the devices that share the rows; None for one device.
      count: Number of rows, where zeros fill the last devices up; None counts
        every row.

    Returns:
      ``k`` of the rows.
    """
    first_key, rest_key = jax.random.split(key)
    valid = valid_rows(rows.shape[0], axis_name, count)
    whole = num_rows(rows.shape[0], axis_name, count)
    first = jax.random.randint(first_key, (), 0, whole)
    chosen = jnp.zeros(num_clusters, jnp.int32).at[0].set(first)
    start = take_rows(rows, first[None], axis_name)[0]
    # Rows that fill up are near everything: they are never drawn.
    distance = jnp.where(valid, jnp.maximum(1.0 - rows @ start, 0.0), 0.0)

    def add_center(
        i: Int[Array, ""], carry: tuple[Int[Array, " k"], Float[Array, " n"]]
    ) -> tuple[Int[Array, " k"], Float[Array, " n"]]:
        chosen, distance = carry
        # The floor keeps the draw defined when all rows coincide.
        trials = jax.random.categorical(
            jax.random.fold_in(rest_key, i),
            jnp.log(all_rows(distance, axis_name, count) + 1e-12),
            shape=(num_trials,),
        )
        candidates = take_rows(rows, trials, axis_name)
        shrunk = jnp.minimum(
            distance[None, :], jnp.maximum(1.0 - candidates @ rows.T, 0.0)
        )
        best = jnp.argmin(global_sum(jnp.sum(shrunk, axis=1), axis_name))
        return chosen.at[i].set(trials[best].astype(jnp.int32)), shrunk[best]

    chosen, _ = jax.lax.fori_loop(1, num_clusters, add_center, (chosen, distance))
    return take_rows(rows, chosen, axis_name)


def lloyd_iterations(
    rows: Float[Array, "n d"],
    centers: Float[Array, "k d"],
    *,
    max_iterations: int = 100,
    axis_name: str | None = None,
    count: int | None = None,
) -> KMeansResult:
    """Alternate assignment and mean direction until nothing changes.

    A cluster that loses all its rows is moved onto the row that is served worst
    by its centre: several empty clusters take different rows.

    Args:
      rows: Unit vectors.
      centers: Starting centres.
      max_iterations: Bound on the alternations, at least 1.
      axis_name: Axis of the devices that share the rows; None for one device.
      count: Number of rows, where zeros fill the last devices up; None counts
        every row.

    Returns:
      Centres, assignments of the own rows and the objective.
    """
    k = centers.shape[0]
    valid = valid_rows(rows.shape[0], axis_name, count)

    def improve(
        carry: tuple[Float[Array, "k d"], Int[Array, " n"], Int[Array, ""], Array],
    ) -> tuple[Float[Array, "k d"], Int[Array, " n"], Int[Array, ""], Array]:
        centers, previous, iteration, _ = carry
        assignments, cosine = assign_nearest(rows, centers)
        sums = jax.ops.segment_sum(rows, assignments, num_segments=k)
        weight = valid.astype(cosine.dtype)
        counts = jax.ops.segment_sum(weight, assignments, num_segments=k)
        sums, counts = global_sum(sums, axis_name), global_sum(counts, axis_name)
        empty = counts == 0
        whole = all_rows(cosine, axis_name, count)
        _, worst = jax.lax.top_k(-whole, min(k, whole.shape[0]))
        rank = jnp.clip(jnp.cumsum(empty) - 1, 0, worst.shape[0] - 1)
        moved_in = take_rows(rows, worst[rank], axis_name)
        centers = jnp.where(empty[:, None], moved_in, l2_normalize(sums))
        changed = jnp.sum((assignments != previous) & valid)
        moved = (global_sum(changed, axis_name) > 0) | jnp.any(empty)
        return centers, assignments, iteration + 1, moved

    def unfinished(
        carry: tuple[Float[Array, "k d"], Int[Array, " n"], Int[Array, ""], Array],
    ) -> Array:
        return carry[3] & (carry[2] < max_iterations)

    none = jnp.full(rows.shape[0], -1, jnp.int32)
    start = (centers, none, jnp.zeros((), jnp.int32), jnp.ones((), bool))
    centers, *_ = jax.lax.while_loop(unfinished, improve, start)
    assignments, cosine = assign_nearest(rows, centers)
    return KMeansResult(centers, assignments, mean_rows(cosine, axis_name, count))


def _best_of_restarts(
    key: PRNGKey,
    rows: Float[Array, "n d"],
    *,
    num_clusters: int,
    num_restarts: int,
    max_iterations: int,
    axis_name: str | None = None,
    count: int | None = None,
) -> KMeansResult:
    def run(key: PRNGKey) -> KMeansResult:
        centers = seed_centers(
            key, rows, num_clusters=num_clusters, axis_name=axis_name, count=count
        )
        return lloyd_iterations(
            rows,
            centers,
            max_iterations=max_iterations,
            axis_name=axis_name,
            count=count,
        )

    # map, not vmap: memory of one run, and each stops as soon as it has converged.
    runs = jax.lax.map(run, jax.random.split(key, num_restarts))
    best = jnp.argmax(runs.objective)
    return jax.tree.map(lambda leaf: leaf[best], runs)


_on_one_device = jax.jit(
    _best_of_restarts,
    static_argnames=("num_clusters", "num_restarts", "max_iterations"),
)


_lloyd_on_one_device = jax.jit(lloyd_iterations, static_argnames="max_iterations")
_SPLIT = KMeansResult(centers=False, assignments=True, objective=False)  # pyright: ignore[reportArgumentType]


def _to_first_device(result: KMeansResult, count: int) -> KMeansResult:
    """Bring a result over devices to the host's first device."""
    centers, assignments, objective = (jnp.asarray(fetch(part)) for part in result)
    return KMeansResult(centers, assignments[:count], objective)


def _restarts(
    key: PRNGKey, rows: Float[Array, "n d"] | ShardedRows, settings: dict[str, int]
) -> KMeansResult:
    """Keep the best of several runs over all rows."""
    if not isinstance(rows, ShardedRows):
        return _on_one_device(key, rows, **settings)
    run = partial(_best_of_restarts, axis_name=DATA_AXIS, count=rows.count, **settings)
    function = over_devices(run, rows.mesh, split=(False, True), split_out=_SPLIT)
    found = function(replicate(key, rows.mesh), rows.array)
    return _to_first_device(found, rows.count)


def _polish(
    rows: Float[Array, "n d"] | Rows, centers: Float[Array, "k d"], iterations: int
) -> KMeansResult:
    """Go on from centres of a sample over all rows."""
    if isinstance(rows, HostRows):
        found = streamed_lloyd(rows, centers, max_iterations=iterations)
        return KMeansResult(*(jnp.asarray(part) for part in found))
    if not isinstance(rows, ShardedRows):
        return _lloyd_on_one_device(rows, centers, max_iterations=iterations)
    function = over_devices(
        partial(
            lloyd_iterations,
            max_iterations=iterations,
            axis_name=DATA_AXIS,
            count=rows.count,
        ),
        rows.mesh,
        split=(True, False),
        split_out=_SPLIT,
    )
    found = function(rows.array, replicate(centers, rows.mesh))
    return _to_first_device(found, rows.count)


def _sample(
    key: PRNGKey, rows: Float[Array, "n d"] | Rows, size: int
) -> Float[Array, "s d"] | ShardedRows:
    """Draw rows without replacement, the same wherever the table is."""
    drawn = jax.random.permutation(key, rows.shape[0])[:size]
    chosen = np.sort(np.asarray(drawn))
    if isinstance(rows, ShardedRows):
        return shard_rows(fetch_rows(rows, chosen), rows.mesh)
    return jnp.asarray(fetch_rows(rows, chosen))


def spherical_kmeans(
    key: PRNGKey,
    rows: Float[Array, "n d"] | Rows,
    *,
    num_clusters: int,
    num_restarts: int = 10,
    max_iterations: int = 100,
    sample_size: int = 100_000,
) -> KMeansResult:
    """Cluster unit vectors by direction; keep the best of several restarts.

    Args:
      key: Key of the seeding.
      rows: Unit vectors, on one device, over several or on the host.
      num_clusters: ``k``, at least 2 and at most ``n``.
      num_restarts: Independent seedings, at least 1; that of the largest
        objective is kept.
      max_iterations: Bound on the iterations of each.
      sample_size: Rows from which the seedings start, at least ``k``. A larger
        set is sampled for them, and ten iterations over all rows follow; how
        much memory there is changes nothing.

    Returns:
      Centres, assignments and objective of the best restart.

    Raises:
      InputError: ``num_clusters`` is below 2 or above the number of rows.
    """
    check_in_range("num_clusters", num_clusters, 2, rows.shape[0])
    check_in_range("k-means sample", sample_size, num_clusters)
    settings = {
        "num_clusters": num_clusters,
        "num_restarts": num_restarts,
        "max_iterations": max_iterations,
    }
    if rows.shape[0] > sample_size:
        sample_key, key = jax.random.split(key)
        sample = _sample(sample_key, rows, sample_size)
        start = _restarts(key, sample, settings).centers
        return _polish(rows, start, min(_POLISHING, max_iterations))
    if isinstance(rows, HostRows):
        rows = jnp.asarray(rows.array)
    return _restarts(key, rows, settings)
