"""Names that every module shares.

Axis letters, fixed for the whole project:

====== ==========================================================
letter meaning
====== ==========================================================
``n``  images in a batch or a set
``d``  width of an embedding
``m``  nouns in the semantic space
``k``  clusters
``r``  neighbours of an image
``a``  width of the attention's queries and keys
====== ==========================================================
"""

from __future__ import annotations

from typing import Any, TypeAlias

from jax import Array
from jaxtyping import Key

__all__ = ["Params", "PRNGKey"]

PRNGKey: TypeAlias = Key[Array, ""]
"""A typed key such as ``jax.random.key(0)``."""

Params: TypeAlias = Any
"""A pytree of weights."""
