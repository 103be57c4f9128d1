"""Scores on images that were not clustered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mca_jax
from mca_jax.evaluation import score_clustering
from mca_jax.evaluation.runs import score_held_out

NOUNS = ["cat", "boat", "tree", "lamp", "stone", "shoe", "bread", "wheel"]


def blobs(count, seed):
    """Three tight groups in eight dimensions, and the group of each."""
    rng = np.random.default_rng(seed)
    groups = np.arange(count) % 3
    vectors = np.eye(8)[groups] + 0.05 * rng.standard_normal((count, 8))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), groups


@pytest.fixture(scope="module")
def result():
    vectors, _ = blobs(90, 0)
    return mca_jax.cluster(
        image_embeddings=vectors,
        noun_embeddings=np.eye(8, dtype=np.float32),
        nouns=NOUNS,
        config=mca_jax.apply_overrides(
            mca_jax.Config(num_clusters=3), ["train.epochs=3"]
        ),
    )


def test_new_images_of_the_same_groups(result):
    vectors, groups = blobs(40, 1)
    scored = score_held_out(result, vectors, groups, ("a", "b", "c"))
    for name in ("mca", "kmeans"):
        assert scored.metrics["scores"][name]["acc"] == 1.0
    counts = np.array(scored.metrics["contingency"]["counts"])
    assert counts.sum(axis=1).tolist() == [14, 13, 13]
    assert "scores_of_clustered" not in scored.metrics
    assert "scores" not in result.metrics


def test_wrong_labels_score_as_wrong_as_they_are(result):
    vectors, groups = blobs(40, 1)
    labels = np.where(np.arange(40) < 10, (groups + 1) % 3, groups)
    scored = score_held_out(result, vectors, labels, ("a", "b", "c"))
    # The run numbers the groups otherwise, and sums are added in that order.
    expected = score_clustering(labels, groups)._asdict()
    assert scored.metrics["scores"]["mca"] == pytest.approx(expected, abs=1e-13)
    assert scored.metrics["scores"]["mca"]["acc"] == 0.75


def test_every_image_counts_also_one_that_is_none_of_these(result):
    vectors, groups = blobs(9, 1)
    strange = np.eye(8)[[7]]
    scored = score_held_out(
        result, np.concatenate([vectors, strange]), [*groups, 0], ("a", "b", "c")
    )
    assert np.sum(scored.metrics["contingency"]["counts"]) == 10
    assert scored.metrics["scores"]["mca"]["acc"] >= 0.9


def test_kmeans_assigns_by_the_nearest_mean(result):
    # Swapped clusters of k-means: the centres must follow them.
    swapped = replace(result, baselines={"kmeans": 2 - result.baselines["kmeans"]})
    vectors, groups = blobs(40, 1)
    scored = score_held_out(swapped, vectors, groups, ("a", "b", "c"))
    assert scored.metrics["scores"]["kmeans"]["acc"] == 1.0


def test_scores_of_the_clustered_images_are_kept(result):
    _, groups = blobs(90, 0)
    first = mca_jax.score_result(result, groups, ("a", "b", "c"))
    vectors, groups = blobs(40, 1)
    scored = score_held_out(first, vectors, groups, ("a", "b", "c"))
    assert scored.metrics["scores_of_clustered"] == first.metrics["scores"]


def test_a_result_without_a_model(result):
    with pytest.raises(mca_jax.InputError, match="without"):
        score_held_out(replace(result, model=None), np.eye(8), [0] * 8, ("a",))
