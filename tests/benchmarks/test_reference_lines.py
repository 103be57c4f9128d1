"""Reference lines on features whose answer is known."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, adjusted_rand_score
from small_runs import blobs

from benchmarks.reference_lines import (
    class_rows,
    linear_probe,
    score_classes,
    zero_shot,
)
from benchmarks.sets import Answers, SweepSet
from mca_jax.core.errors import InputError
from mca_jax.semantics import load_nouns
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary


def test_classes_are_found_by_synset_then_by_name():
    table = load_nouns()
    rows = class_rows(table, ["cannon", "lamp"])
    # The list of Caltech's classes gives a cannon three senses.
    assert [len(each) for each in rows] == [3, 2]
    assert {table.names[row] for row in rows[1]} == {"lamp"}
    # A class of no list goes by its first noun.
    (row,) = class_rows(table, ["golden_retriever", "cat"])[0]
    assert table.names[row] == "golden retriever"
    assert class_rows(table, ["no such thing", "cat"]) is None


def test_zero_shot_takes_the_nearest_mean_name():
    table = parse_vocabulary("cat\ndog\nhound", "nouns")
    given = SweepSet(
        name="x",
        base="x",
        ratio=1,
        embeddings=np.array([[0.8, 0.6, 0.0], [0.5, 0.6, 0.62], [0.0, 0.0, 1.0]]),
        nouns=np.eye(3),
        table=table,
        num_clusters=2,
        encoder="",
        digest="",
    )
    # Cosines with cat are .8, .5, 0; with the mean of dog and hound, .42, .86, .71.
    assert zero_shot(given, [(0,), (1, 2)]).tolist() == [0, 1, 1]


def test_scores_of_classes_need_no_matching():
    labels, swapped = np.array([0, 0, 1, 1, 1]), np.array([1, 1, 0, 0, 1])
    scores = score_classes(labels, swapped)
    assert scores.acc == pytest.approx(accuracy_score(labels, swapped))
    assert scores.ari == pytest.approx(adjusted_rand_score(labels, swapped))


def test_linear_probe_scores_the_other_half():
    answers = Answers(np.repeat(np.arange(4), 20), ("a", "b", "c", "d"))
    held, predicted = linear_probe(blobs(per_axis=20), answers, seed=0)
    assert len(set(held)) == 40
    assert np.bincount(answers.labels[held]).tolist() == [10] * 4
    assert (predicted == answers.labels[held]).all()
    again = linear_probe(blobs(per_axis=20), answers, seed=1)[0]
    assert set(again) != set(held)
    lonely = Answers(np.array([0, 0, 1]), ("a", "b"))
    with pytest.raises(InputError, match="two images of each class"):
        linear_probe(np.eye(3), lonely, seed=0)
