"""Sections of the page on convergence and risk; every sentence follows the numbers."""

from __future__ import annotations

from benchmarks.evidence import (
    CLEAR,
    EXPECTED,
    RATE,
    Decay,
    Relation,
    decay_of,
    movement_of,
    relations,
    verdict,
)
from benchmarks.groups import Groups, number_cell, spread_cell, table_lines
from benchmarks.variants import ALL_LEVELS

__all__ = ["convergence_lines", "risk_lines"]

_RATE_THEORY = """### What the theory says

Training converges at a sublinear rate: with step sizes and smoothness that fit, the
mean of the squared gradient norm over the first T steps is O(1/sqrt(T)). In a plot of
that mean against T, both logarithmic, it falls with a slope of -1/2 or steeper.

### How we read it

The exponent is the slope of that mean by least squares over the last nine tenths of
the steps. Three things make this a reading and no test of the theorem. The gradient
is that of one batch, whose noise does not vanish, while the statement is on the
gradient of the whole loss. Adam with a cosine decay takes the place of plain
stochastic gradients. And a bound with a free constant is not refuted by a run of
finite length: a slope above -1/2 may only mean that the run is still short, or that
it starts so near to its end that there is little to fall."""

_RISK_THEORY = """### What the theory says

The bound on the expected clustering risk falls as neighbourhood consistency and
prediction confidence rise, and rises with neighbourhood imbalance. So over runs on
one set accuracy should go up with the first two and down with the third.

### How we read it

The three expressions are those of `mca_jax.evaluation.risk`, which are ours. Accuracy
stands for one minus the risk, which is another loss than that of the theorem. A bound
that moves does not oblige the risk to move: a correlation is what the theory
suggests, not what it proves. Spearman's rho is given over all runs of the set, over
the means of the variants, and over the seeds within a variant, averaged over
variants; the last is what matters for the choice of a seed. Runs that share a seed
share their start and are not independent, so there is no p-value. Imbalance
depends on the space alone: it differs between runs only where a variant changes the
space."""


def _decays(groups: Groups) -> list[tuple[str, str, Decay, dict[str, int]]]:
    found = []
    for name, by_variant in groups.items():
        for variant, runs in by_variant.items():
            decay = decay_of(runs)
            if decay is not None:
                ends: dict[str, int] = {}
                for run in runs:
                    ends[run["status"]] = ends.get(run["status"], 0) + 1
                found.append((name, variant, decay, ends))
    return found


def _rate_misfits(decays: list[tuple[str, str, Decay, dict[str, int]]]) -> list[str]:
    """Say how many runs are outside of what was expected, and which."""
    count = sum(decay.count for *_, decay, _ in decays)
    slow = sum(decay.count - decay.fits for *_, decay, _ in decays)
    rising = sum(decay.rises for *_, decay, _ in decays)
    failed = sum(
        ends.get(s, 0) for *_, ends in decays for s in ("diverged", "non_finite")
    )
    limited = sum(ends.get("step_limit", 0) for *_, ends in decays)
    if not slow:
        lines = [f"- Nothing in the exponents: all {count} are at most {RATE}."]
    else:
        lines = [
            f"- {slow} of {count} runs have an exponent above {RATE}: over their "
            "length they do not show the rate."
        ]
    if rising:
        lines.append(
            f"- In {rising} of them the mean squared gradient rises over the fitted "
            "steps. A bound that falls can't hold with the constant of their first "
            "steps."
        )
    grown = [f"`{v}` on {n}" for n, v, decay, _ in decays if decay.kept.mean > 1]
    if grown:
        lines.append(
            "- The last pass has a larger squared gradient than the first, on average "
            f"over seeds, for {', '.join(grown)}."
        )
    if failed:
        lines.append(f"- {failed} runs diverged or met a value that is not finite.")
    lines.append(
        f"- {limited} of {sum(sum(ends.values()) for *_, ends in decays)} runs ended "
        "at the limit of passes rather than at rest; what more passes would show is "
        "not measured."
    )
    return lines


