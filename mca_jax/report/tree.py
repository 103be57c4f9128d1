"""The tree of groups as the report shows it."""

from __future__ import annotations

from typing import NamedTuple

from mca_jax.model.result import ClusterResult

__all__ = ["Branch", "TreeView", "view_tree"]

# Groups that are seen at one glance.
_OPENED = 12


class Branch(NamedTuple):
    """A node and what is below it.

    Attributes:
      name: Its name.
      guess: Whether that is a guess.
      size: Its images.
      cluster: Index of the cluster that it is, None for another node.
      split: Number of groups from which it is split.
      open: Whether the page shows it opened.
      children: What it is split into, none or two, names before guesses, the larger
        first.
    """

    name: str
    guess: bool
    size: int
    cluster: int | None
    split: int
    open: bool
    children: tuple[Branch, ...]


class TreeView(NamedTuple):
    """The whole tree.

    Attributes:
      root: The node that holds everything.
      num_groups: Groups at the finest level.
      base: Groups at the level of the clusters.
      opened: Groups that the page shows at first.
    """

    root: Branch
    num_groups: int
    base: int
    opened: int


def view_tree(result: ClusterResult) -> TreeView | None:
    """Nest the nodes of a result's tree; None where it has none to show."""
    tree = result.tree
    if tree is None or tree.num_groups < 2:
        return None
    sizes = tree.sizes().tolist()
    cluster_of = {cluster.name: cluster.index for cluster in result.clusters}
    opened = min(tree.base, _OPENED)
    above = {*tree.cut(tree.base).nodes}
    built: dict[int, Branch] = {}
    split_at = {int(node): step for step, node in enumerate(tree.splits)}
    # Children have higher numbers than their parents.
    for node in range(len(tree.names) - 1, -1, -1):
        step = split_at.get(node)
        below = () if step is None else (2 * step + 1, 2 * step + 2)
        children = sorted(
            (built[each] for each in below), key=lambda each: (each.guess, -each.size)
        )
        built[node] = Branch(
            tree.names[node],
            tree.guesses[node],
            sizes[node],
            cluster_of.get(tree.names[node]) if node in above else None,
            0 if step is None else step + 2,
            step is not None and step + 2 <= opened,
            tuple(children),
        )
    return TreeView(built[0], tree.num_groups, tree.base, opened)
