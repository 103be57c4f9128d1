"""The page on convergence and risk, from the run files of the sweep.

python -m benchmarks.convergence_page --runs=DIR --out=docs/convergence.md

Three pictures are written beside the page: its name, then -gradients.svg, -along.svg
and -risk.svg.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pages import (
    Groups,
    Relation,
    Spread,
    add_legend,
    figure_svg,
    group_runs,
    make_page,
    mean_spread,
    number_cell,
    relate,
    render_template,
    spread_cell,
)
from benchmarks.runs import Run
from benchmarks.variants import ALL_LEVELS, LEVELS

__all__ = [
    "Decay",
    "Movement",
    "decay_of",
    "draw_along",
    "draw_gradients",
    "draw_risk",
    "gradient_curve",
    "main",
    "mean_curve",
    "movement_of",
    "render_page",
    "verdict",
]

_RATE = -0.5  # Exponent that the statement on convergence allows at most.
_CLEAR = 0.3  # Size from which a rank correlation is called a relation here.
# Sign that the correlation of each risk quantity with accuracy should have.
_EXPECTED = {"consistency": 1, "confidence": 1, "imbalance": -1}
_FOLLOWED = ("none", *LEVELS, ALL_LEVELS)
_OTHERS = "other variants"
# Colours that differ for colour-blind eyes too (Okabe and Ito), and a grey.
_COLORS = {
    "none": "#d55e00",
    **dict(zip(LEVELS, ("#009e73", "#cc79a7", "#e69f00"), strict=True)),
    ALL_LEVELS: "#0072b2",
    _OTHERS: "#9a9a9a",
}

_Curve = Sequence[tuple[float, float]]


class Decay(NamedTuple):
    """How gradients fell over the runs of one line.

    Attributes:
      exponents: Fitted exponents of the mean squared gradient norm.
      fits: Runs whose exponent is at most ``_RATE``.
      rises: Runs whose exponent is above 0.
      kept: Squared gradient norm of the last epoch over that of the first, mean.
    """

    exponents: tuple[float, ...]
    fits: int
    rises: int
    kept: float


class Movement(NamedTuple):
    """What training moved, from before the first step to the end.

    In ``together`` of ``count`` runs the risk quantity and accuracy moved alike.
    """

    change: Spread
    accuracy: Spread
    together: int
    count: int


def gradient_curve(run: Run) -> list[tuple[float, float]]:
    """Steps so far, and the mean squared gradient over that of the first epoch."""
    rows = [row for row in run["history"] if row.get("mean_squared_grad")]
    if not rows:
        return []
    first, steps = rows[0]["mean_squared_grad"], run["steps_per_pass"]
    return [(row["epoch"] * steps, row["mean_squared_grad"] / first) for row in rows]


def mean_curve(curves: Sequence[_Curve]) -> list[tuple[float, float]]:
    """Average curves of the same steps over runs, as far as all of them go."""
    if not curves:
        return []
    length = min(map(len, curves))
    array = np.asarray([curve[:length] for curve in curves], float)
    return [(float(x), float(y)) for x, y in array.mean(axis=0)]


def decay_of(runs: Sequence[Run]) -> Decay | None:
    """Sum up how gradients fell over one line; None where no run has an exponent."""
    found = [run["label_free"].get("rate_exponent") for run in runs]
    values = [value for value in found if value is not None and not math.isnan(value)]
    if not values:
        return None
    kept = []
    for run in runs:
        norms = [row["grad_norm"] for row in run["history"] if row.get("grad_norm")]
        if norms:
            kept.append((norms[-1] / norms[0]) ** 2)
    return Decay(
        exponents=tuple(values),
        fits=sum(value <= _RATE for value in values),
        rises=sum(value > 0 for value in values),
        kept=float(np.mean(kept)) if kept else math.nan,
    )


def _pairs(runs: Sequence[Run], name: str) -> list[tuple[float, float]]:
    return [
        (run["label_free"][name], run["scores"]["acc"])
        for run in runs
        if run["label_free"].get(name) is not None
    ]


def movement_of(runs: Sequence[Run], name: str) -> Movement | None:
    """Compare what training did to a risk quantity and to accuracy.

    None where no run has both ends.
    """
    moves = [
        (
            run["risk"][-1][name] - run["risk"][0][name],
            run["scores"]["acc"] - run["start_acc"],
        )
        for run in runs
        if len(run["risk"]) > 1 and run["start_acc"] is not None
    ]
    if not moves:
        return None
    return Movement(
        change=mean_spread(change for change, _ in moves),
        accuracy=mean_spread(gain for _, gain in moves),
        together=sum(change * gain > 0 for change, gain in moves),
        count=len(moves),
    )


def verdict(rho: float, expected: int) -> str:
    """Say what a correlation means, by a limit that was fixed beforehand."""
    if math.isnan(rho):
        return "not defined"
    if abs(rho) < _CLEAR:
        return "no clear relation"
    return "as expected" if rho * expected > 0 else "**against expectation**"


def _variants(by_variant: Mapping[str, Sequence[Run]]) -> dict[str, Sequence[Run]]:
    """Runs of the variants, those that are not followed first: at the back."""
    found = {
        name: runs for name, runs in by_variant.items() if runs[0]["kind"] == "variant"
    }
    return dict(sorted(found.items(), key=lambda item: item[0] in _FOLLOWED))


def _style(variant: str) -> dict[str, Any]:
    followed = variant in _FOLLOWED
    name = variant if followed else _OTHERS
    alpha = 1.0 if followed else 0.45
    return {"color": _COLORS[name], "label": name, "alpha": alpha}


def _panels(names: Sequence[str], columns: int) -> tuple[Figure, list[Any]]:
    rows = max(1, -(-len(names) // columns))
    figure = Figure((3.4 * columns, 2.6 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in panels[len(names) :]:
        panel.remove()
    for panel, name in zip(panels, names, strict=False):
        panel.set_title(name)
        panel.grid(alpha=0.3)
    return figure, panels[: len(names)]


def draw_gradients(groups: Groups) -> Figure:
    """Draw the mean squared gradient norm against steps, both logarithmic."""
    figure, panels = _panels(list(groups), 2)
    for panel, by_variant in zip(panels, groups.values(), strict=True):
        ends: list[float] = []
        for variant, runs in _variants(by_variant).items():
            curve = mean_curve([c for c in map(gradient_curve, runs) if c])
            if curve:
                panel.plot(*zip(*curve, strict=True), **_style(variant))
                ends += [x for x, _ in curve]
        if ends:
            low, high = min(ends), max(ends)
            guide = [1.0, (high / low) ** _RATE]
            panel.plot([low, high], guide, "k--", label="slope -1/2")
        panel.set(
            xscale="log", yscale="log", xlabel="steps", ylabel="mean squared gradient"
        )
    return add_legend(figure)


def draw_along(groups: Groups) -> Figure:
    """Draw consistency and confidence after each epoch."""
    pairs = [(name, each) for name in groups for each in ("consistency", "confidence")]
    figure, panels = _panels([f"{name}: {each}" for name, each in pairs], 2)
    for panel, (name, quantity) in zip(panels, pairs, strict=True):
        for variant in _FOLLOWED:
            curves = [
                [(row["epoch"], row[quantity]) for row in run["risk"]]
                for run in groups[name].get(variant, ())
                if run["risk"]
            ]
            if curves:
                curve = mean_curve(curves)
                panel.plot(*zip(*curve, strict=True), **_style(variant))
        panel.set(xlabel="epochs", ylabel=quantity)
    return add_legend(figure)


def draw_risk(groups: Groups) -> Figure:
    """Draw accuracy against each risk quantity, a dot a run."""
    pairs = [(name, each) for name in groups for each in _EXPECTED]
    figure, panels = _panels([name for name, _ in pairs], len(_EXPECTED))
    for panel, (name, quantity) in zip(panels, pairs, strict=True):
        for variant, runs in _variants(groups[name]).items():
            points = _pairs(runs, quantity)
            if points:
                x, y = np.transpose(points)
                panel.scatter(x, 100 * y, s=12, **_style(variant))
        panel.set(xlabel=quantity, ylabel="ACC in %")
    return add_legend(figure)


def _rate_values(groups: Groups) -> dict[str, Any]:
    """What the part on convergence says."""
    found = [
        (name, variant, decay, Counter(run["status"] for run in runs))
        for name, by_variant in groups.items()
        for variant, runs in by_variant.items()
        if (decay := decay_of(runs)) is not None
    ]
    ends = sum((each for *_, each in found), Counter())
    fitted = sum(len(decay.exponents) for *_, decay, _ in found)
    rows = [
        [
            name,
            variant,
            len(decay.exponents),
            spread_cell(mean_spread(decay.exponents), "+.2f"),
            f"{min(decay.exponents):+.2f} to {max(decay.exponents):+.2f}",
            f"{decay.fits} of {len(decay.exponents)}",
            number_cell(decay.kept, ".2f"),
            ", ".join(f"{count} {end}" for end, count in sorted(own.items())),
        ]
        for name, variant, decay, own in found
    ]
    return {
        "decays": rows,
        "fitted": fitted,
        "slow": fitted - sum(decay.fits for *_, decay, _ in found),
        "rising": sum(decay.rises for *_, decay, _ in found),
        "grown": [f"`{v}` on {n}" for n, v, decay, _ in found if decay.kept > 1],
        "failed": ends["diverged"] + ends["non_finite"],
        "limited": ends["step_limit"],
        "ended": ends.total(),
    }


def _relation_row(name: str, quantity: str, found: Relation) -> list[Any]:
    sign = _EXPECTED[quantity]
    return [
        name,
        quantity,
        "+" if sign > 0 else "-",
        number_cell(found.overall, "+.2f"),
        number_cell(found.between, "+.2f"),
        number_cell(found.within, "+.2f"),
        f"{sum(rho * sign > 0 for rho in found.rhos)} of {len(found.rhos)}",
        found.count,
        verdict(found.overall, sign),
        verdict(found.within, sign),
    ]


def _movement_rows(groups: Groups) -> list[list[str]]:
    rows = []
    for name, by_variant in groups.items():
        for variant in ("none", ALL_LEVELS):
            for quantity in ("consistency", "confidence"):
                found = movement_of(by_variant.get(variant, ()), quantity)
                if found is not None:
                    change = spread_cell(found.change, "+.3f")
                    gain = spread_cell(found.accuracy, "+.1f", scale=100)
                    together = f"{found.together} of {found.count}"
                    rows.append([name, variant, quantity, change, gain, together])
    return rows


def _risk_misfits(table: dict[tuple[str, str], Relation]) -> list[tuple[Any, ...]]:
    """How many correlations of each kind are as expected, are defined, and are not."""
    found = []
    for what, field in (
        ("Over all runs of the set", "overall"),
        ("Between the means of the variants", "between"),
        ("Within a variant, over seeds", "within"),
    ):
        rhos = {key: getattr(relation, field) for key, relation in table.items()}
        rhos = {key: rho for key, rho in rhos.items() if not math.isnan(rho)}
        odd = [
            f"{quantity} on {name} ({rho:+.2f})"
            for (name, quantity), rho in rhos.items()
            if verdict(rho, _EXPECTED[quantity]) != "as expected"
        ]
        found.append((what, len(rhos) - len(odd), len(rhos), odd))
    return found


def render_page(groups: Groups, *, stem: str) -> str:
    """Write the page in Markdown; names of its pictures begin with ``stem``."""
    table = {
        (name, quantity): found
        for name, by_variant in groups.items()
        for quantity in _EXPECTED
        if (found := relate(by_variant, quantity)) is not None
    }
    return render_template(
        "convergence.md.j2",
        groups,
        stem=stem,
        rate=_RATE,
        clear=_CLEAR,
        relations=[_relation_row(*key, found) for key, found in table.items()],
        moved=_movement_rows(groups),
        risk_misfits=_risk_misfits(table),
        **_rate_values(groups),
    )


def _render(runs: Sequence[Run], out: Path) -> dict[Path, str]:
    groups = group_runs(runs)
    page = render_page(groups, stem=out.stem)
    drawn = {
        "gradients": (draw_gradients, "Mean squared gradient over T steps, log-log"),
        "along": (draw_along, "Consistency and confidence after each epoch"),
        "risk": (draw_risk, "Accuracy against the risk quantities, a dot a run"),
    }
    pictures = {
        out.with_name(f"{out.stem}-{name}.svg"): figure_svg(draw(groups), about)
        for name, (draw, about) in drawn.items()
    }
    return {**pictures, out: page}


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, write page and pictures; return the exit status."""
    return make_page(__doc__, argv, _render)


if __name__ == "__main__":
    sys.exit(main())
