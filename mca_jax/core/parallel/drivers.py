"""Runs one per-device function on all devices: by ``shard_map`` or by ``pmap``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
from jax.sharding import Mesh, PartitionSpec

from mca_jax.core.parallel.mesh import DATA_AXIS

__all__ = ["Driver", "over_devices"]

Driver: TypeAlias = Literal["shard_map", "pmap"]
"""How a function is spread; both give the same bits."""


def _specs(split: Any) -> Any:
    return jax.tree.map(
        lambda one: PartitionSpec(DATA_AXIS) if one else PartitionSpec(), split
    )


def _fence(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the compiler from merging a function with how its arguments arrive.

    ``pmap`` takes a leading axis off them; merged into the first sums, that
    rounds otherwise than ``shard_map`` does.
    """

    def run(*arguments: Any) -> Any:
        return function(*jax.lax.optimization_barrier(arguments))

    return run


def over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    *,
    split: tuple[Any, ...],
    split_out: Any = False,
    driver: Driver = "shard_map",
    donate: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Compile a per-device function that talks over the axis ``DATA_AXIS``.

    Args:
      function: Takes and returns what one device sees.
      mesh: From ``data_mesh``.
      split: For each argument whether its rows are split over the devices (True)
        or every device gets all of it; a tree of booleans for parts of one.
      split_out: The same for what it returns. What isn't split must be the same
        on all devices.
      driver: ``"pmap"`` is the older way; within one process only.
      donate: Arguments whose memory may be reused.

    Returns:
      A compiled function of whole arrays.
    """
    fenced = _fence(function)
    if driver == "pmap":
        return _by_pmap(fenced, mesh, split, split_out)
    mapped = jax.shard_map(
        fenced,
        mesh=mesh,
        in_specs=_specs(split),
        out_specs=_specs(split_out),
        # With tracking on, the gradient of a replicated input is already summed
        # over devices, and averaging it once more is N times too large.
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=donate)


def _by_pmap(
    function: Callable[..., Any], mesh: Mesh, split: tuple[Any, ...], split_out: Any
) -> Callable[..., Any]:
    devices = mesh.devices.ravel().tolist()

    def axes(which: Any) -> Any:
        return jax.tree.map(lambda one: 0 if one else None, which)

    mapped = jax.pmap(
        function,
        DATA_AXIS,
        in_axes=axes(split),
        out_axes=axes(split_out),
        devices=devices,
    )

    def fold(one: bool, part: Any) -> Any:
        if not one:
            return part
        rows = len(devices)
        return jax.tree.map(lambda x: x.reshape(rows, -1, *x.shape[1:]), part)

    def unfold(one: bool, part: Any) -> Any:
        return (
            jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part) if one else part
        )

    def run(*arguments: Any) -> Any:
        folded = jax.tree.map(fold, split, arguments)
        return jax.tree.map(unfold, split_out, mapped(*folded))

    return run
