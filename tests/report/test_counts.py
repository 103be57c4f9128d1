"""The picture of an estimated number of clusters."""

import numpy as np
import pytest
from sample_results import build_result

from mca_jax.report.page.counts import count_context, count_sentence
from mca_jax.report.page.html import render_report

ESTIMATE = {
    "num_clusters": 8,
    "interval": [4, 16],
    "range": [2, 32],
    "num_images": 500,
    "scores": [0.5 - abs(np.log2(k) - 3) / 10 for k in range(2, 33)],
}


def test_places_are_logarithmic():
    chart = count_context(ESTIMATE)
    assert chart is not None
    # 2, 4, 8, 16 and 32 are quarters apart.
    assert (chart.low, chart.chosen, chart.width) == (25.0, 50.0, 50.0)
    assert (chart.line.first_x, chart.line.last_x) == ("2", "32")
    assert len(chart.line.lines[0].split()) == 31


def test_nothing_to_draw():
    assert count_context(None) is None
    one = {**ESTIMATE, "range": [8, 8], "interval": [8, 8], "scores": [0.5]}
    assert count_context(one) is None


def test_an_interval_of_one_number():
    text = count_sentence({**ESTIMATE, "interval": [8, 8]})
    assert text == (
        "8 clusters, estimated without labels; no other number scores nearly as well"
    )


@pytest.mark.parametrize("estimated", [True, False])
def test_the_report_shows_it_where_there_is_one(estimated):
    result = build_result()
    if estimated:
        result.metrics["cluster_count"] = ESTIMATE
    html = render_report(result)
    assert ("8 clusters, estimated without labels; 4 to 16" in html) == estimated
    assert ("Score by number of clusters" in html) == estimated
