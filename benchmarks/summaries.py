"""Numbers over runs: means, paired differences, correlations, choices of a seed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.runs import Run

__all__ = [
    "RULES",
    "Choice",
    "Correlation",
    "Difference",
    "Spread",
    "choose_run",
    "correlate",
    "mean_spread",
    "paired_difference",
    "spearman",
]

RULES: Mapping[str, int] = {
    "loss": -1,
    "consistency": 1,
    "confidence": 1,
    "kmeans_objective": 1,
    "neighbor_agreement": 1,
    "compactness": 1,
    "imbalance": -1,
}
"""Scores by which a run may be chosen: 1 takes the largest, -1 the smallest. Fixed
beforehand from what the theory says, not from how they turned out."""


class Spread(NamedTuple):
    """Mean and spread over seeds.

    Attributes:
      mean: The mean.
      deviation: Sample standard deviation; NaN for a single value.
      count: Number of values.
    """

    mean: float
    deviation: float
    count: int


class Difference(NamedTuple):
    """One method less another, over the seeds that both have.

    Attributes:
      spread: Of the differences.
      p_value: Of the paired t-test, two-sided; NaN where it says nothing.
    """

    spread: Spread
    p_value: float


class Correlation(NamedTuple):
    """How the order by a label-free score goes with that by accuracy.

    Attributes:
      overall: Spearman's rho over all runs; NaN where either never changes.
      within: Mean rho over the seeds of one variant; NaN where it is never
        defined. It says what the score is worth for the choice of a seed.
      count: Number of runs.
    """

    overall: float
    within: float
    count: int


class Choice(NamedTuple):
    """What a label-free score chooses, and what labels would have chosen.

    Attributes:
      chosen: The run that the score takes.
      oracle: The run of the largest accuracy, known by labels alone.
      mean: Mean accuracy of all, what choosing blindly gives.
    """

    chosen: Run
    oracle: Run
    mean: float


def mean_spread(values: Iterable[float]) -> Spread:
    """Summarise values over seeds.

    Args:
      values: At least one.

    Returns:
      Mean and sample standard deviation.
    """
    array = np.asarray(list(values), float)
    deviation = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return Spread(float(array.mean()), deviation, len(array))


def paired_difference(
    runs: Sequence[Run], others: Sequence[Run], score: str = "acc"
) -> Difference | None:
    """Compare two methods seed by seed.

    Args:
      runs: Runs of one method on one set.
      others: Runs of the other, subtracted.
      score: Which score.

    Returns:
      The difference, or None where they share no seed.
    """
    other = {run["seed"]: run["scores"][score] for run in others}
    values = [
        run["scores"][score] - other[run["seed"]]
        for run in runs
        if run["seed"] in other
    ]
    if not values:
        return None
    p_value = math.nan
    # Differences that are all equal leave the test nothing to divide by.
    if len(values) > 1 and np.ptp(values) > 1e-12:
        p_value = float(stats.ttest_1samp(values, 0.0).pvalue)  # pyright: ignore
    return Difference(mean_spread(values), p_value)


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Compute Spearman's rank correlation.

    Args:
      pairs: Pairs of values.

    Returns:
      Rho in [-1, 1]; NaN with fewer than three pairs, or where one side is constant.
    """
    columns = np.asarray(pairs, float).reshape(-1, 2)
    if len(columns) < 3 or (np.ptp(columns, axis=0) == 0).any():
        return math.nan
    return float(stats.spearmanr(columns[:, 0], columns[:, 1]).statistic)  # pyright: ignore


def correlate(runs: Sequence[Run]) -> dict[str, Correlation]:
    """Correlate each label-free score with accuracy over the runs of one set.

    Args:
      runs: Runs of one set; only those of variants count, since baselines have no
        such scores.

    Returns:
      One entry a score, the strongest correlation over all runs first.
    """
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        if run["kind"] != "variant":
            continue
        for name, value in run["label_free"].items():
            if value is not None:
                groups = pairs.setdefault(name, defaultdict(list))
                groups[run["variant"]].append((value, run["scores"]["acc"]))
    found = {}
    for name, groups in pairs.items():
        together = [pair for group in groups.values() for pair in group]
        within = [spearman(group) for group in groups.values()]
        within = [rho for rho in within if not math.isnan(rho)]
        mean = float(np.mean(within)) if within else math.nan
        found[name] = Correlation(spearman(together), mean, len(together))
    # A score that never changes says nothing and comes last.
    strength = {
        name: -1.0 if math.isnan(each.overall) else abs(each.overall)
        for name, each in found.items()
    }
    return {name: found[name] for name in sorted(found, key=lambda n: -strength[n])}


def choose_run(runs: Sequence[Run], rule: str) -> Choice | None:
    """Choose a run by a label-free score, and say what labels would have chosen.

    Args:
      runs: The candidates.
      rule: One of ``RULES``.

    Returns:
      Both; the first of equals. None where no two candidates differ in the score.
    """
    known = [run for run in runs if run["label_free"].get(rule) is not None]
    if len({run["label_free"][rule] for run in known}) < 2:
        return None
    sign = RULES[rule]
    return Choice(
        chosen=max(known, key=lambda run: sign * run["label_free"][rule]),
        oracle=max(known, key=lambda run: run["scores"]["acc"]),
        mean=float(np.mean([run["scores"]["acc"] for run in known])),
    )
