"""Runs put in order for a page, and what its head and its tables are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.methods import BASELINES
from benchmarks.runs import Run
from benchmarks.summaries import Spread
from benchmarks.sweep import REFERENCES
from benchmarks.variants import VARIANTS
from mca_jax.core.errors import InputError

__all__ = [
    "NONE",
    "ORDER",
    "Groups",
    "group_runs",
    "number_cell",
    "origin_lines",
    "spread_cell",
    "table_lines",
]

Groups = Mapping[str, Mapping[str, Sequence[Run]]]
"""Runs by the name of the set and that of the variant."""

ORDER = [*VARIANTS, *BASELINES, *REFERENCES]
"""Lines of a page, as they follow each other."""

NONE = "–"
"""A cell that can't be filled."""


def group_runs(runs: Iterable[Run]) -> dict[str, dict[str, list[Run]]]:
    """Group runs by set and variant.

    Args:
      runs: From ``load_runs``.

    Returns:
      Sets by name, long-tailed draws after the set that they are of; variants in
      the order of the sweep; seeds rising.

    Raises:
      InputError: There is no run, or those of one line were made with different
        settings.
    """
    groups: dict[str, dict[str, list[Run]]] = {}
    rank = {name: place for place, name in enumerate(ORDER)}
    ordered = sorted(
        (run for run in runs if run["variant"] in rank),
        key=lambda r: (r["base"], r["ratio"], rank[r["variant"]], r["seed"]),
    )
    if not ordered:
        raise InputError("Expected run files of the sweep, found none; see --runs")
    for run in ordered:
        groups.setdefault(run["set"], {}).setdefault(run["variant"], []).append(run)
    for name, by_variant in groups.items():
        for variant, line in by_variant.items():
            if len({run["settings"] for run in line}) > 1:
                raise InputError(
                    f"Expected runs of {variant} on {name} with the same settings, "
                    "found several; run the sweep again with as many --seeds, or into "
                    "another --out"
                )
    return groups


def _different(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def origin_lines(groups: Groups, module: str) -> list[str]:
    """Say by which commands, on which machine and with which versions.

    Args:
      groups: All runs.
      module: What makes the page.

    Returns:
      Lines of Markdown.
    """
    runs = [run for by in groups.values() for line in by.values() for run in line]
    machines = _different(
        f"{run['hardware']['cpu']}, {run['hardware']['cores']} cores, "
        f"{run['hardware']['num_devices']} x {run['hardware']['device']}"
        for run in runs
    )
    versions = _different(
        ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        for run in runs
    )
    return [
        f"Made from run files by `python -m {module}`; not edited by hand. The runs "
        "come from",
        "",
        "```",
        *dict.fromkeys(run["command"] for run in runs),
        "```",
        "",
        f"on {machines}; {versions}.",
        "",
    ]


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay a Markdown table out.

    Args:
      header: Titles of the columns.
      rows: Cells.

    Returns:
      Lines, an empty one at the end.
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, f"|{'---|' * len(header)}")
    return [*lines, ""]


def number_cell(value: float | None, form: str = ".1f") -> str:
    """Write a number.

    Args:
      value: The number; None and NaN are a dash.
      form: How to write it.

    Returns:
      The cell.
    """
    return NONE if value is None or math.isnan(value) else format(value, form)


def spread_cell(spread: Spread, form: str = ".1f") -> str:
    """Write a mean with its standard deviation in brackets.

    Args:
      spread: Both; a deviation of NaN is left out.
      form: How to write the mean; the deviation has as many digits, without sign.

    Returns:
      The cell.
    """
    mean = number_cell(spread.mean, form)
    if math.isnan(spread.deviation):
        return mean
    return f"{mean} ({format(spread.deviation, form.lstrip('+'))})"
