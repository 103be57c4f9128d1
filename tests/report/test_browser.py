"""The report in a real browser, without a window."""

import re

import numpy as np
import pytest
from chromium_pipe import Chromium, find_chromium
from sample_results import build_result

from mca_jax.report import render_report

NAMES = ("wide name " * 20, "x" * 400, "ملف", "<b>bold</b>", "dahlia", "none")
EXECUTABLE = find_chromium()

if EXECUTABLE is None:
    pytest.skip("no Chromium found; MCA_CHROMIUM names one", allow_module_level=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    sizes = [30, 12, 3, 1, 20]
    assignments = np.repeat(np.arange(5), sizes)
    paths = [f"{'folder ' * 9}/{'y' * 90}<script>{row}.jpg" for row in range(66)]
    result = build_result(
        folder / "images",
        names=NAMES,
        assignments=assignments,
        labels=(assignments + 1) % 4,
        paths=paths,
        config={"images": "/long" * 60, "num_clusters": 6, "seed": 0},
    )
    command = "python -m experiments.cluster --images=" + "long/" * 40
    (folder / "report.html").write_text(
        render_report(result, command=command), encoding="utf-8"
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(EXECUTABLE, tmp_path_factory.mktemp("profile")) as running:
        yield running


def count(browser, selector):
    return browser.evaluate(f"document.querySelectorAll({selector!r}).length")


def test_opens_from_disk_without_a_complaint(browser, report):
    browser.open(report)
    # Everything that a reader could unfold.
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert count(browser, "article.card") == len(NAMES)
    assert count(browser, "script") == 1
    # Also those that wait to be scrolled to.
    edges = browser.evaluate(
        "Promise.all([...document.images].filter(i => i.src).map(i => new Promise("
        "(done, fail) => { const copy = new Image(); copy.onerror = fail;"
        " copy.onload = () => done(copy.naturalWidth); copy.src = i.src; })))"
    )
    assert set(edges) == {192}
    assert len(edges) > 40
    assert browser.complaints() == []


def test_the_browser_does_complain_where_it_should(browser, report, tmp_path):
    broken = re.sub("<script>", "<script>boom();", report.read_text("utf-8"), count=1)
    page = tmp_path / "broken.html"
    page.write_text(broken.replace("data:,", "https://example.org/x"), "utf-8")
    browser.open(page)
    # The script is not the one that the policy allows.
    assert any("Content Security Policy" in text for text in browser.complaints())
    assert browser.evaluate("document.getElementById('toolbar').hidden")


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2000])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_sticks_out(browser, report, width, dark):
    browser.open(report, width=width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("innerWidth") == width
    # Cards off the screen are laid out only when asked for.
    browser.evaluate(
        "document.querySelectorAll('.card')"
        ".forEach(c => c.style.contentVisibility = 'visible')"
    )
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    outside = browser.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre,"
        " .skip, dialog, svg, .visually-hidden') && e.getClientRects().length && ("
        "e.getBoundingClientRect().right > innerWidth + 0.5 ||"
        " e.getBoundingClientRect().left < -0.5)).map(e => e.outerHTML.slice(0, 200))"
    )
    assert outside == []


def test_text_is_large_enough_everywhere(browser, report):
    for width in (390, 1280):
        browser.open(report, width=width)
        sizes = browser.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => e.innerText)"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert len(sizes) > 200
        assert min(sizes) >= 13


def test_dark_is_dark(browser, report):
    shades = []
    for dark in (False, True):
        browser.open(report, dark=dark)
        colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        shades.append(sum(map(int, re.findall(r"\d+", colour)[:3])))
    assert shades[0] > 700
    assert shades[1] < 100


def visible_names(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('.card')].filter(c => c.checkVisibility())"
        ".map(c => c.dataset.name)"
    )


def test_search_and_order(browser, report):
    browser.open(report)
    assert visible_names(browser) == [NAMES[i] for i in (0, 4, 1, 2, 3, 5)]
    browser.evaluate("document.getElementById('search').focus()")
    browser.send("Input.insertText", text="BOLD b>")
    assert visible_names(browser) == [NAMES[3]]
    assert browser.evaluate("document.getElementById('count').textContent") == (
        "1 of 6 shown"
    )
    # A link to a hidden card brings all back.
    browser.evaluate("location.hash = '#cluster-2'")
    browser.evaluate("new Promise(done => setTimeout(() => done(1), 50))")
    assert len(visible_names(browser)) == 6
    orders = {
        "small": [0, 1, 3, 12, 20, 30],
        "large": [30, 20, 12, 3, 1, 0],
        "number": [30, 12, 3, 1, 20, 0],
    }
    for order, sizes in orders.items():
        browser.evaluate(
            f"document.getElementById('order').value = '{order}';"
            "document.getElementById('order').dispatchEvent(new Event('change'))"
        )
        found = browser.evaluate(
            "[...document.querySelectorAll('.card')].map(c => Number(c.dataset.size))"
        )
        assert found == sizes
    browser.evaluate(
        "document.getElementById('order').value = 'unsure';"
        "document.getElementById('order').dispatchEvent(new Event('change'))"
    )
    found = browser.evaluate(
        "[...document.querySelectorAll('.card')].map(c => +c.dataset.confidence)"
    )
    assert found == sorted(found)


def test_keyboard_alone_shows_pictures(browser, report):
    browser.open(report)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    # A grid is one stop; the arrow moves inside it.
    assert count(browser, "#cluster-0 .thumb[tabindex='-1']") == 11 + 3
    browser.evaluate("document.querySelector('#cluster-0 .thumb').focus()")
    browser.press("ArrowRight")
    second = "document.querySelectorAll('#cluster-0 .thumb')[1]"
    assert browser.evaluate(f"document.activeElement === {second}")
    browser.press("Enter", "\r")
    assert browser.evaluate("document.getElementById('viewer').open")
    path = "document.getElementById('viewer-path').textContent"
    assert browser.evaluate(f"{path} === {second}.querySelector('img').alt")
    browser.press("ArrowRight")
    third = second.replace("[1]", "[2]")
    assert browser.evaluate(f"{path} === {third}.querySelector('img').alt")
    browser.press("Escape")
    assert not browser.evaluate("document.getElementById('viewer').open")
    assert browser.complaints() == []


def test_without_script_everything_is_readable(browser, report):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        document = browser.send("DOM.getDocument", depth=1)["root"]["nodeId"]
        text = browser.send("DOM.getOuterHTML", nodeId=document)["outerHTML"]
        assert text.count('<article class="card') == len(NAMES)
        assert re.search(r'id="toolbar"[^>]* hidden', text)
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
