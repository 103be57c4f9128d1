"""Peers: each finds plain groups, and says what it lacks."""

import numpy as np
import pytest

from benchmarks.peers import PEERS, run_peer
from mca_jax.core.errors import InputError
from mca_jax.evaluation import score_clustering


def blobs():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    rows = np.eye(8)[labels] + 0.1 * rng.normal(size=(120, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), labels


@pytest.mark.parametrize("name", ["sklearn-kmeans", "ward", "spectral"])
def test_peers_of_scikit_learn_find_plain_groups(name):
    rows, labels = blobs()
    found = run_peer(name, rows, num_clusters=3, seed=0)
    assert found.dtype == np.int32
    assert score_clustering(labels, found).acc == 1


@pytest.mark.parametrize("name", ["umap-kmeans", "umap-hdbscan", "evoc"])
def test_a_missing_package_is_named(name, monkeypatch):
    def missing(*_):
        raise ImportError("No module named 'umap'", name="umap")

    monkeypatch.setitem(PEERS, name, (missing, ""))
    with pytest.raises(InputError, match=r"umap.*\[peers\]"):
        run_peer(name, blobs()[0], num_clusters=3, seed=0)


def test_what_is_left_out_is_a_group_of_its_own(monkeypatch):
    monkeypatch.setitem(PEERS, "ward", (lambda *_: np.array([0, -1, 1, -1]), ""))
    found = run_peer("ward", np.zeros((4, 2)), num_clusters=2, seed=0)
    assert found.tolist() == [0, 2, 1, 2]
