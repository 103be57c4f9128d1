"""Labels from the names of folders, for evaluation only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable

__all__ = ["folder_labels"]


def folder_labels(paths: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label each image by the first folder of its path.

    Only evaluation may use them; nothing that trains takes labels.

    Args:
      paths: Paths relative to the root, with ``/`` between the parts.

    Returns:
      Labels, int32 ``[n]``, and the class names in the order of the labels,
      sorted by code points.

    Raises:
      InputError: An image lies in the root itself.

    Example:
      >>> folder_labels(["dog/a.jpg", "cat/b/c.jpg"])
      (array([1, 0], dtype=int32), ('cat', 'dog'))
    """
    folders = [path.partition("/")[0] if "/" in path else "" for path in paths]
    loose = [path for path, folder in zip(paths, folders, strict=True) if not folder]
    if loose:
        more = f" and {len(loose) - 1} more" if len(loose) > 1 else ""
        raise InputError(
            "Expected every image in a sub-folder that names its class, found "
            f"{printable(loose[0])}{more} in none"
        )
    names = tuple(sorted(set(folders)))
    number = {name: label for label, name in enumerate(names)}
    return np.asarray([number[folder] for folder in folders], np.int32), names
