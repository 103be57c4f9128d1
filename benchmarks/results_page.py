"""The page of results, from the run files of the sweep.

python -m benchmarks.results_page --runs=DIR --out=docs/results.md

A picture of the same name that ends in .svg is written beside the page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bars import Bar, draw_bars
from benchmarks.groups import ORDER, group_runs, origin_lines
from benchmarks.methods import BASELINES
from benchmarks.page_command import make_page
from benchmarks.page_sections import (
    choice_section,
    correlation_section,
    published_section,
    table_of_set,
)
from benchmarks.runs import Run
from benchmarks.summaries import mean_spread
from benchmarks.variants import VARIANTS
from benchmarks.verdicts import (
    goals_section,
    long_tail_section,
    negative_section,
    rivals_section,
)

__all__ = ["main", "render_page", "render_picture"]


def _read_so() -> list[str]:
    """How the numbers are to be read."""
    return [
        "Scores are in percent, mean over seeds with the standard deviation in "
        "brackets. The number of clusters is that of the classes. Labels are read "
        "only to score a finished run: no epoch, seed or setting of a table is chosen "
        "by them, and reference lines, which use class names or labels, say so. "
        "Seconds are those of the stages from embeddings to clusters; stages that "
        "runs share count for each of them, and the first of those that share "
        "compiled steps pays for compiling. Memory is the peak of the whole process "
        "during a run. The sections after the tables are worked out from the same "
        "runs; [convergence.md](convergence.md) has their gradients and risk "
        "quantities.",
        "",
    ]


def render_page(runs: Sequence[Run], *, picture: str) -> str:
    """Write the page.

    Args:
      runs: From ``load_runs``.
      picture: Name of the picture beside the page.

    Returns:
      Markdown.

    Raises:
      InputError: There is no run to show, or runs of one line were made with
        different settings.
    """
    groups = group_runs(runs)
    about = {name: variant.about for name, variant in VARIANTS.items()} | BASELINES
    about["zero-shot"] = "**uses the class names**: nearest true name"
    about["linear-probe"] = "**uses labels**: half of them fitted, the rest scored"
    used = {name for by in groups.values() for name in by}
    lines = ["# Results", "", *origin_lines(groups, "benchmarks.results_page")]
    lines += [*_read_so(), f"![Accuracy by variant and set]({picture})", ""]
    for name, by_variant in groups.items():
        lines += table_of_set(name, by_variant)
    lines += ["## What the lines are", ""]
    lines += [f"- `{name}`: {about[name]}." for name in ORDER if name in used]
    lines += ["", *goals_section(groups), *rivals_section(groups)]
    lines += [*negative_section(groups), *long_tail_section(groups)]
    lines += [*correlation_section(groups), *choice_section(groups)]
    lines += published_section(groups)
    return "\n".join(lines).rstrip() + "\n"


def _bars(by_variant: Mapping[str, Sequence[Run]]) -> list[Bar]:
    bars = []
    for name, runs in by_variant.items():
        spread = mean_spread(100 * run["scores"]["acc"] for run in runs)
        bars.append(Bar(name, runs[0]["kind"], spread.mean, spread.deviation))
    return bars


def render_picture(runs: Sequence[Run]) -> str:
    """Draw accuracy by variant, a panel for each set.

    Args:
      runs: From ``load_runs``.

    Returns:
      An SVG document.

    Raises:
      InputError: Runs of one line were made with different settings.
    """
    panels = {name: _bars(by_variant) for name, by_variant in group_runs(runs).items()}
    about = "Mean accuracy in percent by variant and set, with the standard deviation"
    return draw_bars(panels, about=about)


def _render(runs: Sequence[Run], out: Path) -> dict[Path, str]:
    picture = out.with_suffix(".svg")
    page = render_page(runs, picture=picture.name)
    return {picture: render_picture(runs), out: page}


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and write page and picture.

    Args:
      argv: Arguments; None takes those of the command line.

    Returns:
      Exit status: 0, or 2 after bad input.
    """
    return make_page(__doc__, argv, _render)


if __name__ == "__main__":
    sys.exit(main())
