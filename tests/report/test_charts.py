import math

import numpy as np
import pytest
from sample_results import build_result, make_history

from mca_jax.report import render_report
from mca_jax.report.charts import (
    bar_chart,
    count_chart,
    count_sentence,
    history_charts,
    line_chart,
    nice_ticks,
    short_number,
)

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (0.123456, "0.123"),
        (-0.5, f"{MINUS}0.5"),
        (999.6, "1000"),
        (1234.4, "1,234"),
        (-1e12, f"{MINUS}1.00e+12"),
        (1e-7, f"1e{MINUS}07"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
    ],
)
def test_short_number(value, text):
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.5, 1]),
        (0.13, 2.31, [0, 1, 2, 3]),
        (-8, -6.6, [-8, -7.5, -7, -6.5]),
        (0, 100, [0, 50, 100]),
        (0, 0, [-0.5, 0, 0.5]),
        (2, 2, [1, 2, 3]),
    ],
)
def test_nice_ticks_by_hand(low, high, ticks):
    assert nice_ticks(low, high, 3) == pytest.approx(ticks)


@pytest.mark.parametrize("low", [-1e6, -3.7, 0, 1e-9, 41])
@pytest.mark.parametrize("width", [0, 1e-6, 0.3, 7, 1e5])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_nice_ticks_span_the_range_evenly(low, width, count):
    high = low + width
    ticks = nice_ticks(low, high, count)
    steps = [after - before for before, after in zip(ticks, ticks[1:], strict=False)]
    slack = 1e-6 * (steps[0] + abs(low) * 1e-9)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)
    assert 2 <= len(ticks) <= count + 4


def test_line_by_hand():
    chart = line_chart("Loss", [1, 2, 3], [0.0, 0.5, 1.0])
    # Ticks are 0, 0.5 and 1; y runs down.
    assert chart.lines == ("0,100 50,50 100,0",)
    assert [(tick.position, tick.label) for tick in chart.ticks] == [
        (100, "0"),
        (50, "0.5"),
        (0, "1"),
    ]
    assert (chart.first_x, chart.last_x) == ("1", "3")
    assert (chart.first, chart.last) == ("0", "1")
    assert chart.dots == ()


def test_what_is_not_finite_breaks_the_line():
    ys = [0.0, 1.0, math.nan, 0.5, math.inf, 0.0, 0.0]
    chart = line_chart("Loss", range(1, 8), ys)
    assert len(chart.lines) == 2
    assert chart.dots == ((50.0, 50.0),)
    assert line_chart("Loss", [1, 2], [math.nan, math.inf]) is None
    assert line_chart("Loss", [], []) is None


def test_one_epoch_is_a_dot():
    chart = line_chart("Loss", [1], [2.0])
    assert chart.lines == ()
    assert len(chart.dots) == 1
    assert all(0 <= value <= 100 for value in chart.dots[0])


def test_long_histories_are_thinned_to_the_last_epoch():
    chart = line_chart("Loss", range(100_000), [float(i) for i in range(100_000)])
    points = chart.lines[0].split()
    assert 200 < len(points) <= 402
    assert points[-1].startswith("100,")
    assert chart.last_x == "99,999"


def test_shares_are_percentages_from_zero():
    chart = line_chart("Moved", [1, 2], [0.2, 0.00001], percent=True)
    assert chart.ticks[0].label == "0%"
    assert (chart.first, chart.last) == ("20%", "<0.01%")


def test_history_has_a_chart_a_quantity_but_no_time():
    history = [
        {**row, "seconds": 3.0, "images_per_second": 9.0} for row in make_history()
    ]
    titles = [chart.title for chart in history_charts(history)]
    assert titles == [
        "Loss",
        "Image consistency",
        "Balance of clusters",
        "Instance level",
        "Prototype level",
        "Semantic level",
        "Trust in the nouns",
        "Pseudo-labelled images",
        "Gradient norm",
        "Images that moved",
    ]
    assert history_charts([]) == []
    late = history_charts([{"loss": 1.0}, {"loss": 2.0, "my_part": 3.0}])
    assert [chart.title for chart in late] == ["Loss", "My part"]


def test_bars_by_hand():
    chart = bar_chart([4, 2, 0], ["a", "b", "c"], ["x", "y", "z"], mark=2)
    # Ticks are 0, 2 and 4: 4 fills the height.
    assert [bar.height for bar in chart.bars] == [100, 50, 0]
    assert [bar.x for bar in chart.bars] == pytest.approx([3.333, 36.667, 70], abs=1e-3)
    assert {bar.width for bar in chart.bars} == {26.667}
    assert [bar.target for bar in chart.bars] == ["x", "y", "z"]
    assert (chart.mark.position, chart.mark.label) == (50, "2")


@pytest.mark.parametrize("count", [1, 40, 1000])
def test_bars_stay_inside_and_apart(count):
    bars = bar_chart([1.0] * count, [""] * count).bars
    ends = [bar.x + bar.width for bar in bars]
    starts = [bar.x for bar in bars]
    assert starts[0] >= 0
    assert ends[-1] <= 100.01
    assert all(
        end <= start + 0.002 for end, start in zip(ends, starts[1:], strict=False)
    )


def test_no_bar_at_all_has_a_grid():
    chart = bar_chart([0, 0], ["a", "b"])
    assert [bar.height for bar in chart.bars] == [0, 0]
    assert chart.ticks[-1].label == "1"
    assert chart.mark is None


ESTIMATE = {
    "num_clusters": 8,
    "interval": [4, 16],
    "range": [2, 32],
    "num_images": 500,
    "scores": [0.5 - abs(np.log2(k) - 3) / 10 for k in range(2, 33)],
}


def test_the_number_of_clusters_is_on_a_logarithmic_axis():
    chart = count_chart(ESTIMATE)
    assert chart is not None
    # 2, 4, 8, 16 and 32 are quarters apart.
    assert (chart.low, chart.chosen, chart.width) == (25.0, 50.0, 50.0)
    assert (chart.line.first_x, chart.line.last_x) == ("2", "32")
    assert len(chart.line.lines[0].split()) == 31


def test_no_estimate_and_one_of_a_single_number():
    assert count_chart(None) is None
    one = {**ESTIMATE, "range": [8, 8], "interval": [8, 8], "scores": [0.5]}
    assert count_chart(one) is None


def test_an_interval_of_one_number():
    text = count_sentence({**ESTIMATE, "interval": [8, 8]})
    assert text == (
        "8 clusters, estimated without labels; no other number is as likely"
    )


@pytest.mark.parametrize("estimated", [True, False])
def test_the_report_shows_the_estimate_where_there_is_one(estimated):
    result = build_result()
    if estimated:
        result.metrics["cluster_count"] = ESTIMATE
    html = render_report(result)
    assert ("8 clusters, estimated without labels; 4 to 16" in html) == estimated
    assert ("Score by number of clusters" in html) == estimated
