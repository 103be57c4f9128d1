"""Sections that judge: the method against its rivals, against its parts, its goals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.groups import (
    NONE,
    Groups,
    number_cell,
    spread_cell,
    table_lines,
)
from benchmarks.runs import Run
from benchmarks.summaries import Difference, Spread, mean_spread, paired_difference
from benchmarks.variants import ALL_LEVELS

__all__ = [
    "difference_cells",
    "goals_section",
    "long_tail_section",
    "negative_section",
    "rivals_section",
]

_RIVALS = ("kmeans-raw", "kmeans", "none")
_LEVEL = 0.05
# What was aimed at with the embedded encoder, before the sweep.
_AIMS = {"cifar10": 53.0, "caltech40": 90.5}
_TAIL_RATIO, _TAIL_SHARE = 10, 0.5


def _accuracy(runs: Sequence[Run]) -> Spread:
    return mean_spread(100 * run["scores"]["acc"] for run in runs)


def difference_cells(runs: Sequence[Run], others: Sequence[Run]) -> tuple[str, str]:
    """Write the paired difference of two lines.

    Args:
      runs: Of one line.
      others: Of the other, subtracted.

    Returns:
      Cells of the difference in points of ACC, and of its p-value.
    """
    found = paired_difference(runs, others)
    if found is None:
        return NONE, NONE
    points = Spread(100 * found.spread.mean, 100 * found.spread.deviation, 0)
    return spread_cell(points, "+.1f"), number_cell(found.p_value, ".3f")


def _is_shown(found: Difference) -> bool:
    """Whether the paired test tells two lines apart."""
    return not math.isnan(found.p_value) and found.p_value < _LEVEL


def _judge(found: Difference) -> str:
    side = "above" if found.spread.mean > 0 else "below"
    if found.spread.mean == 0:
        return "equal"
    if not _is_shown(found):
        return f"{side}, not told apart"
    return side if side == "above" else f"**{side}**"


def _best_rival(by_variant: Mapping[str, Sequence[Run]]) -> str | None:
    """The rival that leaves the method least, over the seeds that both have."""
    whole = by_variant.get(ALL_LEVELS, ())
    gains = {
        name: found.spread.mean
        for name in _RIVALS
        if (found := paired_difference(whole, by_variant.get(name, ()))) is not None
    }
    return min(gains, key=lambda name: gains[name], default=None)


def rivals_section(groups: Groups) -> list[str]:
    """Test the whole method against the best simpler one of each set.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown; none where there is nothing to compare.
    """
    rows = []
    for name, by_variant in groups.items():
        whole, rival = by_variant.get(ALL_LEVELS, ()), _best_rival(by_variant)
        found = paired_difference(whole, by_variant[rival]) if rival else None
        if rival is None or found is None:
            continue
        other = {run["seed"]: run["scores"]["acc"] for run in by_variant[rival]}
        pairs = [
            (r["scores"]["acc"], other[r["seed"]]) for r in whole if r["seed"] in other
        ]
        won = sum(own >= others for own, others in pairs)
        rows.append(
            [
                name,
                rival,
                spread_cell(_accuracy(by_variant[rival])),
                spread_cell(_accuracy(whole)),
                *difference_cells(whole, by_variant[rival]),
                f"{won} of {len(pairs)}",
                _judge(found),
            ]
        )
    if not rows:
        return []
    named = ", ".join(f"`{name}`" for name in _RIVALS)
    header = ["set", "best rival", "its ACC", f"ACC of `{ALL_LEVELS}`"]
    header += ["difference, paired", "p", "seeds not below", f"`{ALL_LEVELS}` is"]
    return [
        f"## `{ALL_LEVELS}` against the best of k-means and consistency only",
        "",
        f"The rival of a set is the best of {named} by its ACC, so it is chosen "
        "with the labels at hand and the method is not. Both have the same seeds; the "
        f"t-test is paired and two-sided, and tells apart at p < {_LEVEL}.",
        "",
        *table_lines(header, rows),
    ]


def negative_section(groups: Groups) -> list[str]:
    """List each part whose absence is not shown to cost anything.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown.
    """
    rows, compared = [], 0
    for name, by_variant in groups.items():
        whole = by_variant.get(ALL_LEVELS, ())
        for variant, runs in by_variant.items():
            if variant == ALL_LEVELS or runs[0]["kind"] == "reference":
                continue
            found = paired_difference(runs, whole)
            if found is None:
                continue
            compared += 1
            if found.spread.mean < 0 and _is_shown(found):
                continue
            cells = difference_cells(runs, whole)
            rows.append([name, variant, *cells, _judge(found)])
    lines = [
        "## Negative results",
        "",
        f"Lines that the paired test does not show to be below `{ALL_LEVELS}`: what "
        "they leave out or do otherwise is not shown to matter there, or hurts where "
        f"they are above. Of {compared} comparisons about "
        f"{number_cell(_LEVEL * compared)} would have p < {_LEVEL} even if nothing "
        "mattered, and few seeds can't show small differences.",
        "",
    ]
    if not rows:
        told = "None: every variant and baseline is shown to be below."
        return [*lines, told if compared else "Nothing to compare.", ""]
    header = ["set", "line", f"ACC less `{ALL_LEVELS}`, paired", "p", "the line is"]
    return [*lines, *table_lines(header, rows)]


def _loss(groups: Groups, name: str, variant: str) -> float:
    """Points of ACC that a long tail costs a line; NaN where it is not known."""
    by_variant = groups[name]
    base = groups.get(next(iter(by_variant.values()))[0]["base"], {})
    if variant not in by_variant or variant not in base:
        return math.nan
    return _accuracy(base[variant]).mean - _accuracy(by_variant[variant]).mean


def _tails(groups: Groups) -> list[str]:
    return [
        name
        for name, by_variant in groups.items()
        if (first := next(iter(by_variant.values()))[0])["ratio"] > 1
        and first["base"] in groups
    ]


def long_tail_section(groups: Groups) -> list[str]:
    """Show what a long tail costs each line.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown; none without a long-tailed set.
    """
    rows = []
    for name in _tails(groups):
        usual = _loss(groups, name, "kmeans")
        for variant, runs in groups[name].items():
            lost = _loss(groups, name, variant)
            if math.isnan(lost) or runs[0]["kind"] == "reference":
                continue
            empty = [run["label_free"].get("empty_clusters") for run in runs]
            known = [value for value in empty if value is not None]
            share = lost / usual if usual > 0 else math.nan
            rows.append(
                [
                    name,
                    variant,
                    spread_cell(_accuracy(groups[runs[0]["base"]][variant])),
                    spread_cell(_accuracy(runs)),
                    f"{lost:+.1f}",
                    number_cell(share, ".2f"),
                    number_cell(mean_spread(known).mean) if known else NONE,
                ]
            )
    if not rows:
        return []
    header = ["set", "line", "ACC, whole set", "ACC, long tail", "points lost"]
    header += ["lost, over k-means' loss", "empty clusters"]
    return [
        "## What a long tail costs",
        "",
        "The classes of a long-tailed set fall geometrically in size, the largest over "
        "the smallest being the ratio; which class is large and which images stay is "
        "drawn once. So it is another and smaller set, and a loss can also come from "
        "there. k-means is that in the space of the method, `kmeans`.",
        "",
        *table_lines(header, rows),
    ]


def _goal_rows(groups: Groups) -> list[tuple[str, str, bool]]:
    rows = []
    for name, by_variant in groups.items():
        whole = by_variant.get(ALL_LEVELS, ())
        if not whole or whole[0]["encoder"] != "lite":
            continue
        own = _accuracy(whole)
        if whole[0]["ratio"] == 1:
            for key, aim in _AIMS.items():
                if name.startswith(key):
                    what = f"{name}: ACC of `{ALL_LEVELS}` at least {aim}"
                    rows.append((what, spread_cell(own), own.mean >= aim))
            rival = _best_rival(by_variant)
            found = paired_difference(whole, by_variant[rival]) if rival else None
            if found is not None:
                what = f"{name}: `{ALL_LEVELS}` not below `{rival}`, or within noise"
                points, p_value = difference_cells(whole, by_variant[rival or ""])
                fine = found.spread.mean >= 0 or not _is_shown(found)
                rows.append((what, f"{points}, p = {p_value}", fine))
        elif whole[0]["ratio"] == _TAIL_RATIO:
            lost, usual = (_loss(groups, name, v) for v in (ALL_LEVELS, "kmeans"))
            if not math.isnan(lost + usual):
                what = f"{name}: the tail costs at most half of what it costs k-means"
                told = f"{lost:+.1f} points against {usual:+.1f}"
                rows.append((what, told, lost <= max(_TAIL_SHARE * usual, 0.0)))
    return rows


def goals_section(groups: Groups) -> list[str]:
    """Hold the runs against what was aimed at.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown; none where no goal can be looked at.
    """
    rows = [
        [what, told, "reached" if fine else "**not reached**"]
        for what, told, fine in _goal_rows(groups)
    ]
    if not rows:
        return []
    return [
        "## Goals",
        "",
        "Set before the sweep, for the embedded encoder.",
        "",
        *table_lines(["goal", "measured", ""], rows),
    ]
