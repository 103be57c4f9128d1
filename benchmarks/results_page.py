"""The page of results, from the run files of the sweep.

python -m benchmarks.results_page --runs=DIR --out=docs/results.md

A picture of the same name that ends in .svg is written beside the page.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.methods import BASELINES
from benchmarks.pages import (
    NONE,
    ORDER,
    Difference,
    Groups,
    Relation,
    Spread,
    add_legend,
    figure_svg,
    group_runs,
    make_page,
    mean_spread,
    number_cell,
    paired_difference,
    relate,
    render_template,
    spread_cell,
)
from benchmarks.peers import PEERS
from benchmarks.runs import Run
from benchmarks.variants import ALL_LEVELS, VARIANTS

__all__ = [
    "Choice",
    "choose_run",
    "correlate",
    "draw_accuracy",
    "main",
    "render_page",
]

_PUBLISHED = Path(__file__).with_name("published.json")
_SCORES = ("acc", "nmi", "ari")
_RIVALS = ("kmeans-raw", "kmeans", "none")
_LEVEL = 0.05
# What was aimed at with the embedded encoder, before the sweep.
_AIMS = {"cifar10": 53.0, "caltech40": 90.5}
_TAIL_RATIO, _TAIL_SHARE = 10, 0.5
_RULES: Mapping[str, int] = {
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
_COLORS = {
    "variant": ("#3b6ea8", "the method"),
    "baseline": ("#8a8f98", "a baseline"),
    "reference": ("#d9c38f", "uses names or labels"),
}


class Choice(NamedTuple):
    """The run that a label-free score chooses, and the one that labels would have.

    ``mean`` is the mean accuracy of all, what choosing blindly gives.
    """

    chosen: Run
    oracle: Run
    mean: float


def correlate(by_variant: Mapping[str, Sequence[Run]]) -> dict[str, Relation]:
    """Relate each label-free score to accuracy, the strongest over all runs first."""
    runs = [run for each in by_variant.values() for run in each]
    names = dict.fromkeys(name for run in runs for name in run["label_free"])
    found = {name: relate(by_variant, name) for name in names}
    # A score that never changes says nothing and comes last.
    strength = {
        name: -1.0 if math.isnan(each.overall) else abs(each.overall)
        for name, each in found.items()
        if each is not None
    }
    order = sorted(strength, key=lambda name: -strength[name])
    return {name: each for name in order if (each := found[name]) is not None}


def choose_run(runs: Sequence[Run], rule: str) -> Choice | None:
    """Choose a run by a label-free score, and say what labels would have chosen.

    The first of equals is chosen; None where no two candidates differ in the score.
    """
    known = [run for run in runs if run["label_free"].get(rule) is not None]
    if len({run["label_free"][rule] for run in known}) < 2:
        return None
    sign = _RULES[rule]
    return Choice(
        chosen=max(known, key=lambda run: sign * run["label_free"][rule]),
        oracle=max(known, key=lambda run: run["scores"]["acc"]),
        mean=float(np.mean([run["scores"]["acc"] for run in known])),
    )


def _percent(runs: Sequence[Run], score: str = "acc") -> Spread:
    return mean_spread(100 * run["scores"][score] for run in runs)


def _difference_cells(runs: Sequence[Run], others: Sequence[Run]) -> tuple[str, str]:
    """Cells of the paired difference of two lines in points of ACC, and of its p."""
    found = paired_difference(runs, others)
    if found is None:
        return NONE, NONE
    return spread_cell(found.spread, "+.1f", scale=100), number_cell(
        found.p_value, ".3f"
    )


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


def _rival_rows(groups: Groups) -> list[list[str]]:
    """Test the whole method against the best simpler one of each set, if any."""
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
                spread_cell(_percent(by_variant[rival])),
                spread_cell(_percent(whole)),
                *_difference_cells(whole, by_variant[rival]),
                f"{won} of {len(pairs)}",
                _judge(found),
            ]
        )
    return rows


def _negative_rows(groups: Groups) -> tuple[list[list[str]], int]:
    """List each part whose absence isn't shown to cost anything; count all compared."""
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
            cells = _difference_cells(runs, whole)
            rows.append([name, variant, *cells, _judge(found)])
    return rows, compared


