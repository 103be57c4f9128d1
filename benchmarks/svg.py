"""The two elements of SVG that all pictures of the benchmarks are drawn with."""

from __future__ import annotations

from html import escape

__all__ = ["svg_line", "svg_text"]


def svg_text(
    x: float, y: float, text: str, *, anchor: str = "start", more: str = ""
) -> str:
    """Write text.

    Args:
      x: Where ``anchor`` is, in pixels.
      y: The baseline.
      text: Anything; it is escaped.
      anchor: ``"start"``, ``"middle"`` or ``"end"``.
      more: Further attributes, with a space before them.

    Returns:
      An element.
    """
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>'
        f"{escape(text)}</text>"
    )


def svg_line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    """Draw a straight line.

    Args:
      x1: Start, in pixels.
      y1: Start.
      x2: End.
      y2: End.
      color: As SVG names it.

    Returns:
      An element.
    """
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{color}"/>'
    )
