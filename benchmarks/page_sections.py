"""Sections of the page of results, each from runs by set and variant."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.groups import (
    NONE,
    Groups,
    number_cell,
    spread_cell,
    table_lines,
)
from benchmarks.runs import Run
from benchmarks.summaries import (
    RULES,
    Spread,
    choose_run,
    correlate,
    mean_spread,
)
from benchmarks.variants import ALL_LEVELS
from benchmarks.verdicts import difference_cells

__all__ = [
    "choice_section",
    "correlation_section",
    "published_section",
    "table_of_set",
]

_PUBLISHED = Path(__file__).with_name("published.json")
_SCORES = ("acc", "nmi", "ari")


def _percent(runs: Sequence[Run], score: str) -> Spread:
    return mean_spread(100 * run["scores"][score] for run in runs)


def _seconds(run: Run) -> float:
    return sum(run["seconds"].values())


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
        against = (NONE, NONE)
        # A line that uses labels is no rival: it is where a rival could end.
        if variant != ALL_LEVELS and kind != "reference":
            against = difference_cells(runs, by_variant.get(ALL_LEVELS, ()))
        epochs = mean_spread(run["epochs"] for run in runs)
        rows.append(
            [
                f"*{variant}*" if kind == "reference" else variant,
                ", ".join(str(run["seed"]) for run in runs),
                *(spread_cell(_percent(runs, score)) for score in _SCORES),
                *against,
                number_cell(epochs.mean) if epochs.mean else NONE,
                number_cell(mean_spread(_seconds(run) for run in runs).mean),
                number_cell(max(run["peak_gib"] for run in runs), ".2f"),
            ]
        )
    header = ["line", "seeds", "ACC", "NMI", "ARI", f"ACC less `{ALL_LEVELS}`, paired"]
    header += ["p", "epochs", "seconds", "peak GiB"]
    tail = f", long tail of ratio {first['ratio']}" if first["ratio"] > 1 else ""
    return [
        f"## {name}: {first['num_images']:,} images, k = {first['num_clusters']}{tail}",
        "",
        *table_lines(header, rows),
    ]


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
            overall = number_cell(found.overall, "+.2f")
            within = number_cell(found.within, "+.2f")
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
        *table_lines(header, rows),
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
        *table_lines([*header, "mean"], rows),
    ]


def _quoted_row(row: Mapping[str, Any]) -> list[str]:
    scores = (number_cell(row[score]) for score in _SCORES)
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
            scores = (spread_cell(_percent(runs, score)) for score in _SCORES)
            ours = [titles[0], f"**this project, `{ALL_LEVELS}`**", runs[0]["encoder"]]
            rows.append([*ours, *scores, f"measured, {name}"])
    rows += [_quoted_row(row) for row in published["rows"]]
    header = ["set", "method", "backbone", "ACC", "NMI", "ARI", "source"]
    return [
        "## Published numbers of others",
        "",
        published["about"],
        "",
        *table_lines(header, sorted(rows, key=lambda row: row[0])),
    ]
