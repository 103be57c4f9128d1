"""The arrays of a snapshot as a checkpoint sees them: names, templates, room."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mca_jax.training.snapshot import Snapshot

__all__ = ["claim_room", "list_arrays", "to_template"]


def to_template(snapshot: Snapshot) -> Any:
    """Describe the arrays of a snapshot, for Orbax to fill.

    Args:
      snapshot: Arrays of the wanted shapes, where they are wanted.

    Returns:
      A tree of the same structure: shape, type and place of each array on a
      device, an empty array for each on the host.
    """
    return jax.tree.map(_abstract, snapshot)


def _abstract(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty_like(leaf)


def list_arrays(snapshot: Snapshot) -> dict[str, str]:
    """Type and shape of each array.

    Args:
      snapshot: What is kept.

    Returns:
      One text an array, such as ``"float32[8, 4]"``, by its place in the snapshot.
    """
    leaves, _ = jax.tree.flatten_with_path(snapshot)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            f"{leaf.dtype}{list(leaf.shape)}"
        )
        for path, leaf in leaves
    }


def claim_room(folder: Path, snapshot: Snapshot) -> None:
    """Fail before Orbax starts where there is no room for its files.

    Its threads each report a write that fails half-way, in many lines.

    Args:
      folder: Where the files will be; it exists.
      snapshot: What will be written.

    Raises:
      OSError: There is no room.
    """
    arrays = (snapshot.state, snapshot.pass_params, snapshot.monitor)
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    claim = folder / "room"
    with claim.open("wb") as file:
        try:
            # Not all arrays compress, and there are some small files beside them.
            if claim_range := getattr(os, "posix_fallocate", None):  # not on macOS
                claim_range(file.fileno(), 0, num_bytes + num_bytes // 4 + 2**18)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    claim.unlink()
