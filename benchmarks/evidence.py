"""What run files say of convergence and of the risk quantities, as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.runs import Run
from benchmarks.summaries import Spread, mean_spread, spearman

__all__ = [
    "CLEAR",
    "EXPECTED",
    "RATE",
    "Decay",
    "Movement",
    "Relation",
    "decay_of",
    "gradient_curve",
    "mean_curve",
    "movement_of",
    "relations",
    "verdict",
]

RATE = -0.5
"""Exponent that the statement on convergence allows at most."""

CLEAR = 0.3
"""Size from which a rank correlation is called a relation here."""

EXPECTED = {"consistency": 1, "confidence": 1, "imbalance": -1}
"""Sign that the correlation of each risk quantity with accuracy should have."""

_Curve = Sequence[tuple[float, float]]


class Decay(NamedTuple):
    """How gradients fell over the runs of one line.

    Attributes:
      exponent: Fitted exponent of the mean squared gradient norm.
      lowest: Smallest exponent of a run.
      highest: Largest.
      fits: Runs whose exponent is at most ``RATE``.
      rises: Runs whose exponent is above 0.
      count: Runs with an exponent.
      kept: Squared gradient norm of the last pass over that of the first.
    """

    exponent: Spread
    lowest: float
    highest: float
    fits: int
    rises: int
    count: int
    kept: Spread


class Relation(NamedTuple):
    """How one risk quantity goes with accuracy over the runs of one set.

    Attributes:
      expected: Sign that the theory gives.
      overall: Spearman's rho over all runs; NaN where it is not defined.
      between: The same over the means of the variants.
      within: Mean rho over the seeds of one variant.
      agree: Variants whose own rho has the expected sign.
      variants: Variants with a rho of their own.
      count: Runs.
    """

    expected: int
    overall: float
    between: float
    within: float
    agree: int
    variants: int
    count: int


class Movement(NamedTuple):
    """What training moved, from the clusters before the first step to the end.

    Attributes:
      change: Of the risk quantity.
      accuracy: Of the accuracy.
      together: Runs in which both moved the same way.
      count: Runs.
    """

    change: Spread
    accuracy: Spread
    together: int
    count: int


def gradient_curve(run: Run) -> list[tuple[float, float]]:
    """Follow the mean squared gradient norm of a run.

    Args:
      run: A run with a history.

    Returns:
      Steps so far, and the mean over them relative to that of the first pass.
    """
    rows = [row for row in run["history"] if row.get("mean_squared_grad")]
    if not rows:
        return []
    first, steps = rows[0]["mean_squared_grad"], run["steps_per_pass"]
    return [(row["epoch"] * steps, row["mean_squared_grad"] / first) for row in rows]


def mean_curve(curves: Sequence[_Curve]) -> list[tuple[float, float]]:
    """Average curves over runs, as far as all of them go.

    Args:
      curves: One a run, with the same places along the first axis.

    Returns:
      The mean curve; empty without curves.
    """
    if not curves:
        return []
    length = min(map(len, curves))
    array = np.asarray([curve[:length] for curve in curves], float)
    return [(float(x), float(y)) for x, y in array.mean(axis=0)]


def _exponent(run: Run) -> float:
    value = run["label_free"].get("rate_exponent")
    return math.nan if value is None else float(value)


def decay_of(runs: Sequence[Run]) -> Decay | None:
    """Sum up how gradients fell.

    Args:
      runs: Runs of one line.

    Returns:
      The summary; None where no run has an exponent.
    """
    values = [_exponent(run) for run in runs]
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return None
    kept = []
    for run in runs:
        norms = [row["grad_norm"] for row in run["history"] if row.get("grad_norm")]
        if norms:
            kept.append((norms[-1] / norms[0]) ** 2)
    return Decay(
        exponent=mean_spread(values),
        lowest=min(values),
        highest=max(values),
        fits=sum(value <= RATE for value in values),
        rises=sum(value > 0 for value in values),
        count=len(values),
        kept=mean_spread(kept) if kept else Spread(math.nan, math.nan, 0),
    )


def _pairs(runs: Sequence[Run], name: str) -> list[tuple[float, float]]:
    return [
        (run["label_free"][name], run["scores"]["acc"])
        for run in runs
        if run["label_free"].get(name) is not None
    ]


def relations(by_variant: Mapping[str, Sequence[Run]]) -> dict[str, Relation]:
    """Correlate the risk quantities with accuracy over the variants of one set.

    Args:
      by_variant: Runs of one set; baselines and reference lines don't count.

    Returns:
      One entry a quantity that any run has.
    """
    lines = [runs for runs in by_variant.values() if runs[0]["kind"] == "variant"]
    found = {}
    for name, sign in EXPECTED.items():
        groups = [pairs for pairs in (_pairs(runs, name) for runs in lines) if pairs]
        if not groups:
            continue
        own = [rho for rho in map(spearman, groups) if not math.isnan(rho)]
        means = [(float(x), float(y)) for x, y in (np.mean(g, axis=0) for g in groups)]
        together = [pair for pairs in groups for pair in pairs]
        found[name] = Relation(
            expected=sign,
            overall=spearman(together),
            between=spearman(means),
            within=float(np.mean(own)) if own else math.nan,
            agree=sum(rho * sign > 0 for rho in own),
            variants=len(own),
            count=len(together),
        )
    return found


def movement_of(runs: Sequence[Run], name: str) -> Movement | None:
    """Compare what training did to a risk quantity and to accuracy.

    Args:
      runs: Runs of one variant, with the risk quantities after each pass.
      name: The risk quantity.

    Returns:
      The summary; None where no run has both ends.
    """
    moves = [
        (
            run["risk"][-1][name] - run["risk"][0][name],
            run["scores"]["acc"] - run["start_acc"],
        )
        for run in runs
        if len(run["risk"]) > 1 and run["start_acc"] is not None
    ]
    if not moves:
        return None
    return Movement(
        change=mean_spread(change for change, _ in moves),
        accuracy=mean_spread(gain for _, gain in moves),
        together=sum(change * gain > 0 for change, gain in moves),
        count=len(moves),
    )


def verdict(rho: float, expected: int) -> str:
    """Say what a correlation means, by a limit that was fixed beforehand.

    Args:
      rho: The correlation; NaN where it is not defined.
      expected: Its expected sign.

    Returns:
      A few words.
    """
    if math.isnan(rho):
        return "not defined"
    if abs(rho) < CLEAR:
        return "no clear relation"
    return "as expected" if rho * expected > 0 else "**against expectation**"