def _loss(groups: Groups, name: str, variant: str) -> float:
    """Points of ACC that a long tail costs a line; NaN where it is not known."""
    by_variant = groups[name]
    base = groups.get(next(iter(by_variant.values()))[0]["base"], {})
    if variant not in by_variant or variant not in base:
        return math.nan
    return _percent(base[variant]).mean - _percent(by_variant[variant]).mean


def _tails(groups: Groups) -> list[str]:
    return [
        name
        for name, by_variant in groups.items()
        if (first := next(iter(by_variant.values()))[0])["ratio"] > 1
        and first["base"] in groups
    ]


def _tail_rows(groups: Groups) -> list[list[str]]:
    """Show what a long tail costs each line."""
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
                    spread_cell(_percent(groups[runs[0]["base"]][variant])),
                    spread_cell(_percent(runs)),
                    f"{lost:+.1f}",
                    number_cell(share, ".2f"),
                    number_cell(mean_spread(known).mean) if known else NONE,
                ]
            )
    return rows


def _goal_rows(groups: Groups) -> list[tuple[str, str, bool]]:
    rows = []
    for name, by_variant in groups.items():
        whole = by_variant.get(ALL_LEVELS, ())
        if not whole or whole[0]["encoder"] != "lite":
            continue
        own = _percent(whole)
        if whole[0]["ratio"] == 1:
            for key, aim in _AIMS.items():
                if name.startswith(key):
                    what = f"{name}: ACC of `{ALL_LEVELS}` at least {aim}"
                    rows.append((what, spread_cell(own), own.mean >= aim))
            rival = _best_rival(by_variant)
            found = paired_difference(whole, by_variant[rival]) if rival else None
            if found is not None:
                what = f"{name}: `{ALL_LEVELS}` not below `{rival}`, or within noise"
                points, p_value = _difference_cells(whole, by_variant[rival or ""])
                fine = found.spread.mean >= 0 or not _is_shown(found)
                rows.append((what, f"{points}, p = {p_value}", fine))
        elif whole[0]["ratio"] == _TAIL_RATIO:
            lost, usual = (_loss(groups, name, v) for v in (ALL_LEVELS, "kmeans"))
            if not math.isnan(lost + usual):
                what = f"{name}: the tail costs at most half of what it costs k-means"
                told = f"{lost:+.1f} points against {usual:+.1f}"
                rows.append((what, told, lost <= max(_TAIL_SHARE * usual, 0.0)))
    return rows


def _ece_cell(runs: Sequence[Run]) -> str:
    """Calibration error of the confidences, where a line has any."""
    found = [100 * run["ece"] for run in runs if run["ece"] is not None]
    return number_cell(mean_spread(found).mean) if found else NONE


