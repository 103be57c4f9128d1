"""Consensus clustering, against pairs counted by hand and scikit-learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import adjusted_rand_score

from mca_jax.core.numerics import l2_normalize
from mca_jax.neighbors import spherical_kmeans
from mca_jax.neighbors.consensus import consensus_partition
from mca_jax.neighbors.kmeans import best_restarts


def blobs(seed=0, num_clusters=4, each=25, noise=0.6):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_clusters), each)
    rows = np.eye(8)[labels] + noise * rng.normal(size=(len(labels), 8))
    return l2_normalize(jnp.asarray(rows, jnp.float32)), labels


def agreement(votes, partition):
    """Mean cosine of a row's votes to the mean direction of those of its cluster."""
    codes = np.concatenate([np.eye(votes.max() + 1)[vote] for vote in votes], axis=1)
    codes /= np.sqrt(len(votes))
    total = sum(
        np.linalg.norm(codes[partition == cluster].sum(0))
        for cluster in np.unique(partition)
    )
    return total / len(codes)


def test_one_partition_is_its_own_consensus():
    partition = jnp.array([[2, 0, 1, 1, 0, 2, 2]])
    found = consensus_partition(partition, num_clusters=3)
    np.testing.assert_array_equal(found, partition[0])


def test_the_names_of_clusters_do_not_matter():
    votes = np.array([[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    found = consensus_partition(jnp.asarray(votes), num_clusters=2)
    assert adjusted_rand_score(found, [0, 0, 0, 1, 1, 1]) == 1


def test_no_other_partition_agrees_more():
    # 2^6 partitions are few enough to look at all.
    rng = np.random.default_rng(3)
    votes = rng.integers(0, 2, (5, 7))
    found = np.asarray(consensus_partition(jnp.asarray(votes), num_clusters=2))
    best = max(
        agreement(votes, np.array([0, *rest]))
        for rest in itertools.product((0, 1), repeat=6)
    )
    assert agreement(votes, found) >= max(agreement(votes, vote) for vote in votes)
    assert agreement(votes, found) >= best - 0.03


def test_a_majority_outvotes_what_one_partition_believes():
    _, labels = blobs()
    rng = np.random.default_rng(1)
    votes = np.stack(
        [
            np.where(
                rng.random(len(labels)) < 0.25, rng.integers(0, 4, len(labels)), labels
            )
            for _ in range(9)
        ]
    )
    found = consensus_partition(jnp.asarray(votes), num_clusters=4)
    alone = [adjusted_rand_score(labels, vote) for vote in votes]
    assert adjusted_rand_score(labels, found) > max(alone) + 0.2


def test_partitions_are_those_of_kmeans_best_first():
    rows, _ = blobs(noise=0.9)
    key = jax.random.key(4)
    found = np.asarray(
        best_restarts(
            key, rows, num_clusters=4, num_restarts=12, num_kept=5
        ).assignments
    )
    assert found.shape == (5, 100)

    def objective(partition):
        sums = np.eye(4)[partition].T @ np.asarray(rows)
        return np.linalg.norm(sums, axis=1).sum() / len(rows)

    scores = [objective(partition) for partition in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    best = spherical_kmeans(key, rows, num_clusters=4, num_restarts=12)
    np.testing.assert_array_equal(found[0], best.assignments)
