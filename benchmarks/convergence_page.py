"""The page on convergence and risk, from the run files of the sweep.

python -m benchmarks.convergence_page --runs=DIR --out=docs/convergence.md

Three pictures are written beside the page: its name, then -gradients.svg, -along.svg
and -risk.svg.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence import EXPECTED, gradient_curve, mean_curve
from benchmarks.evidence_sections import convergence_lines, risk_lines
from benchmarks.groups import Groups, group_runs, origin_lines
from benchmarks.page_command import make_page
from benchmarks.plots import COLORS, Panel, Series, draw_panels
from benchmarks.runs import Run
from benchmarks.variants import ALL_LEVELS, LEVELS

__all__ = ["draw_along", "draw_gradients", "draw_risk", "main", "render_page"]

_GUIDE = "slope -1/2"
_OTHERS = "other variants"
_FOLLOWED = ("none", *LEVELS, ALL_LEVELS)
_LINE_COLORS = {
    **dict(zip(("none", *LEVELS), COLORS[1:], strict=False)),
    ALL_LEVELS: COLORS[0],
    _OTHERS: "#9a9a9a",
    _GUIDE: "#000000",
}


def _variants(by_variant: dict[str, list[Run]]) -> dict[str, list[Run]]:
    return {
        name: runs for name, runs in by_variant.items() if runs[0]["kind"] == "variant"
    }


def _used(panels: Sequence[Panel], colors: dict[str, str]) -> dict[str, str]:
    names = {series.name for panel in panels for series in panel.series}
    return {name: color for name, color in colors.items() if name in names}


def draw_gradients(groups: dict[str, dict[str, list[Run]]]) -> str:
    """Draw the mean squared gradient norm against steps, both logarithmic.

    Args:
      groups: All runs.

    Returns:
      An SVG document, a panel for each set.
    """
    panels = []
    for name, by_variant in groups.items():
        faint, strong = [], []
        for variant, runs in _variants(by_variant).items():
            curve = mean_curve([c for c in map(gradient_curve, runs) if c])
            if variant in _FOLLOWED:
                strong.append(Series(variant, curve))
            else:
                faint.append(Series(_OTHERS, curve, faint=True))
        ends = [x for series in (*faint, *strong) for x, _ in series.points]
        guide = []
        if ends:
            low, high = min(ends), max(ends)
            guide = [(low, 1.0), (high, (high / low) ** -0.5)]
        series = [*faint, *strong, Series(_GUIDE, guide, dashed=True)]
        panels.append(Panel(name, "steps", "mean squared gradient", series, log=True))
    about = "Mean squared gradient norm over the first T steps against T, log-log"
    return draw_panels(panels, about=about, colors=_used(panels, _LINE_COLORS))


def draw_along(groups: dict[str, dict[str, list[Run]]]) -> str:
    """Draw consistency and confidence after each pass.

    Args:
      groups: All runs.

    Returns:
      An SVG document, two panels for each set.
    """
    panels = []
    for name, by_variant in groups.items():
        for quantity in ("consistency", "confidence"):
            series = [
                Series(
                    variant,
                    mean_curve(
                        [
                            [(row["epoch"], row[quantity]) for row in run["risk"]]
                            for run in by_variant[variant]
                            if run["risk"]
                        ]
                    ),
                )
                for variant in _FOLLOWED
                if variant in by_variant
            ]
            panels.append(Panel(f"{name}: {quantity}", "passes", quantity, series))
    about = "Neighbourhood consistency and prediction confidence after each pass"
    return draw_panels(panels, about=about, colors=_used(panels, _LINE_COLORS))


def draw_risk(groups: dict[str, dict[str, list[Run]]]) -> str:
    """Draw accuracy against each risk quantity, a dot a run.

    Args:
      groups: All runs.

    Returns:
      An SVG document, a row of panels for each set.
    """
    panels = []
    for name, by_variant in groups.items():
        for quantity in EXPECTED:
            series = [
                Series(
                    variant if variant in _FOLLOWED else _OTHERS,
                    [
                        (run["label_free"][quantity], 100 * run["scores"]["acc"])
                        for run in runs
                        if run["label_free"].get(quantity) is not None
                    ],
                    line=False,
                    faint=variant not in _FOLLOWED,
                )
                # The many pale ones first, below the others.
                for variant, runs in sorted(
                    _variants(by_variant).items(), key=lambda item: item[0] in _FOLLOWED
                )
            ]
            panels.append(Panel(name, quantity, "ACC in %", series))
    about = "Accuracy against consistency, confidence and imbalance, a dot for each run"
    colors = _used(panels, _LINE_COLORS)
    return draw_panels(panels, about=about, colors=colors, columns=len(EXPECTED))


def render_page(groups: Groups, *, stem: str) -> str:
    """Write the page.

    Args:
      groups: All runs.
      stem: What the names of the pictures beside it begin with.

    Returns:
      Markdown.
    """
    lines = [
        "# Convergence and risk in evidence",
        "",
        "The theory behind the method makes two statements: training converges at a "
        "sublinear rate, and the expected clustering risk depends on three "
        "quantities that need no labels. This page holds both against runs. Each "
        "part says what the theory states, how we read it, what was measured and "
        "what doesn't fit, so that you can disagree with any of the four. "
        "[risk.md](risk.md) has the formulas.",
        "",
        *origin_lines(groups, "benchmarks.convergence_page"),
        "The lines are those of [results.md](results.md), which has their scores, "
        "seeds, times and memory. Labels are read for accuracy alone.",
        "",
        *convergence_lines(groups, f"{stem}-gradients.svg"),
        *risk_lines(groups, f"{stem}-along.svg", f"{stem}-risk.svg"),
        "## How to disagree",
        "",
        "Each run file has the loss and its parts, the gradient norm and the share of "
        "moved images of every pass under `history`, and the risk quantities after "
        "every pass under `risk`; `benchmarks/evidence.py` is all that was computed "
        "from them. Run the commands above with other `--seeds`, sets or `--set=` and "
        "make the page again: its sentences on what fits and what doesn't follow the "
        "numbers.",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _render(runs: Sequence[Run], out: Path) -> dict[Path, str]:
    groups = group_runs(runs)
    page = render_page(groups, stem=out.stem)
    drawn = {"gradients": draw_gradients, "along": draw_along, "risk": draw_risk}
    pictures = {
        out.with_name(f"{out.stem}-{name}.svg"): draw(groups)
        for name, draw in drawn.items()
    }
    return {**pictures, out: page}


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and write page and pictures.

    Args:
      argv: Arguments; None takes those of the command line.

    Returns:
      Exit status: 0, or 2 after bad input.
    """
    return make_page(__doc__, argv, _render)


if __name__ == "__main__":
    sys.exit(main())
