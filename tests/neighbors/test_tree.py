"""The tree of groups: nested, of any number, Ward's above and halves below."""

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.model.tree import ClusterTree, level_sizes
from mca_jax.neighbors.tree import Splits, grow_tree


def blobs(*, sizes: tuple[int, ...] = (30, 20, 25, 40)) -> tuple[np.ndarray, ...]:
    """Blobs whose first two are near each other, as the last two are."""
    rng = np.random.default_rng(3)
    centers = np.array([[0.0, 0], [0, 3], [20, 0], [20, 4]])
    members = np.repeat(np.arange(len(sizes)), sizes)
    return centers[members] + rng.normal(scale=0.3, size=(sum(sizes), 2)), members


def tree_of(grown: Splits, base: int) -> ClusterTree:
    count = 2 * len(grown.splits) + 1
    names = tuple(f"node {node}" for node in range(count))
    return ClusterTree(grown.splits, grown.leaves, names, (False,) * count, base)


def test_every_level_is_inside_the_coarser_one() -> None:
    points, members = blobs()
    tree = tree_of(grow_tree(points, members, num_groups=12), 4)
    assert tree.num_groups == 12
    coarser = tree.cut(1).groups
    for count in range(2, 13):
        level = tree.cut(count)
        assert len(level.names) == count == len(set(level.groups.tolist()))
        assert sum(level.sizes) == len(points)
        assert len(set(zip(level.groups.tolist(), coarser.tolist(), strict=True))) == (
            count
        )
        coarser = level.groups


def test_clusters_are_a_level_and_likes_are_merged() -> None:
    points, members = blobs()
    tree = tree_of(grow_tree(points, members), 4)
    pairs = set(zip(tree.cut(4).groups.tolist(), members.tolist(), strict=True))
    assert len(pairs) == 4
    halves = tree.cut(2).groups
    assert len(set(zip(halves.tolist(), (members // 2).tolist(), strict=True))) == 2


def test_summaries_say_which_clusters_are_alike() -> None:
    points, members = blobs()
    swapped = np.array([[0.0], [9.0], [0.1], [9.1]])
    tree = tree_of(grow_tree(points, members, summaries=swapped), 4)
    halves = tree.cut(2).groups
    assert len(set(zip(halves.tolist(), (members % 2).tolist(), strict=True))) == 2


def test_no_half_is_too_small_and_empty_clusters_are_no_nodes() -> None:
    points, members = blobs(sizes=(6, 3, 9, 12))
    tree = tree_of(grow_tree(points, members + 2, num_groups=99, least=3), 4)
    sizes = tree.cut(tree.num_groups).sizes
    assert min(sizes) >= 3
    np.testing.assert_array_equal(tree.sizes()[0], len(points))
    # Equal points can't be halved.
    same = grow_tree(np.ones((20, 2)), np.zeros(20, int))
    assert len(same.splits) == 0


def test_trees_come_back_from_json() -> None:
    points, members = blobs()
    tree = tree_of(grow_tree(points, members), 4)
    again = ClusterTree.from_json(tree.to_json(), tree.leaves)
    np.testing.assert_array_equal(again.cut(9).groups, tree.cut(9).groups)
    assert again.names == tree.names
    assert again.rename("node 3", "pets").names[3] == "pets"
    assert 4 in level_sizes(tree)
    broken = {**tree.to_json(), "names": ["one"]}
    with pytest.raises(InputError, match="names of a tree, found 1"):
        ClusterTree.from_json(broken, tree.leaves)


@pytest.mark.parametrize("count", [0, 1000])
def test_cuts_that_are_not_there(count: int) -> None:
    points, members = blobs()
    with pytest.raises(InputError, match="num_groups of the tree"):
        tree_of(grow_tree(points, members), 4).cut(count)
