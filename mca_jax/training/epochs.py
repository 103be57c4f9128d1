"""Epochs over a set on one device, sharded over several, or held by the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from mca_jax.alignment.losses import Batch, LossWeights, Objective
from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    Table,
    fetch,
    over_devices,
    replicate,
    shard_picked,
    shard_rows,
)
from mca_jax.core.parallel.collectives import scatter_rows
from mca_jax.core.types import PRNGKey
from mca_jax.data.prefetch import map_ahead
from mca_jax.neighbors import sample_neighbors
from mca_jax.training.step import (
    BATCH_SPLIT,
    Step,
    StepInfo,
    TrainState,
    build_step,
    gather_outputs,
    shard_forward,
)

__all__ = [
    "Epoch",
    "TrainDriver",
    "TrainingData",
    "build_epoch",
    "compile_epoch",
    "epoch_order",
    "gather_batch",
    "shard_data",
    "steps_per_epoch",
]

TrainDriver: TypeAlias = Literal["jit", "pmap"]
"""How several devices share a step: ``"jit"`` of sharded arrays, or the older
``"pmap"``, which takes its batches from the host; within one process only."""

# Batches that wait for the device: one is copied while another is gathered.
_AHEAD = 3
# Numbers of nouns of a batch that are compiled for.
_NOUN_SIZES = 8
# Rows of a set that pmap is given from the host at once, between two steps.
_BLOCK = 65_536


class TrainingData(NamedTuple):
    """Embeddings of images and nouns with their neighbour tables. No labels.

    Attributes:
      images: Unit vectors ``[n, d]``.
      nouns: Unit vectors of the semantic space, ``[m, d]``.
      image_neighbors: Rows of each image's nearest images, int32 ``[n, r_i]``.
      noun_neighbors: Rows of each image's nearest nouns, int32 ``[n, r_t]``.
      noun_similarities: Cosines to those nouns, ``[n, r_t]``.
    """

    images: Float[Array, "n d"] | Rows
    nouns: Float[Array, "m d"]
    image_neighbors: Int[Array, "n ri"] | Table
    noun_neighbors: Int[Array, "n rt"] | Table
    noun_similarities: Float[Array, "n rt"] | Table


Epoch: TypeAlias = Callable[
    [TrainState, TrainingData, LossWeights, Float[Array, " k"], Int[Array, ""] | int],
    tuple[TrainState, StepInfo],
]
"""``(state, data, weights, prior, count)`` to the state ``count`` steps later."""


def shard_data(
    data: TrainingData, mesh: Mesh | None, *, driver: TrainDriver = "jit"
) -> TrainingData:
    """Bring the set to where its training reads it.

    Args:
      data: The set, wherever it is.
      mesh: The devices that it is sharded over, or None for one.
      driver: ``"pmap"`` keeps the set on the host.

    Returns:
      The set; images that are on the host stay there.
    """
    images, nouns, *near = data
    nouns = nouns if mesh is None else replicate(nouns, mesh)
    if mesh is not None and driver == "pmap" and not isinstance(images, HostRows):
        images = HostRows(np.asarray(images), _BLOCK, mesh)
    if isinstance(images, HostRows):
        return TrainingData(images, nouns, *(np.asarray(x) for x in near))
    if mesh is None:
        return data
    images, *near = (shard_rows(x, mesh) for x in (images, *near))
    return TrainingData(images, nouns, *near)


def steps_per_epoch(
    num_images: int, batch_size: int, max_steps: int | None = None
) -> int:
    """Steps of an epoch: a pass over the set, or ``max_steps`` of one if given.

    Example:
      >>> steps_per_epoch(1000, 300), steps_per_epoch(1000, 300, 2)
      (3, 2)
    """
    steps = num_images // batch_size
    return steps if max_steps is None else min(steps, max_steps)


def epoch_order(
    key: PRNGKey, *, num_images: int, batch_size: int, max_steps: int | None = None
) -> Int[Array, "s b"]:
    """Permute the images and cut them into batches of one size.

    Images that are left over, ``n mod b`` or those beyond ``max_steps``, sit out this
    epoch; another permutation leaves out others.

    Returns:
      Rows of the images, one line a step.
    """
    steps = steps_per_epoch(num_images, batch_size, max_steps)
    order = jax.random.permutation(key, num_images)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(jnp.int32)


def _take(table: Any, rows: Int[Array, " b"]) -> Array:
    """Look rows up; of a sharded table each device gets its share, padded."""
    if not isinstance(table, ShardedRows):
        return table[rows]
    take = over_devices(
        partial(scatter_rows, axis_name=DATA_AXIS),
        table.mesh,
        split=(True, False),
        split_out=True,
    )
    return take(table.array, jnp.pad(rows, (0, -rows.shape[0] % table.mesh.size)))


def gather_batch(key: PRNGKey, data: Any, rows: Int[Array, " b"]) -> Batch:
    """Collect anchors, a drawn neighbour of each, and the nouns of both.

    Args:
      key: Key of the neighbours' draw.
      data: ``TrainingData`` on one device or, within a compiled function, sharded.
      rows: Anchors.

    Returns:
      Everything that a step reads, sharded as the set is and padded then.
    """
    # Any device may need any row: the compiler looks it up where it is.
    near_images: Any = getattr(data.image_neighbors, "array", data.image_neighbors)
    near = sample_neighbors(key, near_images, rows)
    tables = data.images, data.noun_neighbors, data.noun_similarities
    own, other = (
        tuple(_take(table, which) for table in tables) for which in (rows, near)
    )
    return Batch(own[0], other[0], data.nouns, *own[1:], *other[1:])


def build_epoch(step: Step, *, batch_size: int, max_steps: int | None = None) -> Epoch:
    """Build a run of steps within one epoch, without a return to the host.

    Order and neighbours are drawn from the state's key and step alone, so that
    an epoch after a resume is the epoch that would have been. How an epoch is cut
    into runs changes nothing: the count of steps is a traced argument of one
    compiled function.

    Args:
      step: From :func:`build_step`.
      batch_size: Images a step, at most ``n``.
      max_steps: Most steps of an epoch; None for a whole pass.

    Returns:
      A pure, un-jitted function. It takes ``count`` steps from where the state
      stands, at most up to the end of its epoch, and stops at the first that is
      not valid. The info has a leading axis of an epoch's steps; its first
      ``count`` rows are those of the steps, zeros after a stop.
    """

    def epoch(
        state: TrainState,
        data: TrainingData,
        weights: LossWeights,
        prior: Float[Array, " k"],
        count: Int[Array, ""] | int,
    ) -> tuple[TrainState, StepInfo]:
        num_images = data.images.shape[0]
        num_steps = steps_per_epoch(num_images, batch_size, max_steps)
        position = state.step % num_steps
        order_key, draw_key = jax.random.split(
            jax.random.fold_in(state.key, state.step - position)
        )
        order = epoch_order(
            order_key,
            num_images=num_images,
            batch_size=batch_size,
            max_steps=max_steps,
        )

        def run_step(state: TrainState, row: Array) -> tuple[TrainState, StepInfo]:
            key = jax.random.fold_in(draw_key, state.step)
            return step(state, gather_batch(key, data, order[row]), weights, prior)

        shapes = jax.eval_shape(run_step, state, position)[1]
        infos = jax.tree.map(
            lambda x: jnp.zeros((num_steps, *x.shape), x.dtype), shapes
        )

        def unfinished(carry: tuple[Array, Array, TrainState, StepInfo]) -> Array:
            done, valid, _, _ = carry
            return (done < count) & valid

        def advance(
            carry: tuple[Array, Array, TrainState, StepInfo],
        ) -> tuple[Array, Array, TrainState, StepInfo]:
            done, _, state, infos = carry
            state, info = run_step(state, position + done)
            infos = jax.tree.map(lambda all, one: all.at[done].set(one), infos, info)
            return done + 1, info.valid, state, infos

        start = (jnp.zeros((), jnp.int32), jnp.asarray(True), state, infos)
        _, _, state, infos = jax.lax.while_loop(unfinished, advance, start)
        return state, infos

    return epoch


@partial(
    jax.jit, static_argnames=("num_images", "batch_size", "max_steps", "num_choices")
)
def _draw_epoch(
    key: PRNGKey,
    step: Int[Array, ""],
    *,
    num_images: int,
    batch_size: int,
    max_steps: int | None,
    num_choices: int,
) -> tuple[Int[Array, "s b"], Int[Array, "s b"]]:
    """Anchors of an epoch that begins at a step, and the neighbour of each."""
    order_key, draw_key = jax.random.split(jax.random.fold_in(key, step))
    order = epoch_order(
        order_key, num_images=num_images, batch_size=batch_size, max_steps=max_steps
    )

    def draw(at: Int[Array, ""]) -> Int[Array, " b"]:
        drawn = jax.random.fold_in(draw_key, at)
        return jax.random.randint(drawn, (batch_size,), 0, num_choices)

    return order, jax.lax.map(draw, step + jnp.arange(order.shape[0]))


def _nouns_of(
    nouns: Float[np.ndarray, "m d"], rows: Int[np.ndarray, "two b r"]
) -> tuple[Float[np.ndarray, "u d"], Int[np.ndarray, "two b r"]]:
    """Nouns of one batch alone, each once, and where in them its rows are.

    Padded to one of a few sizes that are compiled for: the networks assign each noun
    of a batch, at a million images as long as the rest of a step.
    """
    used, places = np.unique(rows, return_inverse=True)
    step = -(-len(nouns) // _NOUN_SIZES)
    size = min(-(-len(used) // step) * step, len(nouns))
    some = np.zeros((size, nouns.shape[1]), nouns.dtype)
    some[: len(used)] = nouns[used]
    return some, places.reshape(rows.shape).astype(np.int32)


def _host_batches(
    state: TrainState,
    data: TrainingData,
    batch_size: int,
    max_steps: int | None,
    count: int,
    mesh: Any,
) -> Iterator[Batch]:
    """Gather the batches of the next steps in threads, ahead of the device."""
    table = data.images
    assert isinstance(table, HostRows)
    near_images, near_nouns, cosines = (
        np.asarray(x)
        for x in (data.image_neighbors, data.noun_neighbors, data.noun_similarities)
    )
    step, num_images = int(state.step), table.shape[0]
    position = step % steps_per_epoch(num_images, batch_size, max_steps)
    order, slots = (
        np.asarray(x)
        for x in _draw_epoch(
            # The key may be on several devices; what is drawn is for the host.
            jax.random.wrap_key_data(
                jnp.asarray(fetch(jax.random.key_data(state.key)))
            ),
            np.int32(step - position),
            num_images=num_images,
            batch_size=batch_size,
            max_steps=max_steps,
            num_choices=near_images.shape[1],
        )
    )

    nouns = np.asarray(data.nouns)

    def gather(line: int) -> Batch:
        rows = order[line]
        near = near_images[rows, slots[line]]
        some, places = _nouns_of(nouns, near_nouns[[rows, near]])
        own, other = (
            [
                shard_picked(table.array, which, mesh, np.float32),
                shard_picked(place, np.arange(len(place)), mesh),
                shard_picked(cosines, which, mesh),
            ]
            for which, place in zip((rows, near), places, strict=True)
        )
        whole = jnp.asarray(some) if mesh is None else replicate(some, mesh)
        return Batch(own[0], other[0], whole, *own[1:], *other[1:])

    lines = range(position, position + count)
    return map_ahead(gather, lines, threads=2, ahead=_AHEAD)


def _host_epoch(
    run_step: Step, *, batch_size: int, max_steps: int | None, mesh: Mesh | None
) -> Epoch:
    """Steps of batches that the host gathers, copied while the one before computes."""

    def epoch(
        state: TrainState, data: TrainingData, weights: Any, prior: Any, count: Any
    ) -> tuple[TrainState, StepInfo]:
        infos: list[Any] = []
        batches = _host_batches(state, data, batch_size, max_steps, int(count), mesh)
        with closing(batches):  # pyright: ignore[reportArgumentType]
            for batch in batches:
                state, info = run_step(state, batch, weights, prior)
                infos.append(jax.device_get(info))
                if not infos[-1].valid:
                    break
        whole = steps_per_epoch(data.images.shape[0], batch_size, max_steps)
        missing = whole - len(infos)
        stacked = jax.tree.map(
            lambda *rows: np.pad(np.stack(rows), (0, missing)), *infos
        )
        return state, stacked

    return epoch


def compile_epoch(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    max_steps: int | None = None,
    mesh: Mesh | None,
    driver: TrainDriver = "jit",
) -> Epoch:
    """Compile a run of steps that reads the set wherever :func:`shard_data` put it.

    Args:
      objective: The loss of a whole batch.
      optimizer: The optimizer.
      batch_size: Images a step over all devices, at most ``n``.
      max_steps: Most steps of an epoch; None for a whole pass.
      mesh: Devices that share set and batch; None for one.
      driver: How they do; order, neighbours and batches are those of one device.

    Returns:
      A function like that of :func:`build_epoch`. Its state is used up: the memory
      goes to the next one.
    """
    by_pmap = mesh is not None and driver == "pmap"
    # Where devices share the work, all of them need what it leaves.
    whole = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    compiled = partial(jax.jit, donate_argnums=0, out_shardings=whole)
    if mesh is not None:
        share = gather_outputs if by_pmap else partial(shard_forward, mesh=mesh)
        objective = share(objective, batch_size=batch_size)
    step = build_step(objective, optimizer, axis_name=DATA_AXIS if by_pmap else None)
    if mesh is not None and by_pmap:
        split = (False, BATCH_SPLIT, False, False)
        run_step = over_devices(step, mesh, split=split, driver="pmap")
    else:
        run_step = compiled(step)
    on_host = _host_epoch(
        run_step, batch_size=batch_size, max_steps=max_steps, mesh=mesh
    )
    on_device = compiled(build_epoch(step, batch_size=batch_size, max_steps=max_steps))

    def epoch(
        state: TrainState, data: TrainingData, weights: Any, prior: Any, count: Any
    ) -> tuple[TrainState, StepInfo]:
        if mesh is not None:
            fixed = (weights, prior, np.int32(count))
            weights, prior, count = replicate(fixed, mesh)
        run = on_host if isinstance(data.images, HostRows) else on_device
        return run(state, data, weights, prior, count)

    return epoch
