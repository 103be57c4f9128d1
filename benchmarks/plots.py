"""Small plots side by side as SVG: lines and points, linear or log-log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.svg import svg_line, svg_text
from mca_jax.report.charts import nice_ticks, short_number

__all__ = ["COLORS", "Panel", "Series", "draw_panels"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d5d5d")
"""Colours that differ for colour-blind eyes too (Okabe and Ito), and a grey."""

_WIDTH, _HEIGHT = 250, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 30, 44
_TICKS = 4


class Series(NamedTuple):
    """Points that belong together.

    Attributes:
      name: What the legend says; the same name has the same colour everywhere.
      points: ``(x, y)``; those that are not finite are left out.
      line: Whether they are joined; else each is a dot.
      faint: Drawn thin and pale, as one of many.
      dashed: Drawn with gaps, as what is expected rather than measured.
    """

    name: str
    points: Sequence[tuple[float, float]]
    line: bool = True
    faint: bool = False
    dashed: bool = False


class Panel(NamedTuple):
    """One plot.

    Attributes:
      title: What stands above it.
      across: Name of the horizontal axis.
      up: Name of the vertical axis.
      series: What is drawn, the first at the back.
      log: Both axes are logarithmic: points that are not positive are left out.
    """

    title: str
    across: str
    up: str
    series: Sequence[Series]
    log: bool = False


class _Axis(NamedTuple):
    """One axis of a plot.

    Attributes:
      low: Its lower end; the logarithm of it on a logarithmic axis.
      high: Its upper end, likewise.
      ticks: Values with a line and a label.
      log: Whether it is logarithmic.
    """

    low: float
    high: float
    ticks: list[float]
    log: bool

    def place(self, value: float, size: float) -> float:
        if self.log:
            value = math.log10(value)
        return size * (value - self.low) / (self.high - self.low)


def _log_ticks(low: float, high: float) -> list[float]:
    steps = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _axis(values: Sequence[float], log: bool) -> _Axis:
    if not values:
        values = (1.0, 10.0)
    low, high = min(values), max(values)
    if log:
        low, high = low / 1.15, high * 1.15
        ticks = _log_ticks(low, high)
        return _Axis(math.log10(low), math.log10(high), ticks, log)
    ticks = nice_ticks(low, high, _TICKS)
    return _Axis(ticks[0], ticks[-1], ticks, log)


def _shown(series: Series, log: bool) -> list[tuple[float, float]]:
    return [
        (x, y)
        for x, y in series.points
        if math.isfinite(x) and math.isfinite(y) and (not log or min(x, y) > 0)
    ]


def _grid(panel: Panel, across: _Axis, up: _Axis, left: float, top: float) -> list[str]:
    bottom, right = top + _HEIGHT, left + _WIDTH
    parts = [svg_text(left, top - 12, panel.title, more=' font-weight="bold"')]
    for tick in across.ticks:
        x = left + across.place(tick, _WIDTH)
        parts.append(svg_line(x, top, x, bottom, "#e4e4e4"))
        parts.append(svg_text(x, bottom + 14, short_number(tick), anchor="middle"))
    for tick in up.ticks:
        y = bottom - up.place(tick, _HEIGHT)
        parts.append(svg_line(left, y, right, y, "#e4e4e4"))
        parts.append(svg_text(left - 5, y + 4, short_number(tick), anchor="end"))
    parts.append(
        svg_text(left + _WIDTH / 2, bottom + 32, panel.across, anchor="middle")
    )
    x, y = left - 44, top + _HEIGHT / 2
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"'
    parts.append(svg_text(x, y, panel.up, anchor="middle", more=turned))
    return parts


def _marks(
    series: Series, places: Sequence[tuple[float, float]], color: str
) -> list[str]:
    if series.line and len(places) > 1:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        width, opacity = (1.0, 0.45) if series.faint else (2.0, 1.0)
        dash = ' stroke-dasharray="5 4"' if series.dashed else ""
        return [
            f'<polyline points="{points}" fill="none" stroke="{color}" '
            f'stroke-width="{width}" stroke-opacity="{opacity}"{dash}/>'
        ]
    opacity = 0.45 if series.faint else 0.85
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}" '
        f'fill-opacity="{opacity}"/>'
        for x, y in places
    ]


def _panel(
    panel: Panel, colors: Mapping[str, str], left: float, top: float
) -> list[str]:
    shown = [_shown(series, panel.log) for series in panel.series]
    across = _axis([x for points in shown for x, _ in points], panel.log)
    up = _axis([y for points in shown for _, y in points], panel.log)
    parts = _grid(panel, across, up, left, top)
    for series, points in zip(panel.series, shown, strict=True):
        places = [
            (left + across.place(x, _WIDTH), top + _HEIGHT - up.place(y, _HEIGHT))
            for x, y in points
        ]
        parts += _marks(series, places, colors[series.name])
    return parts


def _legend(
    panels: Sequence[Panel], colors: Mapping[str, str], width: float, y: float
) -> tuple[list[str], float]:
    """Marks and names, in as many lines as they need, and where they end."""
    dashed = {s.name for panel in panels for s in panel.series if s.dashed}
    parts, x = [], float(_LEFT)
    for name, color in colors.items():
        room = 30 + 6.2 * len(name)
        if x + room > width and x > _LEFT:
            x, y = float(_LEFT), y + 18
        dash = ' stroke-dasharray="5 4"' if name in dashed else ""
        parts.append(
            f'<line x1="{x:.1f}" y1="{y}" x2="{x + 16:.1f}" y2="{y}" '
            f'stroke="{color}" stroke-width="3"{dash}/>'
        )
        parts.append(svg_text(x + 21, y + 4, name))
        x += room
    return parts, y + 14


def draw_panels(
    panels: Sequence[Panel],
    *,
    about: str,
    colors: Mapping[str, str],
    columns: int = 2,
) -> str:
    """Draw plots in rows.

    Args:
      panels: From the top left.
      about: What is shown, for those who can't see the picture.
      colors: Colour of each name of a series, in the order of the legend.
      columns: Plots a row, at least 1.

    Returns:
      An SVG document.
    """
    columns = min(columns, max(len(panels), 1))
    wide, high = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM
    width = columns * wide
    parts, top = _legend(panels, colors, width, 14)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        parts += _panel(panel, colors, column * wide + _LEFT, top + row * high + _TOP)
    height = top + -(-len(panels) // columns) * high
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{height:.0f}" viewBox="0 0 {width} {height:.0f}" role="img" '
            'font-family="sans-serif" font-size="11">',
            f"<title>{escape(about)}</title>",
            f'<rect width="{width}" height="{height:.0f}" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )
