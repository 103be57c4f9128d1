"""The page of results from made-up run files, its numbers worked out by hand."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.pages import figure_svg, group_runs, mean_spread, paired_difference
from benchmarks.results_page import (
    choose_run,
    correlate,
    draw_accuracy,
    main,
    render_page,
)
from benchmarks.runs import run_path, write_run
from mca_jax.core.errors import InputError


def make(variant, seed, acc, *, kind="variant", name="cifar10_test", **values):
    run = {
        "set": name,
        "base": "cifar10_test",
        "ratio": 1,
        "variant": variant,
        "kind": kind,
        "seed": seed,
        "uses_labels": kind == "reference",
        "scores": {"acc": acc, "nmi": acc / 2, "ari": acc / 4},
        "label_free": {},
        "history": [],
        "risk": [],
        "steps_per_pass": 0,
        "start_acc": None,
        "ece": 0.05 if kind == "variant" else None,
        "epochs": 20,
        "status": "converged",
        "seconds": {"neighbours": 1.0, "training": 2.5},
        "peak_gib": 1.0 + seed,
        "encoder": "lite",
        "num_images": 10_000,
        "num_clusters": 10,
        "overrides": [],
        "identity": "",
        "settings": variant,
        "command": "python -m benchmarks.sweep --seeds=3",
        "hardware": {"cpu": "Test CPU", "cores": 2, "device": "cpu", "num_devices": 1},
        "versions": {"jax": "1.2.3", "mca-jax": "0.0.1"},
    }
    return run | values


def sample_runs():
    """Three seeds: all levels 50, 52, 54; none 52, 52, 55; k-means 40 and 42."""
    free = ((0.9, 3.0), (0.8, 2.0), (0.7, 1.0))
    runs = [
        make("all", seed, acc, label_free={"consistency": good, "loss": loss})
        for seed, (acc, (good, loss)) in enumerate(
            zip((0.50, 0.52, 0.54), free, strict=True)
        )
    ]
    runs += [
        make("none", seed, acc, label_free={"consistency": good, "loss": 5.0})
        for seed, (acc, good) in enumerate(
            zip((0.52, 0.52, 0.55), (0.6, 0.5, 0.95), strict=True)
        )
    ]
    runs += [
        make("kmeans", seed, acc, kind="baseline", epochs=0)
        for seed, acc in enumerate((0.40, 0.42))
    ]
    tail = {"name": "cifar10_test-lt10", "ratio": 10}
    runs += [make("all", 0, 0.45, **tail, label_free={"empty_clusters": 2})]
    runs += [make("kmeans", 0, 0.30, kind="baseline", **tail)]
    return [*runs, make("zero-shot", 0, 0.57, kind="reference")]


def row_of(page, start):
    """Cells of the only row that starts so."""
    (line,) = [line for line in page.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_mean_and_paired_difference():
    assert mean_spread([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)), 2)
    assert math.isnan(mean_spread([1.0]).deviation)
    runs = sample_runs()
    whole, none, kmeans = runs[:3], runs[3:6], runs[6:8]
    found = paired_difference(none, whole)
    # 2, 0 and 1 points: t is 1 / (1 / sqrt(3)) with two degrees of freedom, and
    # two-sided p is 1 - t / sqrt(t^2 + 2).
    assert found.spread.mean == pytest.approx(0.01)
    assert found.spread.deviation == pytest.approx(0.01)
    assert found.p_value == pytest.approx(1 - math.sqrt(3 / 5))
    # Seed 2 has no partner; equal differences leave nothing to test.
    found = paired_difference(kmeans, whole)
    assert (found.spread.mean, found.spread.count) == (pytest.approx(-0.10), 2)
    assert math.isnan(found.p_value)
    assert paired_difference(none, ()) is None


def test_correlation_within_and_over_variants():
    found = correlate(group_runs(sample_runs()[:8])["cifar10_test"])
    # Within all: falls as accuracy rises. Within none: ranks 2, 1, 3 against
    # 1.5, 1.5, 3, whose correlation is sqrt(3) / 2.
    assert found["consistency"].within == pytest.approx((-1 + math.sqrt(3) / 2) / 2)
    assert found["consistency"].count == 6
    # Over all six: ranks 5 4 3 2 1 6 against 1 3 5 3 3 6: the sum of products
    # about the mean is 3.5, those of squares 17.5 and 15.5.
    overall = 3.5 / math.sqrt(17.5 * 15.5)
    assert found["consistency"].overall == pytest.approx(overall)
    # The loss of none never changes.
    assert found["loss"].within == pytest.approx(-1)
    assert correlate(group_runs(sample_runs()[6:8])["cifar10_test"]) == {}


def test_choice_and_oracle():
    whole = sample_runs()[:3]
    choice = choose_run(whole, "consistency")
    assert (choice.chosen["seed"], choice.oracle["seed"]) == (0, 2)
    assert choice.mean == pytest.approx(0.52)
    assert choose_run(whole, "loss").chosen["seed"] == 2
    assert choose_run(whole, "confidence") is None
    assert choose_run(sample_runs()[3:6], "loss") is None


def test_page_shows_the_numbers():
    page = render_page(sample_runs(), picture="results.svg")
    assert "python -m benchmarks.sweep --seeds=3" in page
    assert "on Test CPU, 2 cores, 1 x cpu; jax 1.2.3, mca-jax 0.0.1." in page
    assert "![Accuracy by variant and set](results.svg)" in page
    first = page[: page.index("## cifar10_test-lt10")]
    assert "## cifar10_test: 10,000 images, k = 10" in first
    shared = ["20.0", "3.5", "3.00"]
    assert row_of(first, "| all |") == [
        *("all", "0, 1, 2", "52.0 (2.0)", "26.0 (1.0)", "13.0 (0.5)", "5.0", "–", "–"),
        *shared,
    ]
    # 52, 52 and 55 have mean 53 and variance 3.
    assert row_of(first, "| none |") == [
        *("none", "0, 1, 2", "53.0 (1.7)", "26.5 (0.9)", "13.2 (0.4)", "5.0"),
        *("+1.0 (1.0)", "0.225", *shared),
    ]
    assert row_of(first, "| kmeans |")[2:9] == [
        *("41.0 (1.4)", "20.5 (0.7)", "10.2 (0.4)", "–", "-10.0 (0.0)", "–", "–"),
    ]
    assert row_of(first, "| *zero-shot* |")[2:8] == [
        *("57.0", "28.5", "14.2", "–", "–", "–"),
    ]
    assert "`zero-shot`: **uses the class names**" in page


def test_page_shows_tails_choices_and_quotes():
    page = render_page(sample_runs(), picture="results.svg")
    assert "k = 10, long tail of ratio 10" in page
    costs = page[page.index("## What a long tail costs") :]
    # 52 to 45 against 41 to 30.
    assert row_of(costs, "| cifar10_test-lt10 | all |")[2:] == [
        *("52.0 (2.0)", "45.0", "+7.0", "0.64", "2.0"),
    ]
    assert row_of(costs, "| cifar10_test-lt10 | kmeans |")[2:] == [
        *("41.0 (1.4)", "30.0", "+11.0", "1.00", "–"),
    ]
    assert row_of(page, "| cifar10_test | all | largest consistency")[3:] == [
        *("seed 0: 50.0", "seed 2: 54.0", "4.0", "52.0"),
    ]
    chosen = row_of(page, "| cifar10_test | every variant | largest consistency")
    assert chosen[3:] == [*("`none` seed 2: 55.0",) * 2, "0.0", "52.5"]
    assert "| cifar10_test | every variant | smallest loss" not in page
    ours = row_of(page, "| CIFAR-10 | **this project")
    assert ours[2:] == [
        *("lite", "52.0 (2.0)", "26.0 (1.0)", "13.0 (0.5)", "measured, cifar10_test"),
    ]
    quoted = row_of(page, "| CIFAR-10 | MCA |")
    assert quoted[2:6] == ["CLIP ViT-B/32", "92.7", "84.9", "–"]
    assert "Quoted, not measured here" in page


def test_the_method_is_judged_against_rivals_parts_and_goals():
    runs = [*sample_runs(), make("semantic", 0, 0.40), make("semantic", 1, 0.421)]
    # 3 seeds, 10, 10.1 and 10.2 points below: no doubt.
    runs += [make("instance", s, 0.40 + 0.019 * s, epochs=1) for s in range(3)]
    page = render_page(runs, picture="results.svg")
    rivals = page[page.index("against the best of") : page.index("## Negative")]
    # k-means is 10 points below over the seeds that it shares, none 1 above.
    assert row_of(rivals, "| cifar10_test | none |")[2:] == [
        *("53.0 (1.7)", "52.0 (2.0)", "-1.0 (1.0)", "0.225"),
        *("1 of 3", "below, not told apart"),
    ]
    assert row_of(rivals, "| cifar10_test-lt10 | kmeans |")[4:] == [
        *("+15.0", "–", "1 of 1", "above, not told apart"),
    ]
    negative = page[page.index("## Negative") : page.index("## What a long tail")]
    assert "Of 5 comparisons about 0.2 would have p < 0.05" in negative
    assert row_of(negative, "| cifar10_test | none |")[2:] == [
        *("+1.0 (1.0)", "0.225", "above, not told apart"),
    ]
    # What is shown to be below is no negative result.
    assert "| cifar10_test | instance |" not in negative
    assert "| cifar10_test | kmeans | -10.0 (0.0) | – |" in negative
    goals = page[page.index("## Goals") : page.index("against the best of")]
    assert [line.split("|")[1:4] for line in goals.splitlines() if "cifar" in line] == [
        [
            " cifar10_test: ACC of `all` at least 53.0 ",
            " 52.0 (2.0) ",
            " **not reached** ",
        ],
        [
            " cifar10_test: `all` not below `none`, or within noise ",
            " -1.0 (1.0), p = 0.225 ",
            " reached ",
        ],
        [
            " cifar10_test-lt10: the tail costs at most half of what it costs k-means ",
            " +7.0 points against +11.0 ",
            " **not reached** ",
        ],
    ]


def test_picture_has_a_bar_for_each_line():
    figure = draw_accuracy(group_runs(sample_runs()))
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == pytest.approx([53, 52, 41, 57])
    assert [bar.get_width() for bar in second.patches] == pytest.approx([45, 30])
    svg = figure_svg(figure, "a < b")
    picture = ElementTree.fromstring(svg)
    texts = {each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"cifar10_test", "cifar10_test-lt10", "none", "52.0 (2.0)", "45.0"} <= texts
    assert {"the method", "a baseline", "uses names or labels"} <= texts
    # The same runs give the same bytes, in which there is no date.
    assert figure_svg(draw_accuracy(group_runs(sample_runs())), "a < b") == svg


def test_page_is_made_from_files(tmp_path, capsys):
    runs, page = tmp_path / "runs", tmp_path / "docs" / "results.md"
    for run in sample_runs():
        write_run(run_path(runs, run["set"], run["variant"], run["seed"]), run)
    broken = runs / "cifar10_test" / "all-seed9.json"
    broken.write_text('{"set": "cifar')
    assert main([f"--runs={runs}", f"--out={page}"]) == 0
    assert page.read_text() == render_page(sample_runs(), picture="results.svg")
    assert "<title>Mean accuracy" in page.with_suffix(".svg").read_text()
    empty = tmp_path / "empty"
    assert main([f"--runs={empty}", f"--out={page}"]) == 2
    assert "Error: Expected run files" in capsys.readouterr().err
    with pytest.raises(InputError, match="found none"):
        render_page([], picture="results.svg")
    with pytest.raises(InputError, match="runs of all on cifar10_test with the same"):
        render_page(
            [make("all", 0, 0.5), make("all", 1, 0.5, settings="other")], picture=""
        )


def test_a_set_is_judged_by_what_the_others_choose():
    scores = {
        "all": (0.5, 0.6, 0.7),
        "none": (0.6, 0.4, 0.5),
        "no-views": (0.4, 0.1, 0),
    }
    runs = [
        make(variant, 0, acc, name=f"set{index}", ratio=1)
        for variant, found in scores.items()
        for index, acc in enumerate(found)
    ]
    page = render_page(runs, picture="results.svg")
    table = page[page.index("## Chosen without") : page.index("## What the lines")]
    # "none" is better on the first set only, which can't have it chosen.
    assert row_of(table, "| set0 |") == ["set0", "all", "50.0", "50.0", "none: 60.0"]
    # Without the second, 0.5 + 0.7 against 0.6 + 0.5 of "none".
    assert row_of(table, "| set1 |")[1:4] == ["all", "60.0", "60.0"]
    assert row_of(table, "| **mean** |")[2:4] == ["60.0", "60.0"]
    overview = page[page.index("## All sets") : page.index("## Chosen without")]
    assert row_of(overview, "| none |") == ["none", "60.0", "40.0", "50.0", "50.0"]
