"""Geometry of the charts: points in percent of the plot, ticks with labels.

Templates draw it. Text stays HTML at its own size; only the marks stretch with
the width of the page, so that a chart is as legible on a phone as on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "bar_chart",
    "count_chart",
    "count_sentence",
    "history_charts",
    "line_chart",
    "nice_ticks",
    "short_number",
]

_MOST_POINTS = 400
_LINE_TICKS = 3
_BAR_TICKS = 3

_TITLES = {
    "loss": "Loss",
    "consistency": "Image consistency",
    "balance": "Balance of clusters",
    "instance": "Instance level",
    "prototype": "Prototype level",
    "semantic": "Semantic level",
    "grad_norm": "Gradient norm",
    "changed": "Images that moved",
    "trust": "Trust in the nouns",
    "labelled": "Pseudo-labelled images",
}
_SHARES = frozenset({"changed", "trust", "labelled"})
_NOT_DRAWN = frozenset({"epoch", "step", "steps"})
# Wall time differs between two runs with one seed, the report must not.
_TIME_WORDS = ("second", "time", "per_s", "rate_")


class Tick(NamedTuple):
    """A line of the grid: distance from the top in percent of the plot, and label."""

    position: float
    label: str


class LineChart(NamedTuple):
    """One quantity over epochs.

    Attributes:
      title: What is drawn.
      lines: Points of each unbroken run as an SVG ``points`` attribute, in
        percent of the plot; a value that is not finite breaks the line.
      dots: Single points ``(x, y)`` that no line goes through.
      ticks: Grid, from the bottom up.
      first_x: Label of the left end.
      last_x: Label of the right end.
      first: First finite value, as text.
      last: Last finite value, as text.
    """

    title: str
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    ticks: tuple[Tick, ...]
    first_x: str
    last_x: str
    first: str
    last: str


class Bar(NamedTuple):
    """One bar in percent of the plot, its tooltip, and the fragment it links to."""

    x: float
    width: float
    height: float
    label: str
    target: str


class BarChart(NamedTuple):
    """Bars from zero, a grid from the bottom up, and a level to compare with."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    mark: Tick | None


def short_number(value: float) -> str:
    """Write a number with three significant digits, thousands with commas.

    Example:
      >>> short_number(12345.6), short_number(0.012345), short_number(3.0)
      ('12,346', '0.0123', '3')
    """
    if not math.isfinite(value):
        return "not finite"
    text = f"{float(f'{value:.3g}'):g}"
    if abs(value) >= 1000:
        text = f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}"
    # A hyphen is too short for a minus.
    return text.replace("-", "\N{MINUS SIGN}")


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Choose round numbers that span a range.

    Returns:
      Two or more ascending values, in about ``count`` equal steps of 1, 2 or 5
      times a power of ten; the first is at most ``low``, the last at least ``high``.

    Example:
      >>> nice_ticks(0.13, 2.31, 3)
      [0.0, 1.0, 2.0, 3.0]
    """
    if not high > low:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _rescale(values: Sequence[float], low: float, high: float) -> list[float]:
    """Rescale values to 0 to 100."""
    width = high - low or 1.0
    return [round(100 * (value - low) / width, 2) for value in values]


def _ticks(levels: Sequence[float], *, percent: bool) -> tuple[Tick, ...]:
    """Grid lines with their labels, from the bottom up."""
    heights = _rescale(levels, levels[0], levels[-1])
    return tuple(
        Tick(round(100 - height, 2), _value_text(level, percent=percent))
        for height, level in zip(heights, levels, strict=True)
    )


def _value_text(value: float, *, percent: bool) -> str:
    """Write a value as a number or a percentage."""
    if not percent:
        return short_number(value)
    return "<0.01%" if 0 < value < 1e-4 else f"{short_number(100 * value)}%"


def _unbroken(
    xs: Sequence[float], ys: Sequence[float]
) -> list[list[tuple[float, float]]]:
    """Split points where a value is not finite."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def line_chart(
    title: str, xs: Sequence[float], ys: Sequence[float], *, percent: bool = False
) -> LineChart | None:
    """Lay out one quantity over epochs.

    Args:
      title: What is drawn.
      xs: Epochs, ascending.
      ys: One value an epoch; those that are not finite leave a gap.
      percent: Whether values are fractions, to be shown in percent.

    Returns:
      The chart; None without a finite value.
    """
    stride = max(1, math.ceil(len(xs) / _MOST_POINTS))
    kept = sorted({*range(0, len(xs), stride), len(xs) - 1} - {-1})
    xs, ys = [xs[i] for i in kept], [ys[i] for i in kept]
    runs = _unbroken(xs, ys)
    if not runs:
        return None
    values = [y for run in runs for _, y in run]
    levels = nice_ticks(0.0 if percent else min(values), max(values), _LINE_TICKS)
    lines, dots = [], []
    for run in runs:
        across = _rescale([x for x, _ in run], xs[0], xs[-1])
        down = [100 - y for y in _rescale([y for _, y in run], levels[0], levels[-1])]
        points = [(x, round(y, 2)) for x, y in zip(across, down, strict=True)]
        if len(points) == 1:
            dots.append(points[0])
        else:
            lines.append(" ".join(f"{x:g},{y:g}" for x, y in points))
    return LineChart(
        title=title,
        lines=tuple(lines),
        dots=tuple(dots),
        ticks=_ticks(levels, percent=percent),
        first_x=short_number(xs[0]),
        last_x=short_number(xs[-1]),
        first=_value_text(values[0], percent=percent),
        last=_value_text(values[-1], percent=percent),
    )


