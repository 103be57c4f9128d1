"""Simpler methods beside a run: what they change, keep and write."""

import csv
import json

import numpy as np
import pytest
from small_runs import NOUNS, blobs

import mca_jax
from mca_jax.core.parallel import HostRows
from mca_jax.evaluation import measure_clusters
from mca_jax.pipeline.baselines import BASELINES, choose_baselines
from mca_jax.report.overview import baseline_rows
from mca_jax.report.write import write_outputs

LABELS = np.repeat(np.arange(4), 30)


def compare(*settings, baselines=True, folder=None, told=None):
    quick = ["train.epochs=2", "retrieval.kmeans_restarts=2", "encoder.whitening=0"]
    return mca_jax.cluster(
        image_embeddings=blobs(),
        noun_embeddings=np.eye(len(NOUNS), dtype=np.float32),
        nouns=NOUNS,
        num_clusters=4,
        config=mca_jax.apply_overrides(mca_jax.Config(), [*quick, *settings]),
        baselines=baselines,
        checkpoint_dir=folder,
        callback=told,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def compared(folder):
    return compare(folder=folder)


def test_every_baseline_is_there_and_the_run_is_what_it_was(compared):
    alone = compare(baselines=False)
    assert "baselines" not in alone.metrics
    assert set(alone.baselines) == {"kmeans"}
    np.testing.assert_array_equal(alone.probabilities, compared.probabilities)
    assert alone.history == compared.history
    assert set(compared.baselines) == set(BASELINES)
    scores = mca_jax.score_result(compared, LABELS, NOUNS[:4]).metrics["scores"]
    assert {name: each["acc"] for name, each in scores.items()} == dict.fromkeys(
        ["mca", *BASELINES], 1.0
    )
    table = compared.metrics["baselines"]
    assert list(table)[0] == "mca"
    assert set(table) == {"mca", *BASELINES}
    # The blobs are plain to all of them.
    assert {each.get("nmi_to_run", 1.0) for each in table.values()} == {1.0}
    assert table["mca"]["empty_clusters"] == 0


def test_trained_baselines_go_on_from_their_checkpoints(compared, folder):
    class Told:
        def __init__(self):
            self.resumed = []

        def start(self, stage, total):
            pass

        def advance(self, count):
            pass

        def log(self, event, values):
            if event == "resume":
                self.resumed.append(values["run"])

    told = Told()
    again = compare(folder=folder, told=told)
    assert told.resumed == ["train", "consistency only", "sic style"]
    for name, assignments in compared.baselines.items():
        np.testing.assert_array_equal(again.baselines[name], assignments)
    assert again.metrics["baselines"] == compared.metrics["baselines"]


@pytest.mark.slow
def test_baselines_of_a_set_on_the_host_are_the_same(compared, monkeypatch):
    from mca_jax.pipeline import baselines

    seen = []
    place = baselines.shard_embeddings
    monkeypatch.setattr(
        baselines,
        "shard_embeddings",
        lambda *a: seen.append(place(*a)) or seen[-1],
    )
    on_host = compare("train.memory_budget_gib=1e-9")
    assert isinstance(seen[0], HostRows)
    for name, assignments in compared.baselines.items():
        np.testing.assert_array_equal(on_host.baselines[name], assignments, name)
    for name, values in compared.metrics["baselines"].items():
        assert on_host.metrics["baselines"][name] == pytest.approx(values, rel=1e-4)


def test_a_baseline_that_fails_is_told():
    # What the first steps of so large a rate do to the loss ends both trainings.
    found = compare("train.learning_rate=1e9", baselines=["consistency_only"])
    (line,) = [text for text in found.warnings if "consistency_only" in text]
    assert "ended as" in line
    assert "step" in line


def test_names_are_checked_and_ordered():
    assert choose_baselines(True) == tuple(BASELINES)
    assert choose_baselines(False) == ()
    assert choose_baselines(["sic_style", "kmeans"]) == ("kmeans", "sic_style")
    with pytest.raises(mca_jax.InputError, match="did you mean 'sic_style'"):
        compare(baselines=["sic-style"])


def test_quantities_by_hand():
    images = np.float32([[1, 0], [0.6, 0.8], [0, 1], [0, -1]])
    near = np.array([[1, 2], [2, 0], [1, 0], [0, 1]])
    found = measure_clusters(np.array([0, 0, 1, 1]), images, near, num_clusters=3)
    # The first two have each other among two neighbours, the others none.
    assert found["neighbor_agreement"] == 2 / 8
    # Sums (1.6, 0.8) and (0, 0): the two opposite images have no mean direction.
    assert found["compactness"] == pytest.approx(np.hypot(1.6, 0.8) / 4)
    assert found["size_entropy"] == pytest.approx(np.log(2) / np.log(3))
    assert found["empty_clusters"] == 1
    host = measure_clusters(
        np.array([0, 0, 1, 1]), HostRows(images, 2), near, num_clusters=3
    )
    assert host == found
    alone = measure_clusters(np.zeros(4, int), images, near, num_clusters=2)
    assert (alone["neighbor_agreement"], alone["size_entropy"]) == (1.0, 0.0)


def test_what_is_written_and_shown(compared, tmp_path):
    write_outputs(compared, tmp_path)
    with (tmp_path / "baselines.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "cluster", *compared.baselines]
    for name, assignments in compared.baselines.items():
        np.testing.assert_array_equal([int(row[name]) for row in rows], assignments)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["baselines"]) == {"mca", *BASELINES}
    assert "Beside simpler methods" in (tmp_path / "report.html").read_text()
    # Without baselines nothing of them stays.
    write_outputs(compare(baselines=False), tmp_path)
    assert not (tmp_path / "baselines.csv").exists()
    assert "Beside simpler methods" not in (tmp_path / "report.html").read_text()


def test_tables_of_baselines():
    table = {
        "kmeans": {
            "nmi_to_run": 0.91,
            "ari_to_run": 0.5,
            "neighbor_agreement": 0.25,
            "compactness": 0.125,
            "size_entropy": 1.0,
            "empty_clusters": 2.0,
        },
        "mca": {"neighbor_agreement": 0.3, "empty_clusters": 0.0},
    }
    own, other = baseline_rows(table)
    assert own.own
    assert own.texts == ("–", "–", "0.300", "–", "–", "0")
    assert other.texts == ("0.910", "0.500", "0.250", "0.125", "1.000", "2")
    assert not any(own.best + other.best)