def _score_rows(by_variant: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    """Scores of one set."""
    rows = []
    for variant, runs in by_variant.items():
        kind = runs[0]["kind"]
        against = (NONE, NONE)
        # A line that uses labels is no rival: it is where a rival could end.
        if variant != ALL_LEVELS and kind != "reference":
            against = _difference_cells(runs, by_variant.get(ALL_LEVELS, ()))
        epochs = mean_spread(run["epochs"] for run in runs).mean
        seconds = mean_spread(sum(run["seconds"].values()) for run in runs).mean
        rows.append(
            [
                f"*{variant}*" if kind == "reference" else variant,
                ", ".join(str(run["seed"]) for run in runs),
                *(spread_cell(_percent(runs, score)) for score in _SCORES),
                _ece_cell(runs),
                *against,
                number_cell(epochs) if epochs else NONE,
                number_cell(seconds),
                number_cell(max(run["peak_gib"] for run in runs), ".2f"),
            ]
        )
    return rows


def _whole_sets(groups: Groups) -> dict[str, dict[str, float]]:
    """Mean accuracy in percent of each line on each set that is no long tail."""
    return {
        name: {line: _percent(runs).mean for line, runs in by_variant.items()}
        for name, by_variant in groups.items()
        if next(iter(by_variant.values()))[0]["ratio"] == 1
    }


def _overview_rows(groups: Groups) -> list[list[str]]:
    """A line a row and a set a column, with the mean over the sets."""
    sets = _whole_sets(groups)
    rows = []
    for line in ORDER:
        found = [scores.get(line, math.nan) for scores in sets.values()]
        if len(sets) > 1 and not all(map(math.isnan, found)):
            rows.append([line, *map(number_cell, [*found, float(np.mean(found))])])
    return [["", *sets, "mean"], *rows] if rows else []


def _left_out_rows(groups: Groups) -> list[list[str]]:
    """For each set the variant that the other sets would have chosen, scored on it.

    The candidates are the variants that all sets have. With fewer than three sets there
    is nothing to choose by.
    """
    sets = _whole_sets(groups)
    candidates = [name for name in VARIANTS if all(name in s for s in sets.values())]
    if len(sets) < 3 or len(candidates) < 2:
        return []
    rows, scores = [], []
    for left_out, own in sets.items():
        others = [found for name, found in sets.items() if name != left_out]
        chosen = max(candidates, key=lambda line: sum(each[line] for each in others))
        best = max(candidates, key=lambda line: own[line])
        scores.append(own[chosen])
        cells = (own[chosen], own.get(ALL_LEVELS, math.nan), own[best])
        chosen_cell, default_cell, best_cell = map(number_cell, cells)
        rows.append(
            [left_out, chosen, chosen_cell, default_cell, f"{best}: {best_cell}"]
        )
    default = float(np.mean([own.get(ALL_LEVELS, math.nan) for own in sets.values()]))
    means = number_cell(float(np.mean(scores))), number_cell(default)
    return [*rows, ["**mean**", "", *means, ""]]


def _correlation_rows(groups: Groups) -> list[list[str]]:
    """Show which label-free score orders runs as accuracy does."""
    return [
        [
            name,
            score,
            number_cell(found.overall, "+.2f"),
            number_cell(found.within, "+.2f"),
            str(found.count),
        ]
        for name, by_variant in groups.items()
        for score, found in correlate(by_variant).items()
        # What never changes over these runs orders nothing.
        if not math.isnan(found.overall)
    ]


def _choices(name: str, what: str, runs: Sequence[Run]) -> list[list[str]]:
    rows = []
    for rule, sign in _RULES.items():
        # Losses of other weights can't be compared.
        if what != ALL_LEVELS and rule == "loss":
            continue
        choice = choose_run(runs, rule)
        if choice is None:
            continue
        told = []
        for run in (choice.chosen, choice.oracle):
            who = "" if what == ALL_LEVELS else f"`{run['variant']}` "
            accuracy = 100 * run["scores"]["acc"]
            told.append(f"{who}seed {run['seed']}: {accuracy:.1f}")
        cost = choice.oracle["scores"]["acc"] - choice.chosen["scores"]["acc"]
        sense = "largest" if sign > 0 else "smallest"
        shown = [
            f"{sense} {rule}",
            *told,
            f"{100 * cost:.1f}",
            f"{100 * choice.mean:.1f}",
        ]
        rows.append([name, what, *shown])
    return rows


def _choice_rows(groups: Groups) -> list[list[str]]:
    """Show the label-free choice beside that of labels."""
    rows = []
    for name, by_variant in groups.items():
        rows += _choices(name, ALL_LEVELS, by_variant.get(ALL_LEVELS, ()))
        every = [run for each in by_variant.values() for run in each]
        variants = [run for run in every if run["kind"] == "variant"]
        if len({run["variant"] for run in variants}) > 1:
            rows += _choices(name, "every variant", variants)
    return rows


def _own_rows(groups: Groups, titles: Mapping[str, str]) -> list[list[str]]:
    """Our numbers beside the published ones of the same set."""
    rows = []
    for name, by_variant in groups.items():
        runs = by_variant.get(ALL_LEVELS, ())
        found = [title for key, title in titles.items() if name.startswith(key)]
        if found and runs and runs[0]["ratio"] == 1:
            scores = (spread_cell(_percent(runs, score)) for score in _SCORES)
            ours = [found[0], f"**this project, `{ALL_LEVELS}`**", runs[0]["encoder"]]
            rows.append([*ours, *scores, f"measured, {name}"])
    return rows


def render_page(runs: Sequence[Run], *, picture: str) -> str:
    """Write the page in Markdown; ``picture`` is the one beside it.

    Raises:
      InputError: There is no run to show, or runs of one line were made with
        different settings.
    """
    groups = group_runs(runs)
    about = {name: variant.about for name, variant in VARIANTS.items()} | BASELINES
    about |= {name: what for name, (_, what) in PEERS.items()}
    about["zero-shot"] = "**uses the class names**: nearest true name"
    about["linear-probe"] = "**uses labels**: half of them fitted, the rest scored"
    used = {name for by in groups.values() for name in by}
    published = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    quoted = [
        [row["set"], row["method"], row["backbone"]]
        + [*(number_cell(row[score]) for score in _SCORES), row["source"]]
        for row in published["rows"]
    ]
    negative, compared = _negative_rows(groups)
    return render_template(
        "results.md.j2",
        groups,
        picture=picture,
        whole=ALL_LEVELS,
        level=_LEVEL,
        sets=[
            (name, next(iter(by.values()))[0], _score_rows(by))
            for name, by in groups.items()
        ],
        overview=_overview_rows(groups),
        left_out=_left_out_rows(groups),
        lines=[(name, about[name]) for name in ORDER if name in used],
        goals=[
            [what, told, "reached" if fine else "**not reached**"]
            for what, told, fine in _goal_rows(groups)
        ],
        rivals=_rival_rows(groups),
        named_rivals=", ".join(f"`{name}`" for name in _RIVALS),
        negative=negative,
        compared=compared,
        tails=_tail_rows(groups),
        correlations=_correlation_rows(groups),
        choices=_choice_rows(groups),
        published_about=published["about"],
        published=sorted(
            [*_own_rows(groups, published["sets"]), *quoted], key=lambda row: row[0]
        ),
    )


def draw_accuracy(groups: Groups) -> Figure:
    """Draw accuracy by variant as bars, a panel for each set."""
    heights = [len(by_variant) for by_variant in groups.values()]
    figure = Figure((7, 0.25 * sum(heights) + 0.9 * len(heights)), layout="constrained")
    panels = figure.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
    for panel, (name, by_variant) in zip(panels, groups.items(), strict=True):
        for row, runs in enumerate(by_variant.values()):
            color, meaning = _COLORS[runs[0]["kind"]]
            found = _percent(runs)
            spread = 0.0 if math.isnan(found.deviation) else found.deviation
            error = spread or None
            panel.barh(row, found.mean, xerr=error, color=color, label=meaning)
            panel.text(found.mean + spread + 1, row, spread_cell(found), va="center")
        panel.set(title=name, xlim=(0, 125), xticks=range(0, 101, 20))
        panel.set_yticks(range(len(by_variant)), list(by_variant))
        panel.invert_yaxis()
    return add_legend(figure)


def _render(runs: Sequence[Run], out: Path) -> dict[Path, str]:
    picture = out.with_suffix(".svg")
    about = "Mean accuracy in percent by variant and set, with the standard deviation"
    page = render_page(runs, picture=picture.name)
    return {picture: figure_svg(draw_accuracy(group_runs(runs)), about), out: page}


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, write page and picture; return the exit status."""
    return make_page(__doc__, argv, _render)


if __name__ == "__main__":
    sys.exit(main())
