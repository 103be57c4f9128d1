import dataclasses
import math
import re
from html import unescape

import numpy as np
import pytest
from sample_results import build_result

from mca_jax.data.files import HIDDEN, SkippedImage
from mca_jax.report import render_report
from mca_jax.report.overview import (
    audit_rows,
    flat_settings,
    label_free_rows,
    overview_context,
    percent,
    score_rows,
)


def head(result):
    """What the page says above its first section, and its title."""
    page = render_report(result)
    (header,) = re.findall(r"<header>(.*?)</header>", page, re.DOTALL)
    title, *_ = re.findall("<title>(.*?)</title>", page, re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", "", header)), unescape(title)


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
    assert head(result)[1] == title


def test_tiles_count_everything():
    result = build_result(
        None,
        assignments=np.array([0] * 1500 + [2]),
        names=["a", "b", "c"],
        labels=np.zeros(1501, int),
        skipped=(),
    )
    text = head(result)[0]
    mean = percent(float(result.confidences.mean()))
    for tile in (
        *("Images1,501", "Clusters3 1 empty", f"Mean confidence{mean}"),
        *("Accuracy by labels88.1%", "Files not read0"),
    ):
        assert tile in text
    assert "Accuracy by labels" not in head(build_result(None))[0]


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
    assert sentence in head(build_result(None, provenance=provenance))[0]


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
    assert context["skipped_text"] == (
        "900 files not read: 900 .jpg (most often: empty file). Here are the first "
        "200; skipped.csv lists all."
    )
    one = overview_context(build_result(None))
    assert one["skipped_text"] == "1 file not read: 1 .jpg (truncated JPEG file)."


def test_files_that_are_no_images_come_last_and_hidden_ones_are_no_alarm():
    skipped = (
        SkippedImage(".DS_Store", HIDDEN, "left_out"),
        SkippedImage("a.mov", "a video", "other"),
        SkippedImage("b.jpg", "empty file"),
    )
    context = overview_context(build_result(None, skipped=skipped))
    assert [image.path for image in context["skipped"]] == ["b.jpg", "a.mov"]
    assert context["num_skipped"] == 2
    assert "1 hidden or system files left out" in context["skipped_text"]
    hidden = overview_context(build_result(None, skipped=skipped[:1]))
    assert hidden["num_skipped"] == 0
    none = overview_context(build_result(None, skipped=()))
    assert none["skipped_text"] == "Every file was read."


def test_this_run_comes_first_and_the_best_is_marked():
    rows = score_rows(
        {
            "kmeans": {"acc": 0.9, "nmi": 0.8, "ari": 0.7},
            "mca": {"acc": 0.8812, "nmi": 0.8, "ari": math.nan},
            "my_method": {"acc": 0.5},
        }
    )
    assert [row.method for row in rows] == [
        "This run",
        "k-means in the space of this run",
        "My method",
    ]
    assert [row.own for row in rows] == [True, False, False]
    assert rows[0].texts == ("88.1", "80.0", "–")
    assert rows[0].best == (False, True, False)
    assert rows[1].best == (True, True, True)
    assert rows[2].texts == ("50.0", "–", "–")
    assert score_rows({}) == []


def test_label_free_numbers_are_listed():
    rows = label_free_rows(
        {
            "consistency": np.float32(0.5),
            "risk": {"imbalance": 0.25},
            "status": "text",
            "flag": True,
            "rate_exponent": math.nan,
        }
    )
    assert [(row.name, row.value) for row in rows] == [
        ("Consistency", "0.5"),
        ("Risk: imbalance", "0.25"),
        ("Rate exponent", "not finite"),
    ]
    assert "0 is best" in rows[1].note


def test_audit_counts_down_to_what_is_kept():
    rows = audit_rows({"people": 60, "my_filter": 15, "kept": 25})
    assert [(row.taken, row.left, row.kept) for row in rows] == [
        (60, 40, False),
        (15, 25, False),
        (25, 25, True),
    ]
    assert rows[0].share == 0.6
    assert (rows[1].name, rows[1].note) == ("My filter", "")
    assert audit_rows({}) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/data/jane/photos", "…/photos"),
        ("~/nouns.txt", "…/nouns.txt"),
        ("C:\\Users\\jane\\photos", "…/photos"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("photos/2024", "photos/2024"),
        ("/", "/"),
        (3, "3"),
    ],
)
def test_no_more_than_the_end_of_an_absolute_path(value, shown):
    assert flat_settings({"name": value}) == [("name", shown)]


def test_settings_are_flat():
    assert flat_settings({"a": {"b": 1, "c": [1, 2]}, "d": "x\ny", "e": {}}) == [
        ("a.b", "1"),
        ("a.c", "[1, 2]"),
        ("d", "x\ny"),
        ("e", "{}"),
    ]
