"""What each of several hosts does for its share of the rows, and how all get it.

Work whose rows need nothing of each other, such as searching, hashing or checking, is
done by each host for its share, and only what comes out is exchanged. Every function
here is a plain one where there is one host; where there are several, all have to call
it, with arrays of one shape and type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from mca_jax.core.host_tables import release

__all__ = [
    "exchange",
    "fill_shares",
    "host_share",
    "host_shares",
    "num_hosts",
    "own_blocks",
    "pick_own",
    "share_of",
    "sum_over_hosts",
]

# What hosts exchange at once, all of them together: every device gets it.
_MOST_BYTES = 2**28


def num_hosts() -> int:
    """Number of the hosts that make one run.

    1 also where a device was chosen by ``jax.default_device``: then each process is for
    itself, as it is for ``default_mesh``.
    """
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return 1 if chosen is not None else jax.process_count()


def share_of(count: int, host: int, hosts: int, devices: int) -> range:
    """Rows of a host: consecutive, those that its devices get of a sharded table.

    Where hosts don't have as many devices each, shares are not quite those of the
    devices.

    Example:
      >>> [share_of(10, host, hosts=2, devices=4) for host in range(2)]
      [range(0, 6), range(6, 10)]
    """
    size = -(-count // devices) * (devices // hosts)
    stop = count if host == hosts - 1 else min((host + 1) * size, count)
    return range(min(host * size, count), stop)


def host_shares(count: int) -> list[range]:
    """Consecutive rows of each host, in order; one range where there is one host."""
    hosts = num_hosts()
    devices = jax.device_count() if hosts > 1 else 1
    return [share_of(count, host, hosts, devices) for host in range(hosts)]


def host_share(count: int) -> range:
    """Consecutive rows of a set that are this host's."""
    return pick_own(host_shares(count))


def own_blocks(count: int, size: int) -> Iterator[slice]:
    """Cut this host's rows of a set into blocks of ``size``, the last maybe smaller."""
    own = host_share(count)
    for start in own[::size]:
        yield slice(start, min(start + size, own.stop))


def pick_own(shares: Sequence[range]) -> range:
    """Pick this host's share from those of all hosts."""
    return shares[jax.process_index() if len(shares) > 1 else 0]


def exchange(part: np.ndarray) -> np.ndarray:
    """Give every host what each has, ``[hosts, ...]`` in their order, bit for bit.

    The part is of one shape and type on all hosts.
    """
    part = np.ascontiguousarray(part)
    if num_hosts() == 1:
        return part[None]
    # As bytes: jax would round float64 and int64.
    own = np.frombuffer(part.tobytes(), np.uint8)
    every = np.asarray(multihost_utils.process_allgather(own))
    return np.frombuffer(every.tobytes(), part.dtype).reshape(-1, *part.shape)


def sum_over_hosts(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Add up what the hosts have, in their order: the same bits on all hosts.

    Each array is of one shape and type on all hosts.
    """
    return [exchange(part).sum(axis=0, dtype=part.dtype) for part in parts]


def fill_shares(table: np.ndarray, shares: Sequence[range] | None = None) -> None:
    """Fill in, in place, the rows of a table that the other hosts have.

    Args:
      table: ``[n, ...]``, in memory or mapped, of which each host has filled its
        share.
      shares: Consecutive rows of each host; None takes ``host_shares``.
    """
    shares = host_shares(len(table)) if shares is None else shares
    if len(shares) == 1:
        return
    own = pick_own(shares)
    longest = max(map(len, shares))
    width = max(1, table[:1].nbytes)
    most = max(1, _MOST_BYTES // (len(shares) * width))
    for start in range(0, longest, most):
        size = min(most, longest - start)
        block = np.zeros((size, *table.shape[1:]), table.dtype)
        mine = own[start : start + size]
        block[: len(mine)] = table[mine.start : mine.stop]
        for share, part in zip(shares, exchange(block), strict=True):
            theirs = share[start : start + size]
            table[theirs.start : theirs.stop] = part[: len(theirs)]
        release(table)
