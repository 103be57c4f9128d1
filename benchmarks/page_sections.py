"""Sections of the page of results, each from runs by set and variant."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.runs import Run
from benchmarks.summaries import (
    RULES,
    Spread,
    choose_run,
    correlate,
    mean_spread,
    paired_difference,
)
from benchmarks.variants import ALL_LEVELS

__all__ = [
    "Groups",
    "choice_section",
    "correlation_section",
    "long_tail_section",
    "published_section",
    "setbacks_section",
    "table_of_set",
]

Groups = Mapping[str, Mapping[str, Sequence[Run]]]
"""Runs by the name of the set and that of the variant."""

_PUBLISHED = Path(__file__).with_name("published.json")
_NONE = "–"
_SCORES = ("acc", "nmi", "ari")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table with an empty line after it."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, f"|{'---|' * len(header)}")
    return [*lines, ""]


def _number(value: float | None, form: str = ".1f") -> str:
    return _NONE if value is None or math.isnan(value) else format(value, form)


def _spread(spread: Spread, form: str = ".1f") -> str:
    mean = format(spread.mean, form)
    if math.isnan(spread.deviation):
        return mean
    return f"{mean} ({spread.deviation:.1f})"


def _percent(runs: Sequence[Run], score: str) -> Spread:
    return mean_spread(100 * run["scores"][score] for run in runs)


def _seconds(run: Run) -> float:
    return sum(run["seconds"].values())


def _difference(runs: Sequence[Run], others: Sequence[Run]) -> tuple[str, str]:
    """Cells of the paired difference in points, and of its p-value."""
    found = paired_difference(runs, others)
    if found is None:
        return _NONE, _NONE
    points = Spread(100 * found.spread.mean, 100 * found.spread.deviation, 0)
    return _spread(points, "+.1f"), _number(found.p_value, ".3f")


def table_of_set(name: str, by_variant: Mapping[str, Sequence[Run]]) -> list[str]:
    """Write the scores of one set.

    Args:
      name: Name of the set.
      by_variant: Its runs.

    Returns:
      Lines of Markdown.
    """
    first = next(iter(by_variant.values()))[0]
    rows = []
    for variant, runs in by_variant.items():
        kind = runs[0]["kind"]
        against = (_NONE, _NONE)
        # A line that uses labels is no rival: it is where a rival could end.
        if variant != ALL_LEVELS and kind != "reference":
            against = _difference(runs, by_variant.get(ALL_LEVELS, ()))
        epochs = mean_spread(run["epochs"] for run in runs)
        rows.append(
            [
                f"*{variant}*" if kind == "reference" else variant,
                ", ".join(str(run["seed"]) for run in runs),
                *(_spread(_percent(runs, score)) for score in _SCORES),
                *against,
                _number(epochs.mean) if epochs.mean else _NONE,
                _number(mean_spread(_seconds(run) for run in runs).mean),
                _number(max(run["peak_gib"] for run in runs), ".2f"),
            ]
        )
    header = ["line", "seeds", "ACC", "NMI", "ARI", f"ACC less `{ALL_LEVELS}`, paired"]
    header += ["p", "epochs", "seconds", "peak GiB"]
    tail = f", long tail of ratio {first['ratio']}" if first["ratio"] > 1 else ""
    return [
        f"## {name}: {first['num_images']:,} images, k = {first['num_clusters']}{tail}",
        "",
        *_table(header, rows),
    ]


def setbacks_section(groups: Groups) -> list[str]:
    """Name each simpler line that beats the whole method.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown.
    """
    found = []
    for name, by_variant in groups.items():
        whole = by_variant.get(ALL_LEVELS, ())
        for variant, runs in by_variant.items():
            if variant == ALL_LEVELS or runs[0]["kind"] == "reference":
                continue
            difference = paired_difference(runs, whole)
            if difference is not None and difference.spread.mean > 0:
                points, p_value = _difference(runs, whole)
                found.append(f"- {name}: `{variant}` {points} points, p = {p_value}.")
    told = found or ["None: no variant or baseline has a larger mean accuracy."]
    return [
        f"## Where `{ALL_LEVELS}` is not the best",
        "",
        f"Lines whose mean ACC is above that of `{ALL_LEVELS}`, paired by seed:",
        "",
        *told,
        "",
    ]


def long_tail_section(groups: Groups) -> list[str]:
    """Show what a long tail costs each line.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown; none without a long-tailed set.
    """
    rows = []
    for name, by_variant in groups.items():
        first = next(iter(by_variant.values()))[0]
        whole = groups.get(first["base"])
        if first["ratio"] == 1 or whole is None:
            continue
        for variant, runs in by_variant.items():
            if variant in whole and runs[0]["kind"] != "reference":
                cost = _percent(whole[variant], "acc").mean - _percent(runs, "acc").mean
                empty = [run["label_free"].get("empty_clusters") for run in runs]
                known = [value for value in empty if value is not None]
                dead = _number(mean_spread(known).mean) if known else _NONE
                rows.append([name, variant, f"{cost:+.1f}", dead])
    if not rows:
        return []
    header = ["set", "line", "points of ACC lost to the long tail", "empty clusters"]
    return ["## What a long tail costs", "", *_table(header, rows)]


def correlation_section(groups: Groups) -> list[str]:
    """Show which label-free score orders runs as accuracy does.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown; none where no score differs between runs.
    """
    rows = []
    for name, by_variant in groups.items():
        runs = [run for each in by_variant.values() for run in each]
        for score, found in correlate(runs).items():
            # What never changes over these runs orders nothing.
            if math.isnan(found.overall):
                continue
            overall = _number(found.overall, "+.2f")
            within = _number(found.within, "+.2f")
            rows.append([name, score, overall, within, str(found.count)])
    if not rows:
        return []
    header = ["set", "score", "rho over all runs", "mean rho over seeds", "runs"]
    return [
        "## Which label-free score to believe",
        "",
        "Spearman's rank correlation with ACC: over all runs of the method's variants, "
        "and over the seeds of one variant, averaged over variants. The loss of "
        "variants with other weights is another quantity, so of it the second column "
        "says more.",
        "",
        *_table(header, rows),
    ]


def _choices(name: str, what: str, runs: Sequence[Run]) -> list[list[str]]:
    rows = []
    for rule, sign in RULES.items():
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


def choice_section(groups: Groups) -> list[str]:
    """Show the label-free choice beside that of labels.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown; none where there is nothing to choose.
    """
    rows = []
    for name, by_variant in groups.items():
        rows += _choices(name, ALL_LEVELS, by_variant.get(ALL_LEVELS, ()))
        every = [run for each in by_variant.values() for run in each]
        variants = [run for run in every if run["kind"] == "variant"]
        if len({run["variant"] for run in variants}) > 1:
            rows += _choices(name, "every variant", variants)
    if not rows:
        return []
    header = ["set", "among seeds of", "rule", "chosen", "the oracle's", "cost"]
    return [
        "## What choosing without labels costs",
        "",
        "The rules were fixed beforehand. The oracle looks at the labels; its number "
        "can't be had on unlabelled images. `mean` is what a blind choice gives.",
        "",
        *_table([*header, "mean"], rows),
    ]


def _quoted_row(row: Mapping[str, Any]) -> list[str]:
    scores = (_number(row[score]) for score in _SCORES)
    return [row["set"], row["method"], row["backbone"], *scores, row["source"]]


def published_section(groups: Groups) -> list[str]:
    """Put published numbers of others beside ours.

    Args:
      groups: All runs.

    Returns:
      Lines of Markdown.
    """
    published = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    rows = []
    for name, by_variant in groups.items():
        runs = by_variant.get(ALL_LEVELS, ())
        titles = [t for key, t in published["sets"].items() if name.startswith(key)]
        if titles and runs and runs[0]["ratio"] == 1:
            scores = (_spread(_percent(runs, score)) for score in _SCORES)
            ours = [titles[0], f"**this project, `{ALL_LEVELS}`**", runs[0]["encoder"]]
            rows.append([*ours, *scores, f"measured, {name}"])
    rows += [_quoted_row(row) for row in published["rows"]]
    header = ["set", "method", "backbone", "ACC", "NMI", "ARI", "source"]
    return [
        "## Published numbers of others",
        "",
        published["about"],
        "",
        *_table(header, sorted(rows, key=lambda row: row[0])),
    ]
