"""Encodes batches of rows on all local devices, each host its share of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mca_jax.core.parallel import DATA_AXIS, data_mesh, exchange

__all__ = ["compile_rows", "gather_reasons", "own_rows"]


def _count_devices(batch_size: int) -> int:
    """As many local devices as divide a batch; one, if one was chosen."""
    if jax.config.jax_default_device is not None:  # pyright: ignore
        return 1
    most = min(jax.local_device_count(), batch_size)
    return next(count for count in range(most, 0, -1) if batch_size % count == 0)


def compile_rows(
    encode: Callable[[Any, Any], jax.Array], params: Any, batch_size: int
) -> Callable[[Any], jax.Array]:
    """Compile an encoder for batches that are split over the local devices.

    A row is computed from itself alone, so that devices never wait for each
    other, nor hosts.

    Args:
      encode: ``(params, batch)`` to embeddings; the rows of the batch, a tree of
        arrays, stay in their order.
      params: Weights; each device gets a copy.
      batch_size: Rows of each batch. The largest number of local devices that
        divides it is used.

    Returns:
      The function of a batch on the host; one compilation for one shape.
    """
    count = _count_devices(batch_size)
    compiled = _compile(encode, count)
    if count == 1:
        placed = jax.device_put(params)
        return lambda batch: compiled(placed, batch)
    mesh = data_mesh(count, devices=jax.local_devices())
    placed = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return lambda batch: compiled(placed, jax.device_put(batch, sharding))


# Kept, so that a second set finds the compiled function of the first.
@lru_cache(8)
def _compile(
    encode: Callable[[Any, Any], jax.Array], count: int
) -> Callable[[Any, Any], jax.Array]:
    """Compile a function for some devices; nothing but its code is held."""
    if count == 1:
        return jax.jit(encode)
    rows = PartitionSpec(DATA_AXIS)
    mapped = jax.shard_map(
        encode,
        mesh=data_mesh(count, devices=jax.local_devices()),
        in_specs=(PartitionSpec(), rows),
        out_specs=rows,
        # Scans inside would have to say of every carry how it varies.
        check_vma=False,
    )
    return jax.jit(mapped)


def own_rows(count: int, host: int, num_hosts: int) -> range:
    """Return the rows that a host embeds: an even share, in one piece.

    Args:
      count: Rows of the whole set, at least 0.
      host: Index of this host.
      num_hosts: Number of hosts, at least 1.

    Returns:
      Consecutive rows.
    """
    return range(count * host // num_hosts, count * (host + 1) // num_hosts)


def gather_reasons(
    reasons: dict[int, str], num_computed: int
) -> tuple[dict[int, str], int]:
    """Put together what the hosts could not read; all have to call it.

    Args:
      reasons: Why a row has no embedding, for this host's rows.
      num_computed: Rows that went through this host's encoder.

    Returns:
      Both of all hosts: the reasons, and the sum.
    """
    content = np.frombuffer(
        json.dumps({str(row): reason for row, reason in reasons.items()}).encode(),
        np.uint8,
    )
    every = exchange(np.array([len(content), num_computed]))
    padded = np.zeros(every[:, 0].max(), np.uint8)
    padded[: len(content)] = content
    texts = exchange(padded)
    found: dict[int, str] = {}
    for text, (size, _) in zip(texts, every, strict=True):
        part = json.loads(text[:size].tobytes())
        found |= {int(row): reason for row, reason in part.items()}
    return found, int(every[:, 1].sum())
