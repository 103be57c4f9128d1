"""How the number of clusters was estimated: the score over it, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mca_jax.report.page.charts import LineChart, line_chart

__all__ = ["CountChart", "count_context", "count_sentence"]


class CountChart(NamedTuple):
    """Score over the number of clusters, which is spaced by its logarithm.

    Attributes:
      line: The score.
      chosen: Where the chosen number stands, in percent of the plot.
      low: Where the interval begins, likewise.
      width: Width of the interval, at least that of a hair.
      taken: The chosen number, in words.
      sentence: What was found.
    """

    line: LineChart
    chosen: float
    low: float
    width: float
    taken: str
    sentence: str


def count_sentence(estimate: Mapping[str, Any]) -> str:
    """Say in a sentence what was estimated.

    Args:
      estimate: What stands under ``"cluster_count"`` among the metrics.

    Returns:
      A line without an end mark.

    Example:
      >>> count_sentence({"num_clusters": 9, "interval": [7, 12]})
      '9 clusters, estimated without labels; 7 to 12 score nearly as well'
    """
    low, high = estimate["interval"]
    others = f"{low} to {high} score" if low < high else "no other number scores"
    return (
        f"{estimate['num_clusters']} clusters, estimated without labels; {others} "
        "nearly as well"
    )


def count_context(estimate: Mapping[str, Any] | None) -> CountChart | None:
    """Lay out the picture of an estimate.

    Args:
      estimate: What stands under ``"cluster_count"`` among the metrics, if anything.

    Returns:
      The picture; None without an estimate, or where only one number was tried.
    """
    if not estimate or len(estimate["scores"]) < 2:
        return None
    first, last = estimate["range"]
    places = [math.log(count) for count in range(first, last + 1)]
    line = line_chart("Score by number of clusters", places, estimate["scores"])
    if line is None:
        return None

    def place(count: int) -> float:
        share = (math.log(count) - places[0]) / (places[-1] - places[0])
        return round(100 * min(max(share, 0.0), 1.0), 2)

    low, high = (place(end) for end in estimate["interval"])
    return CountChart(
        line=line._replace(first_x=str(first), last_x=str(last)),
        chosen=place(estimate["num_clusters"]),
        low=low,
        width=round(max(high - low, 0.5), 2),
        taken=f"{estimate['num_clusters']} taken",
        sentence=count_sentence(estimate),
    )
