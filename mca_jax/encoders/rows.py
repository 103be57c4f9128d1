"""Encodes batches of rows on all local devices, and shares rows among hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["compile_rows", "gather_reasons", "gather_rows", "own_rows"]

_AXIS = "data"
# Rows that hosts exchange at once.
_BLOCK = 65536


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
    mesh = _local_mesh(count)
    placed = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    sharding = NamedSharding(mesh, PartitionSpec(_AXIS))
    return lambda batch: compiled(placed, jax.device_put(batch, sharding))


def _local_mesh(count: int) -> Mesh:
    """Put the first local devices in a row."""
    return jax.make_mesh(
        (count,),
        (_AXIS,),
        axis_types=(AxisType.Auto,),
        devices=jax.local_devices()[:count],
    )


# Kept, so that a second set finds the compiled function of the first.
@lru_cache(8)
def _compile(
    encode: Callable[[Any, Any], jax.Array], count: int
) -> Callable[[Any, Any], jax.Array]:
    """Compile a function for some devices; nothing but its code is held."""
    if count == 1:
        return jax.jit(encode)
    rows = PartitionSpec(_AXIS)
    mapped = jax.shard_map(
        encode,
        mesh=_local_mesh(count),
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


def gather_rows(table: np.ndarray, num_hosts: int) -> None:
    """Fill in, in place, the rows that other hosts have embedded.

    All hosts have to call it.

    Args:
      table: ``[n, d]``, of which each host has filled its ``own_rows``.
      num_hosts: Number of hosts.
    """
    shares = [own_rows(len(table), host, num_hosts) for host in range(num_hosts)]
    own = shares[jax.process_index()]
    longest = max(len(share) for share in shares)
    for start in range(0, longest, _BLOCK):
        size = min(_BLOCK, longest - start)
        block = np.zeros((size, table.shape[1]), table.dtype)
        mine = own[start : start + size]
        block[: len(mine)] = table[mine.start : mine.stop]
        every = np.asarray(multihost_utils.process_allgather(block))
        for share, part in zip(shares, every, strict=True):
            theirs = share[start : start + size]
            table[theirs.start : theirs.stop] = part[: len(theirs)]


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
    sizes = np.array([len(content), num_computed], np.int32)
    every = np.asarray(multihost_utils.process_allgather(sizes)).reshape(-1, 2)
    padded = np.zeros(every[:, 0].max(), np.uint8)
    padded[: len(content)] = content
    texts = np.asarray(multihost_utils.process_allgather(padded))
    texts = texts.reshape(len(every), -1)
    found: dict[int, str] = {}
    for text, (size, _) in zip(texts, every, strict=True):
        part = json.loads(text[:size].tobytes())
        found |= {int(row): reason for row, reason in part.items()}
    return found, int(every[:, 1].sum())
