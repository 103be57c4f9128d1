"""Groups at every level, one inside another, with names of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.errors import InputError, check_in_range

__all__ = ["ClusterTree", "TreeLevel", "level_sizes"]


class TreeLevel(NamedTuple):
    """The groups of one level.

    Attributes:
      groups: Group of each image, int32 ``[n]``.
      nodes: Node of each group.
      names: Name of each group.
      guesses: Whether each name is a guess.
      sizes: Images of each group.
    """

    groups: np.ndarray
    nodes: tuple[int, ...]
    names: tuple[str, ...]
    guesses: tuple[bool, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class ClusterTree:
    """A tree of groups, from one that holds everything to the finest.

    Step ``s`` splits a node into nodes ``2 s + 1`` and ``2 s + 2``; node 0 is all.

    Attributes:
      splits: Node that each step splits, int32 ``[g - 1]``.
      leaves: Node of each image at the finest level, int32 ``[n]``.
      names: Name of each node, no two alike.
      guesses: Whether each name is a guess.
      base: Number of groups at which the groups are the run's clusters.

    Example:
      >>> tree = ClusterTree(np.array([0]), np.array([1, 2, 2]),
      ...                    ("things", "cup", "lamp"), (False,) * 3, 2)
      >>> tree.cut(2).names, tree.cut(2).groups.tolist()
      (('cup', 'lamp'), [0, 1, 1])
    """

    splits: np.ndarray
    leaves: np.ndarray
    names: tuple[str, ...]
    guesses: tuple[bool, ...]
    base: int

    @property
    def num_groups(self) -> int:
        """Groups at the finest level."""
        return len(self.splits) + 1

    def parent(self, node: int) -> int:
        """Return the node above one, -1 for the one that holds everything."""
        return int(self.splits[(node - 1) // 2]) if node else -1

    def cut(self, num_groups: int) -> TreeLevel:
        """Cut the tree into so many groups.

        Raises:
          InputError: Not between 1 and the finest level's number.
        """
        check_in_range("num_groups of the tree", num_groups, 1, self.num_groups)
        top = 2 * (num_groups - 1)
        # A child's number is above its parent's: one pass lifts all.
        lifted = np.arange(2 * self.num_groups - 1)
        for node in range(top + 1, len(lifted)):
            lifted[node] = lifted[self.parent(node)]
        own = lifted[self.leaves]
        nodes, groups = np.unique(own, return_inverse=True)
        sizes = np.bincount(groups, minlength=len(nodes))
        return TreeLevel(
            groups.reshape(own.shape).astype(np.int32),
            tuple(nodes.tolist()),
            tuple(self.names[node] for node in nodes),
            tuple(self.guesses[node] for node in nodes),
            tuple(sizes.tolist()),
        )

    def sizes(self) -> np.ndarray:
        """Count the images of every node, int64 ``[2 g - 1]``."""
        counts = np.bincount(self.leaves, minlength=2 * self.num_groups - 1)
        for node in range(len(counts) - 1, 0, -1):
            counts[self.parent(node)] += counts[node]
        return counts

    def rename(self, before: str, name: str) -> ClusterTree:
        """Give a node a name of the user's."""
        found = [index for index, each in enumerate(self.names) if each == before]
        names, guesses = list(self.names), list(self.guesses)
        for index in found:
            names[index], guesses[index] = name, False
        return replace(self, names=tuple(names), guesses=tuple(guesses))

    def to_json(self) -> dict[str, Any]:
        """All but the images, as plain values; see :func:`ClusterTree.from_json`."""
        return {
            "base": self.base,
            "splits": self.splits.tolist(),
            "names": list(self.names),
            "guesses": list(self.guesses),
        }

    @staticmethod
    def from_json(values: dict[str, Any], leaves: np.ndarray) -> ClusterTree:
        """Put a tree together from what was stored.

        Raises:
          InputError: Names and splits don't fit.
        """
        splits = np.array(values["splits"], np.int32)
        names = tuple(values["names"])
        if len(names) != 2 * len(splits) + 1:
            raise InputError(
                f"Expected {2 * len(splits) + 1} names of a tree, found {len(names)}"
            )
        guesses = tuple(bool(each) for each in values["guesses"])
        return ClusterTree(splits, leaves, names, guesses, int(values["base"]))


def level_sizes(tree: ClusterTree) -> tuple[int, ...]:
    """Choose a few levels to write down: from a handful, doubled, with the clusters.

    Example:
      >>> tree = ClusterTree(np.arange(99), np.zeros(3, int), ("",) * 199,
      ...                    (False,) * 199, 7)
      >>> level_sizes(tree)
      (5, 7, 10, 20, 40, 80)
    """
    wanted = {tree.base, *(5 * 2**step for step in range(7))}
    return tuple(sorted(each for each in wanted if 2 <= each <= tree.num_groups))
