"""The page on convergence and risk from made-up runs, numbers worked out by hand."""

import math

import pytest
from test_results_page import make, row_of

from benchmarks.convergence_page import (
    decay_of,
    draw_along,
    draw_gradients,
    draw_risk,
    gradient_curve,
    main,
    mean_curve,
    movement_of,
    render_page,
    verdict,
)
from benchmarks.pages import group_runs, relate
from benchmarks.runs import run_path, write_run
from mca_jax.core.errors import InputError


def traced(variant, seed, acc, *, exponent, consistency, confidence, **values):
    """A run of two passes whose gradient halves."""
    free = {"consistency": consistency, "confidence": confidence, "imbalance": 0.5}
    rows = [
        {"epoch": 1.0, "grad_norm": 2.0, "mean_squared_grad": 4.0},
        {"epoch": 2.0, "grad_norm": 1.0, "mean_squared_grad": 2.0},
    ]
    start = {"epoch": 0.0, "consistency": 0.6, "confidence": 0.6}
    end = {"epoch": 2.0, "consistency": consistency, "confidence": confidence}
    return make(
        variant,
        seed,
        acc,
        label_free={**free, "rate_exponent": exponent},
        history=rows,
        risk=[start, end],
        steps_per_pass=10,
        start_acc=0.5,
        ece=None,
        **values,
    )


def sample():
    exponents = {"all": (-0.7, -0.5, -0.3), "none": (0.1, -0.6, -0.6)}
    runs = [
        traced(
            variant,
            seed,
            acc,
            exponent=exponents[variant][seed],
            # Accuracy goes up with consistency and down with confidence.
            consistency=acc + 0.1,
            confidence=1 - acc,
            status="step_limit" if seed else "converged",
        )
        for variant, line in {"all": (0.5, 0.6, 0.7), "none": (0.4, 0.45, 0.55)}.items()
        for seed, acc in enumerate(line)
    ]
    return [
        *runs,
        *(make("kmeans", seed, 0.5, kind="baseline") for seed in range(3)),
    ]


def test_gradients_by_hand():
    runs = sample()
    assert gradient_curve(runs[0]) == [(10.0, 1.0), (20.0, 0.5)]
    assert gradient_curve(runs[-1]) == []
    short = [(10.0, 0.0)]
    assert mean_curve([[(10.0, 1.0), (20.0, 0.5)], short]) == [(10.0, 0.5)]
    assert mean_curve([]) == []
    found = decay_of(runs[:3])
    assert found.exponents == (-0.7, -0.5, -0.3)
    assert (found.fits, found.rises) == (2, 0)
    # Norm 2 to norm 1.
    assert found.kept == pytest.approx(0.25)
    assert decay_of(runs[3:6]).rises == 1
    assert decay_of(runs[6:]) is None


def test_relations_by_hand():
    groups = group_runs(sample())["cifar10_test"]
    names = ("consistency", "confidence", "imbalance")
    found = {name: relate(groups, name) for name in names}
    assert relate(groups, "loss") is None
    assert found["consistency"].overall == pytest.approx(1.0)
    assert found["confidence"].overall == pytest.approx(-1.0)
    assert found["confidence"].within == pytest.approx(-1.0)
    assert found["confidence"].rhos == pytest.approx((-1.0, -1.0))
    assert found["consistency"].count == 6
    # Two means are too few, and imbalance is the same everywhere.
    assert math.isnan(found["consistency"].between)
    assert math.isnan(found["imbalance"].overall)
    assert verdict(0.9, 1) == "as expected"
    assert verdict(-0.9, -1) == "as expected"
    assert verdict(0.9, -1) == "**against expectation**"
    assert verdict(0.2, -1) == "no clear relation"
    assert verdict(math.nan, 1) == "not defined"
    moved = movement_of(groups["all"], "consistency")
    # Consistency 0.6, 0.7, 0.8 from 0.6; accuracy 0.5, 0.6, 0.7 from 0.5.
    assert moved.change.mean == pytest.approx(0.1)
    assert moved.accuracy.mean == pytest.approx(0.1)
    assert (moved.together, moved.count) == (2, 3)
    assert movement_of(groups["kmeans"], "consistency") is None


def test_page_says_what_fits_and_what_does_not():
    page = render_page(group_runs(sample()), stem="x")
    rates, risks = page.split("## Do the risk quantities")
    assert row_of(rates, "| cifar10_test | all |")[2:] == [
        *("3", "-0.50 (0.20)", "-0.70 to -0.30", "2 of 3", "0.25"),
        "1 converged, 2 step_limit",
    ]
    assert "- 2 of 6 runs have an exponent above -0.5" in rates
    assert "- In 1 of them the mean squared gradient rises" in rates
    assert "- 4 of 6 runs ended at the limit of epochs" in rates
    assert row_of(risks, "| cifar10_test | confidence |")[2:] == [
        *("+", "-1.00", "–", "-1.00", "0 of 2", "6"),
        *("**against expectation**",) * 2,
    ]
    assert (
        "- Over all runs of the set: 1 of 2 are as expected; not confidence on" in risks
    )
    assert "- Between the means of the variants: no correlation is defined." in risks
    assert row_of(risks, "| cifar10_test | all | confidence |")[3:] == [
        *("-0.200 (0.100)", "+10.0 (10.0)", "0 of 3"),
    ]
    # Other numbers, other sentences.
    fine = [
        r | {"label_free": r["label_free"] | {"rate_exponent": -0.6}}
        for r in sample()[:6]
    ]
    page = render_page(group_runs(fine), stem="x")
    assert "- Nothing in the exponents: all 6 are at most -0.5." in page
    assert "rises over the fitted" not in page
    bare = render_page(group_runs([make("kmeans", 0, 0.5, kind="baseline")]), stem="x")
    assert "No run has an exponent" in bare
    assert "No run has these quantities." in bare


def test_pictures_show_every_run():
    groups = group_runs(sample())
    panels = draw_risk(groups).axes
    assert [panel.get_xlabel() for panel in panels] == [
        *("consistency", "confidence", "imbalance"),
    ]
    # Six runs in each panel; k-means has no such quantity.
    dots = [[len(line.get_offsets()) for line in panel.collections] for panel in panels]
    assert dots == [[3, 3]] * 3
    (panel,) = draw_gradients(groups).axes
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    curves = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert curves == {
        "none": [[10, 1], [20, 0.5]],
        "all": [[10, 1], [20, 0.5]],
        "slope -1/2": [[10, 1], [20, pytest.approx(math.sqrt(0.5))]],
    }
    assert [len(panel.lines) for panel in draw_along(groups).axes] == [2, 2]


def test_page_is_made_from_files(tmp_path, capsys):
    runs, page = tmp_path / "runs", tmp_path / "docs" / "evidence.md"
    for run in sample():
        write_run(run_path(runs, run["set"], run["variant"], run["seed"]), run)
    assert main([f"--runs={runs}", f"--out={page}"]) == 0
    assert page.read_text() == render_page(group_runs(sample()), stem="evidence")
    pictures = {path.name for path in page.parent.glob("*.svg")}
    assert pictures == {
        *("evidence-gradients.svg", "evidence-along.svg", "evidence-risk.svg"),
    }
    assert all(name in page.read_text() for name in pictures)
    assert main([f"--runs={tmp_path / 'none'}", f"--out={page}"]) == 2
    assert "Error: Expected run files" in capsys.readouterr().err
    with pytest.raises(InputError, match="found none"):
        group_runs([])
