r"""A tree of groups over clusters that are there: a few above them, hundreds below.

Above the clusters, those two are one whose union costs least,

.. math:: \frac{n_a n_b}{n_a + n_b} \|\mu_a - \mu_b\|^2,

Ward's criterion with the clusters' sizes. Below, the piece is halved by 2-means whose
halving gains most of the same. So every group lies in one group of each coarser level,
and one pass gives the groups of any number.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mca_jax.core.host_tables import release

__all__ = ["Splits", "grow_tree"]

_ITERATIONS = 10
_SAMPLE = 20_000


class Splits(NamedTuple):
    """The order in which groups are split, from one to the finest.

    Attributes:
      splits: Node that each step splits; step ``s`` makes nodes ``2 s + 1`` and
        ``2 s + 2`` of it, and node 0 is everything. int32 ``[g - 1]``.
      leaves: Node of each image at the finest level, int32 ``[n]``.
    """

    splits: Int[np.ndarray, " s"]
    leaves: Int[np.ndarray, " n"]


def grow_tree(
    images: Float[np.ndarray, "n c"],
    assignments: Int[np.ndarray, " n"],
    *,
    summaries: Float[np.ndarray, "k q"] | None = None,
    num_groups: int = 256,
    least: int = 5,
) -> Splits:
    """Merge clusters up to one group, and halve them down to many.

    Args:
      images: The points that were clustered.
      assignments: Cluster of each.
      summaries: A point for each cluster, by which clusters are merged; None takes
        the means of their images.
      num_groups: Groups at the finest level; fewer where they would be too small,
        and never fewer than clusters.
      least: Fewest images of a half, at least 1.

    Returns:
      The tree; the clusters that have images are its level of that number.

    Example:
      >>> points = np.array([[0.0, 0], [0, 1], [9, 0], [9, 1]])
      >>> grow_tree(points, np.array([0, 0, 1, 1]), least=1).splits.tolist()
      [0, 1, 2]
    """
    points = np.asarray(images, np.float32)
    found, members = np.unique(assignments, return_inverse=True)
    sizes = np.bincount(members, minlength=len(found)).astype(np.float64)
    if summaries is None:
        means = np.zeros((len(found), points.shape[1]))
        np.add.at(means, members, points)
        means /= sizes[:, None]
    else:
        means = np.array(summaries, np.float64)[found]
    above, node_of_cluster = _merge_up(means, sizes)
    groups = [np.flatnonzero(members == each) for each in range(len(found))]
    nodes = dict(zip(node_of_cluster, groups, strict=True))
    splits, nodes = _split_down(points, above, nodes, num_groups, least)
    leaves = np.zeros(len(points), np.int32)
    for node, rows in nodes.items():
        leaves[rows] = node
    return Splits(np.array(splits, np.int32), leaves)


def _merge_up(means: np.ndarray, sizes: np.ndarray) -> tuple[list[int], list[int]]:
    """Merge by Ward; return the splits that undo it, and the node of each cluster."""
    means, sizes, count = means.copy(), sizes.copy(), len(sizes)
    cost = np.full((count, count), np.inf)
    for row in range(count):
        cost[row] = _ward(means, sizes, row)
    np.fill_diagonal(cost, np.inf)
    merges = []
    for _ in range(count - 1):
        a, b = sorted(divmod(int(cost.argmin()), count))
        merges.append((a, b))
        total = sizes[a] + sizes[b]
        means[a] = (sizes[a] * means[a] + sizes[b] * means[b]) / total
        sizes[a] = total
        cost[b], cost[:, b] = np.inf, np.inf
        renewed = np.where(np.isinf(cost[a]), np.inf, _ward(means, sizes, a))
        cost[a], cost[:, a] = renewed, renewed
        cost[a, a] = np.inf
    # The last merge is the first split; a slot stands for what was merged into it.
    node_of = {0: 0} if count else {}
    splits = []
    for step, (a, b) in enumerate(reversed(merges)):
        splits.append(node_of[a])
        node_of[a], node_of[b] = 2 * step + 1, 2 * step + 2
    return splits, [node_of[each] for each in range(count)]


def _ward(means: np.ndarray, sizes: np.ndarray, row: int) -> np.ndarray:
    weights = sizes * sizes[row] / (sizes + sizes[row])
    return weights * ((means - means[row]) ** 2).sum(axis=1)


def _split_down(
    points: np.ndarray,
    splits: list[int],
    nodes: dict[int, np.ndarray],
    num_groups: int,
    least: int,
) -> tuple[list[int], dict[int, np.ndarray]]:
    """Halve the group whose halving gains most, until there are enough."""
    splits, nodes = list(splits), dict(nodes)
    # Of as many clusters none is halved: nothing has to be looked at.
    if len(nodes) >= num_groups:
        return splits, nodes
    halvings: list[tuple[float, int, np.ndarray]] = []

    def consider(node: int) -> None:
        gain, second = _halve(points[nodes[node]], least)
        release(points)
        if gain > 0:
            heapq.heappush(halvings, (-gain, node, second))

    for node in nodes:
        consider(node)
    while halvings and len(nodes) < num_groups:
        _, node, second = heapq.heappop(halvings)
        rows, step = nodes.pop(node), len(splits)
        splits.append(node)
        nodes[2 * step + 1], nodes[2 * step + 2] = rows[~second], rows[second]
        consider(2 * step + 1)
        consider(2 * step + 2)
    return splits, nodes


def _halve(points: np.ndarray, least: int) -> tuple[float, np.ndarray]:
    """Cut a group in two by 2-means, begun along its longest axis.

    Returns:
      By how much the sum of squares falls, 0 for no cut, and who is in the second half.
    """
    # An even sample of a large group finds the same cut.
    sample = points[:: max(1, len(points) // _SAMPLE)]
    mean = sample.mean(axis=0)
    centered = sample - mean[None]
    axis = centered[np.argmax((centered**2).sum(axis=1))]
    for _ in range(_ITERATIONS // 2):
        axis = centered.T @ (centered @ axis)
        axis = axis / max(float(np.linalg.norm(axis)), 1e-12)
    threshold = 0.0
    second = centered @ axis > threshold
    for _ in range(_ITERATIONS):
        if not 0 < second.sum() < len(second):
            return 0.0, np.zeros(len(points), bool)
        ends = centered[second].mean(axis=0), centered[~second].mean(axis=0)
        axis = ends[0] - ends[1]
        threshold = float((ends[0] + ends[1]) @ axis) / 2
        renewed = centered @ axis > threshold
        if (renewed == second).all():
            break
        second = renewed
    second = points @ axis > threshold + float(mean @ axis)
    counts = int(second.sum()), int((~second).sum())
    if min(counts) < least:
        return 0.0, second
    return counts[0] * counts[1] / sum(counts) * float(axis @ axis), second
