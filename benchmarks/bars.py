"""Bars with error bars as SVG, one panel a set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.svg import svg_line, svg_text

__all__ = ["Bar", "draw_bars"]

_LABELS, _PLOT, _RIGHT = 180, 380, 70
_ROW, _HEAD, _FOOT, _GAP = 20, 30, 26, 14
_COLORS = {"variant": "#3b6ea8", "baseline": "#8a8f98", "reference": "#d9c38f"}
_MEANINGS = {
    "variant": "the method",
    "baseline": "a baseline",
    "reference": "uses names or labels",
}


class Bar(NamedTuple):
    """One bar.

    Attributes:
      name: What stands at its left.
      kind: ``"variant"``, ``"baseline"`` or ``"reference"``.
      mean: Its length, in percent.
      deviation: Half the length of its error bar; NaN draws none.
    """

    name: str
    kind: str
    mean: float
    deviation: float


def _bar(bar: Bar, y: float) -> list[str]:
    middle, end = y + _ROW / 2, _LABELS + _PLOT * bar.mean / 100
    parts = [
        svg_text(_LABELS - 6, middle + 4, bar.name, anchor="end"),
        f'<rect x="{_LABELS}" y="{y + 3:.1f}" width="{end - _LABELS:.1f}" '
        f'height="{_ROW - 6}" fill="{_COLORS[bar.kind]}"/>',
    ]
    shown = f"{bar.mean:.1f}"
    if not math.isnan(bar.deviation):
        half = _PLOT * bar.deviation / 100
        low, high = end - half, end + half
        parts.append(svg_line(low, middle, high, middle, "#222"))
        parts += [svg_line(x, middle - 4, x, middle + 4, "#222") for x in (low, high)]
        end, shown = high, f"{shown} ({bar.deviation:.1f})"
    parts.append(svg_text(end + 5, middle + 4, shown))
    return parts


def _panel(title: str, bars: Sequence[Bar], top: float) -> list[str]:
    bottom = top + _HEAD + _ROW * len(bars)
    parts = [svg_text(_LABELS, top + 20, title, more=' font-weight="bold"')]
    for percent in range(0, 101, 20):
        x = _LABELS + _PLOT * percent / 100
        parts.append(svg_line(x, top + _HEAD, x, bottom, "#ddd"))
        parts.append(svg_text(x, bottom + 14, str(percent), anchor="middle"))
    for row, bar in enumerate(bars):
        parts += _bar(bar, top + _HEAD + _ROW * row)
    return parts


def _legend(y: float) -> list[str]:
    parts, x = [], float(_LABELS)
    for kind, meaning in _MEANINGS.items():
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="10" height="10" fill="{_COLORS[kind]}"/>'
        )
        parts.append(svg_text(x + 15, y + 9, meaning))
        x += 130
    return parts


def draw_bars(panels: Mapping[str, Sequence[Bar]], *, about: str) -> str:
    """Draw horizontal bars from 0 to 100 %.

    Args:
      panels: Bars of each panel, by its title; the first bar is uppermost.
      about: What is shown, for those who can't see the picture.

    Returns:
      An SVG document.
    """
    parts, top = _legend(8), 24.0
    for title, bars in panels.items():
        parts += _panel(title, bars, top)
        top += _HEAD + _ROW * len(bars) + _FOOT + _GAP
    width = _LABELS + _PLOT + _RIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{top:.0f}" viewBox="0 0 {width} {top:.0f}" role="img" '
            'font-family="sans-serif" font-size="11">',
            f"<title>{escape(about)}</title>",
            f'<rect width="{width}" height="{top:.0f}" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )
