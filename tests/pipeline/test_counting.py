"""The number of clusters as users write it, and a run that estimates its own."""

import jax
import numpy as np
import pytest
from small_runs import NOUNS, blobs

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.core.progress import Clock
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.num_clusters import (
    CountRange,
    parse_num_clusters,
    settle_num_clusters,
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("auto", CountRange(2, None)),
        (" Auto:5-60 ", CountRange(5, 60)),
        ("auto:4-4", CountRange(4, 4)),
    ],
)
def test_what_a_user_may_write(given, expected):
    assert parse_num_clusters(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("many", "found 'many'"),
        ("auto:", "found 'auto:'"),
        ("auto:5", "auto:LOW-HIGH such as"),
        ("auto:60-5", "LOW at most HIGH, found 'auto:60-5'"),
        ("auto:1-5", "at least 2, found 1"),
        ("2.5", "found '2.5'"),
    ],
)
def test_what_a_user_may_not_write(given, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_num_clusters(given)
    assert len(str(caught.value).splitlines()) == 1


def test_a_given_number_is_not_estimated():
    config, noted = settle_num_clusters(blobs(), 3, Config(), Clock(None))
    assert config == Config(num_clusters=3)
    assert noted == {}


def _cluster(**more):
    config = mca_jax.apply_overrides(Config(), ["train.epochs=2", *more.pop("set", ())])
    return mca_jax.cluster(
        image_embeddings=blobs(num_axes=4),
        noun_embeddings=np.eye(len(NOUNS)),
        nouns=NOUNS,
        config=config,
        **more,
    )


def test_a_run_estimates_its_number_and_says_so(tmp_path):
    result = _cluster(num_clusters="auto", checkpoint_dir=tmp_path)
    noted = result.metrics["cluster_count"]
    assert noted["num_clusters"] == len(result.clusters) == 4
    assert result.config["num_clusters"] == 4
    low, high = noted["interval"]
    assert noted["range"][0] <= low <= 4 <= high <= noted["range"][1]
    assert len(noted["scores"]) == noted["range"][1] - noted["range"][0] + 1
    assert "Counting clusters" in result.seconds
    # Typed again it is the same run: the checkpoints are its own.
    again = _cluster(num_clusters="auto", checkpoint_dir=tmp_path)
    assert again.metrics["cluster_count"] == noted
    np.testing.assert_array_equal(again.assignments, result.assignments)


@pytest.mark.slow
def test_it_is_the_run_of_the_number_that_was_found():
    result, given = (_cluster(num_clusters=number) for number in ("auto", 4))
    np.testing.assert_array_equal(given.assignments, result.assignments)
    assert "cluster_count" not in given.metrics


def test_the_estimate_follows_the_seed():
    def scores(seed):
        config = Config(seed=seed)
        _, noted = settle_num_clusters(blobs(), CountRange(), config, Clock(None))
        return noted["cluster_count"]["scores"]

    assert scores(0) == scores(0)
    assert scores(0) != scores(1)


def test_a_range_beyond_the_images():
    with pytest.raises(InputError, match="120 images that are looked at"):
        _cluster(num_clusters="auto:5-500")


def test_every_process_takes_the_first_ones_number():
    assert jax.process_count() == 1
    from mca_jax.core.parallel import same_on_all_hosts

    np.testing.assert_array_equal(same_on_all_hosts(np.array([4, 3, 6])), [4, 3, 6])
