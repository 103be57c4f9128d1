"""Passes over a set that many devices share, or that only the host can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from mca_jax.alignment.losses import Batch
from mca_jax.core.parallel import (
    DATA_AXIS,
    HostRows,
    ShardedRows,
    Table,
    fetch,
    over_devices,
    replicate,
    shard_picked,
    shard_rows,
)
from mca_jax.core.types import PRNGKey
from mca_jax.data.prefetch import map_ahead
from mca_jax.training.data import TrainingData, epoch_order
from mca_jax.training.state import TrainState
from mca_jax.training.step import Epoch, Step, StepInfo, build_epoch

__all__ = [
    "BATCH_SPLIT",
    "build_any_epoch",
    "build_host_epoch",
    "build_mesh_epoch",
    "shard_data",
]

BATCH_SPLIT = Batch(*(name != "nouns" for name in Batch._fields))  # pyright: ignore[reportArgumentType]
"""Which parts of a batch devices share; all of them have all nouns."""

_DATA_SPLIT = TrainingData(*(name != "nouns" for name in TrainingData._fields))  # pyright: ignore[reportArgumentType]
# Batches that wait for the device: one is copied while another is gathered.
_AHEAD = 3


def _near(data: TrainingData) -> tuple[Table, Table, Table]:
    return data.image_neighbors, data.noun_neighbors, data.noun_similarities


def shard_data(data: TrainingData, mesh: Mesh | None) -> TrainingData:
    """Spread the set over devices, if there are several.

    Args:
      data: The set, in any place.
      mesh: The devices, or None for one.

    Returns:
      The set where its training reads it; images on the host stay there.
    """
    if isinstance(data.images, HostRows):
        near = (np.asarray(x) for x in _near(data))
        nouns = data.nouns if mesh is None else replicate(data.nouns, mesh)
        return TrainingData(data.images, nouns, *near)
    if mesh is None:
        return data
    return TrainingData(
        shard_rows(data.images, mesh),
        replicate(data.nouns, mesh),
        *(shard_rows(x, mesh) for x in _near(data)),
    )


def build_mesh_epoch(step: Step, mesh: Mesh, *, batch_size: int) -> Epoch:
    """Build a run of steps over devices that share the set.

    Args:
      step: From ``build_step`` with ``DATA_AXIS``.
      mesh: The devices.
      batch_size: Images a step over all devices, at most ``n``.

    Returns:
      A compiled function like that of ``build_epoch``, for data of
      :func:`shard_data`. Order, neighbours and batches are those of one device.
    """
    compiled: dict[int, Callable[..., Any]] = {}

    def epoch(
        state: TrainState, data: TrainingData, weights: Any, prior: Any, count: Any
    ) -> tuple[TrainState, StepInfo]:
        num_images = data.images.shape[0]
        if num_images not in compiled:
            per_device = build_epoch(
                step, batch_size=batch_size, axis_name=DATA_AXIS, num_images=num_images
            )
            split = (False, _DATA_SPLIT, False, False, False)
            compiled[num_images] = over_devices(
                per_device, mesh, split=split, donate=(0,)
            )
        arrays: list[Any] = [x.array if isinstance(x, ShardedRows) else x for x in data]
        fixed = replicate((weights, prior, np.int32(count)), mesh)
        return compiled[num_images](state, TrainingData(*arrays), *fixed)

    return epoch


@partial(jax.jit, static_argnames=("num_images", "batch_size", "num_choices"))
def _draw_pass(
    key: PRNGKey,
    step: Int[Array, ""],
    *,
    num_images: int,
    batch_size: int,
    num_choices: int,
) -> tuple[Int[Array, "s b"], Int[Array, "s b"]]:
    """Anchors of a pass that begins at a step, and the neighbour of each."""
    order_key, draw_key = jax.random.split(jax.random.fold_in(key, step))
    order = epoch_order(order_key, num_images=num_images, batch_size=batch_size)

    def draw(at: Int[Array, ""]) -> Int[Array, " b"]:
        drawn = jax.random.fold_in(draw_key, at)
        return jax.random.randint(drawn, (batch_size,), 0, num_choices)

    return order, jax.lax.map(draw, step + jnp.arange(order.shape[0]))


def _batches(
    state: TrainState, data: TrainingData, batch_size: int, count: int, mesh: Any
) -> Iterator[Batch]:
    """Gather the batches of the next steps in threads, ahead of the device."""
    table = data.images
    assert isinstance(table, HostRows)
    near_images, near_nouns, cosines = (np.asarray(x) for x in _near(data))
    step, num_images = int(state.step), table.shape[0]
    position = step % (num_images // batch_size)
    order, slots = (
        np.asarray(x)
        for x in _draw_pass(
            # The key may be on several devices; what is drawn is for the host.
            jax.random.wrap_key_data(
                jnp.asarray(fetch(jax.random.key_data(state.key)))
            ),
            np.int32(step - position),
            num_images=num_images,
            batch_size=batch_size,
            num_choices=near_images.shape[1],
        )
    )

    def gather(line: int) -> Batch:
        rows = order[line]
        near = near_images[rows, slots[line]]
        own, other = (
            [
                shard_picked(table.array, which, mesh, np.float32),
                *(shard_picked(x, which, mesh) for x in (near_nouns, cosines)),
            ]
            for which in (rows, near)
        )
        return Batch(own[0], other[0], data.nouns, *own[1:], *other[1:])

    lines = range(position, position + count)
    return map_ahead(gather, lines, threads=2, ahead=_AHEAD)


def build_host_epoch(step: Step, *, batch_size: int, mesh: Mesh | None = None) -> Epoch:
    """Build a run of steps over a set that stays on the host.

    Each batch is gathered there and copied while the one before computes. The
    batches are those of the set on the device.

    Args:
      step: From ``build_step``; with ``DATA_AXIS`` where there is a mesh.
      batch_size: Images a step, at most ``n``.
      mesh: Devices that share a batch; None for one.

    Returns:
      A function like that of ``build_epoch``, not to be compiled.
    """
    if mesh is None:
        run = jax.jit(step, donate_argnums=0)
    else:
        split = (False, BATCH_SPLIT, False, False)
        run = over_devices(step, mesh, split=split, donate=(0,))

    def epoch(
        state: TrainState, data: TrainingData, weights: Any, prior: Any, count: Any
    ) -> tuple[TrainState, StepInfo]:
        fixed = (weights, prior) if mesh is None else replicate((weights, prior), mesh)
        infos: list[Any] = []
        batches = _batches(state, data, batch_size, int(count), mesh)
        with closing(batches):  # pyright: ignore[reportArgumentType]
            for batch in batches:
                state, info = run(state, batch, *fixed)
                infos.append(jax.device_get(info))
                if not infos[-1].valid:
                    break
        missing = data.images.shape[0] // batch_size - len(infos)
        stacked = jax.tree.map(
            lambda *rows: np.pad(np.stack(rows), (0, missing)), *infos
        )
        return state, stacked

    return epoch


def build_any_epoch(step: Step, *, batch_size: int, mesh: Mesh | None) -> Epoch:
    """Build a run of steps that reads the set wherever it is.

    Args:
      step: From ``build_step``; with ``DATA_AXIS`` where there is a mesh.
      batch_size: Images a step over all devices, at most ``n``.
      mesh: Devices that share set and batch; None for one.

    Returns:
      A compiled function like that of ``build_epoch``; the state that it is
      given is used up.
    """
    on_host = build_host_epoch(step, batch_size=batch_size, mesh=mesh)
    if mesh is None:
        placed = build_epoch(step, batch_size=batch_size)
        # The state before is not needed again: its memory is reused.
        on_devices: Any = jax.jit(placed, donate_argnums=0)
    else:
        on_devices = build_mesh_epoch(step, mesh, batch_size=batch_size)

    def epoch(
        state: TrainState, data: TrainingData, weights: Any, prior: Any, count: Any
    ) -> tuple[TrainState, StepInfo]:
        run = on_host if isinstance(data.images, HostRows) else on_devices
        return run(state, data, weights, prior, count)

    return epoch
