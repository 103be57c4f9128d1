"""The page of results, from the run files of the sweep.

python -m benchmarks.results_page --runs=DIR --out=docs/results.md

A picture of the same name that ends in .svg is written beside the page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.bars import Bar, draw_bars
from benchmarks.methods import BASELINES
from benchmarks.page_sections import (
    choice_section,
    correlation_section,
    long_tail_section,
    published_section,
    setbacks_section,
    table_of_set,
)
from benchmarks.runs import Run, load_runs
from benchmarks.summaries import mean_spread
from benchmarks.sweep import REFERENCES
from benchmarks.variants import VARIANTS
from mca_jax.checks import InputError
from mca_jax.workdir import write_file

__all__ = ["main", "render_page", "render_picture"]

_ORDER = [*VARIANTS, *BASELINES, *REFERENCES]


def _group(runs: Iterable[Run]) -> dict[str, dict[str, list[Run]]]:
    """Runs by set and variant; sets by name, variants in the order of the sweep."""
    groups: dict[str, dict[str, list[Run]]] = {}
    rank = {name: place for place, name in enumerate(_ORDER)}
    # Long-tailed draws after the set that they are of, by rising ratio.
    ordered = sorted(
        (run for run in runs if run["variant"] in rank),
        key=lambda r: (r["base"], r["ratio"], rank[r["variant"]], r["seed"]),
    )
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


def _head(runs: Sequence[Run], picture: str) -> list[str]:
    """How the numbers came about."""

    def different(values: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    machines = different(
        f"{run['hardware']['cpu']}, {run['hardware']['cores']} cores, "
        f"{run['hardware']['num_devices']} x {run['hardware']['device']}"
        for run in runs
    )
    versions = different(
        ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        for run in runs
    )
    commands = dict.fromkeys(run["command"] for run in runs)
    return [
        "# Results",
        "",
        "Made from run files by `python -m benchmarks.results_page`; not edited by "
        "hand. The runs come from",
        "",
        "```",
        *commands,
        "```",
        "",
        f"on {machines}; {versions}.",
        "",
        "Scores are in percent, mean over seeds with the standard deviation in "
        "brackets. The number of clusters is that of the classes. Labels are read "
        "only to score a finished run: no epoch, seed or setting of a table is chosen "
        "by them, and reference lines, which use class names or labels, say so. "
        "Seconds are those of the stages from embeddings to clusters; stages that "
        "runs share count for each of them, and the first of those that share "
        "compiled steps pays for compiling. Memory is the peak of the whole process "
        "during a run.",
        "",
        f"![Accuracy by variant and set]({picture})",
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
    groups = _group(runs)
    if not groups:
        raise InputError("Expected run files of the sweep, found none; see --runs")
    shown = [run for by in groups.values() for each in by.values() for run in each]
    lines = _head(shown, picture)
    about = {name: variant.about for name, variant in VARIANTS.items()}
    about |= {name: what for name, (_, what) in BASELINES.items()}
    about["zero-shot"] = "**uses the class names**: nearest true name"
    about["linear-probe"] = "**uses labels**: half of them fitted, the rest scored"
    for name, by_variant in groups.items():
        lines += table_of_set(name, by_variant)
    used = {name for by in groups.values() for name in by}
    lines += ["## What the lines are", ""]
    lines += [f"- `{name}`: {about[name]}." for name in _ORDER if name in used]
    lines += ["", *setbacks_section(groups), *long_tail_section(groups)]
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
    panels = {name: _bars(by_variant) for name, by_variant in _group(runs).items()}
    about = "Mean accuracy in percent by variant and set, with the standard deviation"
    return draw_bars(panels, about=about)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and write page and picture.

    Args:
      argv: Arguments; None takes those of the command line.

    Returns:
      Exit status: 0, or 2 after bad input.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of run files")
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    options = parser.parse_args(argv)
    picture = options.out.with_suffix(".svg")
    try:
        runs = load_runs(options.runs)
        page = render_page(runs, picture=picture.name)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_file(picture, render_picture(runs))
        write_file(options.out, page)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {options.out} and {picture} from {len(runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