def convergence_lines(groups: Groups, picture: str) -> list[str]:
    """Write the part on convergence.

    Args:
      groups: All runs.
      picture: Name of the picture beside the page.

    Returns:
      Lines of Markdown.
    """
    decays = _decays(groups)
    lines = ["## Does the gradient fall as the theory says?", "", _RATE_THEORY, ""]
    if not decays:
        return [*lines, "No run has an exponent: ten steps are needed for one.", ""]
    rows = [
        [
            name,
            variant,
            str(decay.count),
            spread_cell(decay.exponent, "+.2f"),
            f"{decay.lowest:+.2f} to {decay.highest:+.2f}",
            f"{decay.fits} of {decay.count}",
            number_cell(decay.kept.mean, ".2f"),
            ", ".join(f"{count} {end}" for end, count in sorted(ends.items())),
        ]
        for name, variant, decay, ends in decays
    ]
    header = ["set", "line", "runs", "exponent", "range", f"at most {RATE}"]
    header += ["last / first pass", "ended as"]
    return [
        *lines,
        "### What was measured",
        "",
        f"![Mean squared gradient norm against steps, log-log]({picture})",
        "",
        "Mean over seeds, relative to the first pass; the dashed line falls as "
        "1/sqrt(T). The table has the fitted exponent, mean over seeds with the "
        "standard deviation in brackets, and the squared gradient norm of the last "
        "pass over that of the first.",
        "",
        *table_lines(header, rows),
        "### What does not fit",
        "",
        *_rate_misfits(decays),
        "",
    ]


def _relation_row(name: str, quantity: str, found: Relation) -> list[str]:
    return [
        name,
        quantity,
        "+" if found.expected > 0 else "-",
        number_cell(found.overall, "+.2f"),
        number_cell(found.between, "+.2f"),
        number_cell(found.within, "+.2f"),
        f"{found.agree} of {found.variants}",
        str(found.count),
        verdict(found.overall, found.expected),
        verdict(found.within, found.expected),
    ]


def _movement_rows(groups: Groups) -> list[list[str]]:
    rows = []
    for name, by_variant in groups.items():
        for variant in ("none", ALL_LEVELS):
            for quantity in ("consistency", "confidence"):
                found = movement_of(by_variant.get(variant, ()), quantity)
                if found is not None:
                    change = spread_cell(found.change, "+.3f")
                    gain = found.accuracy._replace(
                        mean=100 * found.accuracy.mean,
                        deviation=100 * found.accuracy.deviation,
                    )
                    together = f"{found.together} of {found.count}"
                    rows.append(
                        [name, variant, quantity, change, spread_cell(gain, "+.1f")]
                        + [together]
                    )
    return rows


def _risk_misfits(table: dict[tuple[str, str], Relation]) -> list[str]:
    lines = []
    for what, field in (
        ("over all runs of the set", "overall"),
        ("between the means of the variants", "between"),
        ("within a variant, over seeds", "within"),
    ):
        said = {
            key: verdict(getattr(found, field), found.expected)
            for key, found in table.items()
        }
        known = {key: text for key, text in said.items() if text != "not defined"}
        if not known:
            lines.append(f"- {what.capitalize()}: no correlation is defined.")
            continue
        odd = [
            f"{quantity} on {name} "
            f"({number_cell(getattr(table[name, quantity], field), '+.2f')})"
            for (name, quantity), text in known.items()
            if text != "as expected"
        ]
        fit = len(known) - len(odd)
        line = f"- {what.capitalize()}: {fit} of {len(known)} are as expected"
        lines.append(f"{line}; not {'; '.join(odd)}." if odd else f"{line}.")
    return lines


def risk_lines(groups: Groups, along: str, picture: str) -> list[str]:
    """Write the part on the risk quantities.

    Args:
      groups: All runs.
      along: Name of the picture of the quantities over passes.
      picture: Name of the picture of accuracy against them.

    Returns:
      Lines of Markdown.
    """
    lines = ["## Do the risk quantities move with accuracy?", "", _RISK_THEORY, ""]
    table = {
        (name, quantity): found
        for name, by_variant in groups.items()
        for quantity, found in relations(by_variant).items()
    }
    if not table:
        return [*lines, "No run has these quantities.", ""]
    header = ["set", "quantity", "expected", "rho, all runs", "rho, variants"]
    header += [
        "mean rho, seeds",
        "variants that agree",
        "runs",
        "so, all runs",
        "so, seeds",
    ]
    rows = [_relation_row(*key, found) for key, found in table.items()]
    lines += [
        "### What was measured",
        "",
        f"![Accuracy against each risk quantity]({picture})",
        "",
        f"A rho below {CLEAR} in size is called no clear relation; the limit is ours. "
        "`variants that agree` counts those whose rho "
        "over their own seeds has the expected sign.",
        "",
        *table_lines(header, rows),
    ]
    moved = _movement_rows(groups)
    if moved:
        names = " and ".join(name for name in EXPECTED if name != "imbalance")
        lines += [
            f"Training itself moves {names}, and accuracy, from what the networks say "
            "before the first step to the end:",
            "",
            f"![Consistency and confidence after each pass]({along})",
            "",
            *table_lines(
                ["set", "line", "quantity", "change in training", "change of ACC"]
                + ["runs where both moved the same way"],
                moved,
            ),
        ]
    return [*lines, "### What does not fit", "", *_risk_misfits(table), ""]
