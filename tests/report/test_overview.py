import dataclasses

import numpy as np
import pytest
from sample_results import build_result

from mca_jax.data.files import SkippedImage
from mca_jax.report.page.overview import overview_context, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0%"),
        (0.001, "<1%"),
        (0.0099, "<1%"),
        (0.01, "1%"),
        (0.914, "91%"),
        (0.99, "99%"),
        (0.9901, ">99%"),
        (1, "100%"),
    ],
)
def test_percent(value, text):
    assert percent(value) == text


@pytest.mark.parametrize(
    ("root", "title"),
    [
        ("/data/pets", "4 clusters in pets"),
        ("/data/pets/", "4 clusters in pets"),
        ("pets\n", "4 clusters in pets\\x0a"),
        (".", "4 clusters"),
        ("/", "4 clusters"),
        ("", "4 clusters"),
    ],
)
def test_the_title_names_the_folder_and_not_its_path(root, title):
    result = dataclasses.replace(build_result(None), root=root)
    assert overview_context(result)["title"] == title


def test_tiles_count_everything():
    result = build_result(
        None,
        assignments=np.array([0] * 1500 + [2]),
        names=["a", "b", "c"],
        labels=np.zeros(1501, int),
        skipped=(),
    )
    context = overview_context(result)
    tiles = {name: (value, aside) for name, value, aside in context["tiles"]}
    assert tiles["Images"] == ("1,501", "")
    assert tiles["Clusters"] == ("3", "1 empty")
    assert tiles["Mean confidence"][0] == percent(float(result.confidences.mean()))
    assert tiles["Accuracy by labels"][0] == "88.1%"
    assert tiles["Skipped files"] == ("0", "")
    without = overview_context(build_result(None))["tiles"]
    assert "Accuracy by labels" not in [name for name, *_ in without]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("converged", "Training converged after 8 epochs."),
        ("step_limit", "Training used all of its 8 epochs."),
        (
            "best_checkpoint",
            "Training is shown as its best checkpoint has it, after 8 epochs.",
        ),
        ("diverged", "Training diverged after 8 epochs."),
        (
            "non_finite",
            "Training stopped at a value that is not finite after 8 epochs.",
        ),
    ],
)
def test_every_end_of_training_is_told(status, sentence):
    context = overview_context(build_result(None, status=status))
    assert context["training_text"] == sentence
    bad = status in ("diverged", "non_finite")
    assert len(context["notices"]) == 1 + bad
    assert ("no better than chance" in context["notices"][0]) == (status == "diverged")


def test_notices_tell_of_empty_clusters():
    result = build_result(
        None, assignments=np.zeros(5, int), names=["a", "b", "c"], warnings=()
    )
    assert overview_context(result)["notices"] == [
        "2 of 3 clusters are empty: fewer clusters may fit better."
    ]
    assert overview_context(build_result(None, warnings=()))["notices"] == []


@pytest.mark.parametrize(
    ("provenance", "sentence"),
    [
        (
            {"encoder": {"name": "lite", "domain": "photographs"}},
            "Encoder: lite, trained on photographs. Where",
        ),
        (
            {"encoder": "clip", "domain": "the web"},
            "Encoder: clip, trained on the web.",
        ),
        ({"encoder": {"name": "mine"}}, "Encoder: mine."),
        ({}, "Encoder: of your own."),
    ],
)
def test_the_encoder_says_what_it_knows(provenance, sentence):
    lede = overview_context(build_result(None, provenance=provenance))["lede"]
    assert sentence in lede


def test_sizes_are_sorted_and_confidences_are_counted():
    result = build_result(
        None, assignments=np.array([0] * 3 + [1] * 9 + [2] * 6), names=["a", "b", "c"]
    )
    result.probabilities[:] = 0.05
    result.probabilities[np.arange(18), result.assignments] = 0.9
    result.probabilities[0, 0] = 0.42
    context = overview_context(result)
    bars = context["size_chart"].bars
    assert [bar.label for bar in bars] == ["b: 9 images", "c: 6 images", "a: 3 images"]
    assert [bar.target for bar in bars] == ["cluster-1", "cluster-2", "cluster-0"]
    assert context["size_aside"] == "even share 6"
    assert context["confidence_aside"] == "1 image below 50%"
    labels = [bar.label for bar in context["confidence_chart"].bars if bar.height]
    assert labels == ["40–45%: 1 image", "90–95%: 17 images"]


def test_long_lists_of_skipped_files_are_capped():
    skipped = tuple(
        SkippedImage(f"{i}.jpg", "empty file" if i % 3 else "a PDF") for i in range(900)
    )
    context = overview_context(build_result(None, skipped=skipped))
    assert len(context["skipped"]) == 200
    assert context["skipped_text"].startswith("900 files could not be read")
    assert context["skipped_text"].endswith("frequent reason, 600 times: empty file")
    one = overview_context(build_result(None))
    assert one["skipped_text"] == "1 file could not be read and took no part."