def history_charts(history: Sequence[Mapping[str, float]]) -> list[LineChart]:
    """Lay out every quantity of the training history, the loss first.

    Args:
      history: One mapping an epoch; ``"epoch"`` is the horizontal axis. Keys about
        time are left out.
    """
    names = dict.fromkeys(name for entry in history for name in entry)
    drawn = [
        name
        for name in names
        if name not in _NOT_DRAWN and not any(word in name for word in _TIME_WORDS)
    ]
    drawn.sort(key=lambda name: name != "loss")
    epochs = [float(entry.get("epoch", i)) for i, entry in enumerate(history)]
    charts = [
        line_chart(
            _TITLES.get(name) or name.replace("_", " ").capitalize(),
            epochs,
            [float(entry.get(name, math.nan)) for entry in history],
            percent=name in _SHARES,
        )
        for name in drawn
    ]
    return [chart for chart in charts if chart is not None]


def bar_chart(
    values: Sequence[float],
    labels: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    mark: float | None = None,
) -> BarChart:
    """Lay out bars side by side; from about 200 on they touch, to stay visible.

    Args:
      values: Heights, at least 0.
      labels: Tooltip of each bar.
      targets: Fragment that each bar links to; None for none.
      mark: A level to compare with.
    """
    levels = nice_ticks(0.0, max([*values, mark or 0.0, 1.0]), _BAR_TICKS)
    slot = 100 / max(len(values), 1)
    width = slot * (0.8 if len(values) <= 200 else 1.0)
    heights = _rescale(values, 0.0, levels[-1])
    bars = tuple(
        Bar(
            x=round(index * slot + (slot - width) / 2, 3),
            width=round(width, 3),
            height=height,
            label=label,
            target=target,
        )
        for index, (height, label, target) in enumerate(
            zip(heights, labels, targets or [""] * len(labels), strict=True)
        )
    )
    level = None
    if mark is not None:
        position = round(100 - 100 * mark / levels[-1], 2)
        level = Tick(position=position, label=short_number(mark))
    return BarChart(bars=bars, ticks=_ticks(levels, percent=False), mark=level)


class CountChart(NamedTuple):
    """Score over the number of clusters, which is spaced by its logarithm.

    The chosen number and the interval, from ``low`` on, are in percent of the plot.
    """

    line: LineChart
    chosen: float
    low: float
    width: float
    taken: str
    sentence: str


def count_sentence(estimate: Mapping[str, Any]) -> str:
    """Say what was estimated, by what ``metrics["cluster_count"]`` holds.

    Example:
      >>> count_sentence({"num_clusters": 9, "interval": [7, 12]})
      '9 clusters, estimated without labels; 7 to 12 are as likely'
    """
    low, high = estimate["interval"]
    others = f"{low} to {high} are" if low < high else "no other number is"
    return (
        f"{estimate['num_clusters']} clusters, estimated without labels; {others} "
        "as likely"
    )


def count_chart(estimate: Mapping[str, Any] | None) -> CountChart | None:
    """Lay out an estimate of the number of clusters; None if only one was tried."""
    if not estimate or len(estimate["scores"]) < 2:
        return None
    first, last = estimate["range"]
    logs = [math.log(count) for count in range(first, last + 1)]
    line = line_chart("Score by number of clusters", logs, estimate["scores"])
    if line is None:
        return None
    low, high, chosen = (
        min(max(at, 0.0), 100.0)
        for at in _rescale(
            [math.log(n) for n in (*estimate["interval"], estimate["num_clusters"])],
            *(logs[0], logs[-1]),
        )
    )
    return CountChart(
        line=line._replace(first_x=str(first), last_x=str(last)),
        chosen=chosen,
        low=low,
        width=round(max(high - low, 0.5), 2),
        taken=f"{estimate['num_clusters']} taken",
        sentence=count_sentence(estimate),
    )
