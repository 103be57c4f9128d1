"""What the pages made from run files share: groups, statistics, cells, the command."""

from __future__ import annotations

import argparse
import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.methods import BASELINES
from benchmarks.peers import PEERS
from benchmarks.runs import Run, load_runs
from benchmarks.sweep import REFERENCES
from benchmarks.variants import VARIANTS
from mca_jax.core.atomic_files import write_file
from mca_jax.core.errors import InputError

__all__ = [
    "NONE",
    "ORDER",
    "Difference",
    "Groups",
    "Relation",
    "Spread",
    "add_legend",
    "figure_svg",
    "group_runs",
    "make_page",
    "mean_spread",
    "number_cell",
    "paired_difference",
    "relate",
    "render_template",
    "spearman",
    "spread_cell",
]

Groups = Mapping[str, Mapping[str, Sequence[Run]]]
"""Runs by the name of the set and that of the variant."""

ORDER = [*VARIANTS, *BASELINES, *PEERS, *REFERENCES]
"""Lines of a page, as they follow each other."""

NONE = "–"
"""A cell that can't be filled."""


class Spread(NamedTuple):
    """Mean over seeds, sample standard deviation (NaN for a single one), and count."""

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


def mean_spread(values: Iterable[float]) -> Spread:
    """Summarise values over seeds; there has to be one."""
    array = np.asarray(list(values), float)
    deviation = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return Spread(float(array.mean()), deviation, len(array))


def paired_difference(
    runs: Sequence[Run], others: Sequence[Run], score: str = "acc"
) -> Difference | None:
    """Subtract ``others`` seed by seed; None where no seed is shared."""
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
    """Spearman's rho; NaN with fewer than three pairs or where one side is constant."""
    columns = np.asarray(pairs, float).reshape(-1, 2)
    if len(columns) < 3 or (np.ptp(columns, axis=0) == 0).any():
        return math.nan
    return float(stats.spearmanr(columns[:, 0], columns[:, 1]).statistic)  # pyright: ignore


class Relation(NamedTuple):
    """How a label-free score goes with accuracy over the variants of one set.

    Attributes:
      overall: Spearman's rho over all runs; NaN where it is not defined.
      between: The same over the means of the variants.
      within: Mean rho over the seeds of one variant; NaN where it is never
        defined. It says what the score is worth for the choice of a seed.
      rhos: Those of the variants where it is defined.
      count: Number of runs.
    """

    overall: float
    between: float
    within: float
    rhos: tuple[float, ...]
    count: int


def relate(by_variant: Mapping[str, Sequence[Run]], score: str) -> Relation | None:
    """Correlate a score with accuracy; None where no run of a variant has it.

    Baselines have no such scores, and reference lines use labels: neither counts.
    """
    groups = [
        [
            (float(run["label_free"][score]), float(run["scores"]["acc"]))
            for run in runs
            if run["label_free"].get(score) is not None
        ]
        for runs in by_variant.values()
        if runs[0]["kind"] == "variant"
    ]
    groups = [pairs for pairs in groups if pairs]
    if not groups:
        return None
    rhos = [rho for rho in map(spearman, groups) if not math.isnan(rho)]
    return Relation(
        overall=spearman([pair for pairs in groups for pair in pairs]),
        between=spearman([tuple(np.mean(pairs, axis=0)) for pairs in groups]),
        within=float(np.mean(rhos)) if rhos else math.nan,
        rhos=tuple(rhos),
        count=sum(map(len, groups)),
    )


def group_runs(runs: Iterable[Run]) -> dict[str, dict[str, list[Run]]]:
    """Group runs by set and variant.

    Returns:
      Sets by name, long-tailed draws after the set that they are of; variants in
      the order of the sweep; seeds rising.

    Raises:
      InputError: There is no run, or those of one line were made with different
        settings.
    """
    groups: dict[str, dict[str, list[Run]]] = {}
    rank = {name: number for number, name in enumerate(ORDER)}
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


def _origin(groups: Groups) -> dict[str, Any]:
    """By which commands, on which machine and with which versions runs were made."""
    runs = [run for by in groups.values() for line in by.values() for run in line]
    machines = (
        f"{run['hardware']['cpu']}, {run['hardware']['cores']} cores, "
        f"{run['hardware']['num_devices']} x {run['hardware']['device']}"
        for run in runs
    )
    versions = (
        ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        for run in runs
    )
    return {
        "commands": dict.fromkeys(run["command"] for run in runs),
        "machines": "; ".join(dict.fromkeys(machines)),
        "versions": "; ".join(dict.fromkeys(versions)),
    }


def render_template(name: str, groups: Groups, **values: Any) -> str:
    """Fill one of the templates beside this module, which say what pages say."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(name).render(origin=_origin(groups), **values)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def number_cell(value: float | None, form: str = ".1f") -> str:
    """Write a number; None and NaN are a dash."""
    return NONE if value is None or math.isnan(value) else format(value, form)


def spread_cell(spread: Spread, form: str = ".1f", *, scale: float = 1.0) -> str:
    """Write a mean, with its standard deviation in brackets if there is one."""
    mean = number_cell(scale * spread.mean, form)
    if math.isnan(spread.deviation):
        return mean
    return f"{mean} ({format(scale * spread.deviation, form.lstrip('+'))})"


def add_legend(figure: Figure) -> Figure:
    """Put the labels of all panels above a figure, each once."""
    marks = [axes.get_legend_handles_labels() for axes in figure.axes]
    legend = {label: mark for some in marks for mark, label in zip(*some, strict=True)}
    if legend:
        figure.legend(
            list(legend.values()), list(legend), loc="outside upper center", ncols=4
        )
    return figure


def figure_svg(figure: Figure, about: str) -> str:
    """Draw a figure as SVG with texts as texts, the same bytes each time.

    ``about`` is its title, for those who can't see the picture.
    """
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": about})
    return text.getvalue()


def make_page(
    about: str | None,
    argv: Sequence[str] | None,
    render: Callable[[list[Run], Path], dict[Path, str]],
) -> int:
    """Read the command line, then write a page and its pictures.

    ``render`` turns runs and the page's path into the text of each file, the page
    last. Returns the exit status: 0, or 2 after bad input.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of run files")
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    options = parser.parse_args(argv)
    try:
        runs = load_runs(options.runs)
        files = render(runs, options.out)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_file(path, text)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {', '.join(map(str, files))} from {len(runs)} runs")
    return 0
