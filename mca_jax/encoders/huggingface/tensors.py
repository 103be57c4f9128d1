"""Tensors of a checkpoint: checked against what is expected, in Flax's layout."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from mca_jax.core.errors import InputError, InputWarning

__all__ = ["Tensors", "add_zero_biases", "check_tensors", "stack_layers"]

_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
_MOST_NAMED = 4
# The number of a layer within a tensor's name.
_LAYER = re.compile(r"\.\d+\.")


def add_zero_biases(
    tensors: dict[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    *,
    ending: str = ".bias",
) -> None:
    """Put zeros where a model has none of the biases whose names end so."""
    for name, shape in expected.items():
        if name.endswith(ending) and name not in tensors:
            tensors[name] = np.zeros(shape, np.float32)


def check_tensors(
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    *,
    source: str,
    ignored: Sequence[str] = (),
    hints: Mapping[str, str] | None = None,
) -> None:
    """Check that a checkpoint holds what config.json asks for.

    What it holds beside that is warned of and not read, but for further layers: with
    them the checkpoint is of a deeper model than config.json says.

    Args:
      tensors: Name -> array, all of the checkpoint.
      expected: Name -> shape.
      source: Name of the checkpoint, for messages.
      ignored: Endings of names that may be there and are not read.
      hints: Name -> what to add where that tensor has another shape.

    Raises:
      InputError: Tensors are missing or of another shape, or layers are too many.
    """
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise InputError(
            f"Missing tensors in {source}: {_listed(missing)}; take a complete "
            "checkpoint whose config.json belongs to its weights"
        )
    extra = [
        name
        for name in tensors
        if name not in expected and not name.endswith(tuple(ignored))
    ]
    known = {_LAYER.sub(".#.", name) for name in expected}
    layers = [name for name in extra if _LAYER.sub(".#.", name) in known]
    if layers:
        raise InputError(
            f"Unknown tensors in {source}: {_listed(sorted(layers))}; its config.json "
            "does not belong to its weights, or this is another architecture"
        )
    if extra:
        warnings.warn(
            InputWarning(
                f"Tensors of {source} that nothing reads: {_listed(sorted(extra))}; if "
                "they are more than left-overs of training, this is another "
                "architecture than its configuration says"
            ),
            stacklevel=2,
        )
    for name, shape in expected.items():
        found = tensors[name].shape
        # Some writers keep the logit scale as [1], others as [].
        if found != shape and not (name.startswith("logit_") and max((1, *found)) == 1):
            hint = (hints or {}).get(name, "")
            raise InputError(
                f"Expected tensor {name} of {source} to have shape {list(shape)} as "
                f"config.json says, found {list(found)}{hint}"
            )


def _listed(names: list[str]) -> str:
    """Name the first few."""
    rest = len(names) - _MOST_NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:_MOST_NAMED]) + more


class Tensors:
    """Tensors in the wanted type, in Flax's layout."""

    def __init__(self, tensors: Mapping[str, np.ndarray], dtype: str) -> None:
        """Take the tensors of a checkpoint; mapped ones are read once each."""
        self._tensors = tensors
        self.dtype = _DTYPES[dtype]

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as it is."""
        return np.ascontiguousarray(self._tensors[name], dtype=self.dtype)

    def kernel(self, *names: str) -> dict[str, np.ndarray]:
        """Return ``flax.linen.Dense`` layers on the same input as one, without bias."""
        rows = [np.asarray(self._tensors[f"{n}.weight"], self.dtype) for n in names]
        return {"kernel": np.ascontiguousarray(np.concatenate(rows).T)}

    def dense(self, *names: str) -> dict[str, np.ndarray]:
        """Return ``flax.linen.Dense`` layers on the same input as one."""
        bias = np.concatenate([self.array(f"{name}.bias") for name in names])
        return {**self.kernel(*names), "bias": bias}

    def norm(self, name: str) -> dict[str, np.ndarray]:
        """Return the variables of a ``flax.linen.LayerNorm``."""
        return {
            "scale": self.array(f"{name}.weight"),
            "bias": self.array(f"{name}.bias"),
        }


def stack_layers(build: Callable[[int], dict[str, Any]], count: int) -> dict[str, Any]:
    """Stack the trees of ``count`` layers along a new first axis."""
    # Filled layer by layer, so that no second copy of a tower is held.
    stacked = _allocate(build(0), count)
    for layer in range(count):
        _fill(stacked, build(layer), layer)
    return stacked


def _allocate(tree: dict[str, Any], count: int) -> dict[str, Any]:
    """Return empty arrays for ``count`` trees of that shape."""
    return {
        name: _allocate(leaf, count)
        if isinstance(leaf, dict)
        else np.empty((count, *leaf.shape), leaf.dtype)
        for name, leaf in tree.items()
    }


def _fill(stacked: dict[str, Any], tree: dict[str, Any], row: int) -> None:
    """Write one tree into its row."""
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            _fill(stacked[name], leaf, row)
        else:
            stacked[name][row] = leaf
