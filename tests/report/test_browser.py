"""The report in a real browser, without a window."""

import base64
import re

import numpy as np
import pytest
from chromium_pipe import Chromium, find_chromium
from sample_results import build_result

from mca_jax.report import build_report, render_report

NAMES = ("wide name " * 20, "x" * 400, "ملف", "<b>bold</b>", "dahlia", "none")
EXECUTABLE = find_chromium()

if EXECUTABLE is None:
    pytest.skip("no Chromium found; MCA_CHROMIUM names one", allow_module_level=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    sizes = [30, 12, 3, 1, 20]
    assignments = np.repeat(np.arange(5), sizes)
    paths = [
        f"{'folder ' * 9}/{'y' * 90}<script>alert(1)</script>{row}.jpg"
        for row in range(66)
    ]
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
    # One that runs, and one that only holds what the map shows.
    assert count(browser, "script") == 2
    assert count(browser, "script[type='application/json']") == 1
    # Also those that wait to be scrolled to.
    edges = browser.evaluate(
        "Promise.all([...document.images].filter(i => i.src).map(i => new Promise("
        "(done, fail) => { const copy = new Image(); copy.onerror = fail;"
        " copy.onload = () => done(copy.naturalWidth); copy.src = i.src; })))"
    )
    assert set(edges) == {192}
    assert len(edges) > 40
    # No name of a file was run.
    opened = [event.get("method") for event in browser.events]
    assert "Page.javascriptDialogOpening" not in opened
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


def painted(browser, name="map-canvas"):
    """Share of a canvas that something is drawn on."""
    return browser.evaluate(
        "new Promise(done => requestAnimationFrame(() => setTimeout(() => {"
        f" const canvas = document.getElementById('{name}');"
        " const copy = new OffscreenCanvas(canvas.width, canvas.height);"
        " const context = copy.getContext('2d', {willReadFrequently: true});"
        " context.drawImage(canvas, 0, 0);"
        " const pixels = context.getImageData(0, 0, copy.width, copy.height).data;"
        " let drawn = 0;"
        " for (let i = 3; i < pixels.length; i += 4) drawn += pixels[i] > 0;"
        " done(4 * drawn / pixels.length); }, 50)))"
    )


def text_of(browser, name):
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def focus_map(browser):
    browser.evaluate(
        "document.getElementById('map-canvas').scrollIntoView({block: 'center'});"
        "document.getElementById('map-canvas').focus()"
    )


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_map_is_drawn_and_its_labels_do_not_overlap(browser, report, width, dark):
    browser.open(report, width=width, dark=dark)
    focus_map(browser)
    assert painted(browser) > 0.002
    # Left, right and middle of each label, all of one height.
    labels = browser.evaluate(
        "JSON.parse(document.getElementById('map-stage').dataset.labels)"
    )
    assert 2 <= len(labels) <= 5
    for place, (left, right, middle) in enumerate(labels):
        assert 0 <= left < right <= width
        for other in labels[:place]:
            apart = left > other[1] or right < other[0] or abs(middle - other[2]) >= 20
            assert apart, (labels[place], other)
    assert browser.complaints() == []


def test_the_map_with_the_keyboard_alone(browser, report):
    browser.open(report)
    focus_map(browser)
    assert browser.evaluate("document.getElementById('map-tip').hidden")
    browser.press("ArrowRight")
    first = text_of(browser, "map-path")
    assert re.search(r"<script>alert\(1\)</script>\d+\.jpg$", first)
    assert browser.evaluate("document.getElementById('map-tip').checkVisibility()")
    assert text_of(browser, "map-live").startswith(first)
    browser.press("ArrowLeft")
    second = text_of(browser, "map-path")
    assert second != first
    browser.press("ArrowDown")
    assert text_of(browser, "map-path") not in ("", second)
    # The picture itself, not an empty frame.
    assert painted(browser, "map-picture") == 1
    browser.press("Escape")
    assert browser.evaluate("document.getElementById('map-tip').hidden")
    browser.press("ArrowRight")
    cluster = browser.evaluate("document.getElementById('map-link').hash")
    browser.press("Enter", "\r")
    assert browser.evaluate("location.hash") == cluster
    assert browser.complaints() == []


def mouse(browser, kind, x, y, **more):
    browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def find_point(browser):
    """Move over the map until a picture shows up; where that was."""
    box = browser.evaluate(
        "(() => { const b = document.getElementById('map-canvas')"
        ".getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    for step in range(400):
        x = box[0] + box[2] * (0.05 + 0.9 * (step % 20) / 20)
        y = box[1] + box[3] * (0.05 + 0.9 * (step // 20) / 20)
        mouse(browser, "mouseMoved", x, y)
        if not browser.evaluate("document.getElementById('map-tip').hidden"):
            return x, y
    raise AssertionError("no image anywhere under the mouse")


def test_the_map_with_a_mouse(browser, report):
    browser.open(report)
    browser.evaluate("document.getElementById('map-stage').scrollIntoView()")
    x, y = find_point(browser)
    assert text_of(browser, "map-path").endswith(".jpg")
    # A press keeps it, and its link can be followed.
    fixed = "document.getElementById('map-tip').classList.contains('fixed')"
    assert not browser.evaluate(fixed)
    for kind in ("mousePressed", "mouseReleased"):
        mouse(browser, kind, x, y, button="left", clickCount=1)
    assert browser.evaluate(fixed)
    before = painted(browser)
    browser.evaluate("document.getElementById('map-in').click()")
    browser.evaluate("document.getElementById('map-in').click()")
    assert browser.evaluate(
        "document.getElementById('map-canvas').style.touchAction"
    ) == ("none")
    assert painted(browser) != before
    browser.evaluate("document.getElementById('map-reset').click()")
    assert browser.evaluate("document.getElementById('map-tip').hidden")
    assert painted(browser) == pytest.approx(before, rel=0.2)
    assert browser.complaints() == []


def test_a_tap_shows_the_picture(browser, report):
    browser.open(report, width=375, height=812)
    browser.evaluate("document.getElementById('map-stage').scrollIntoView()")
    x, y = find_point(browser)
    browser.open(report, width=375, height=812)
    browser.evaluate("document.getElementById('map-stage').scrollIntoView()")
    point = [{"x": x, "y": y}]
    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=point)
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert not browser.evaluate("document.getElementById('map-tip').hidden")
    outside = browser.evaluate(
        "document.getElementById('map-tip').getBoundingClientRect().right > innerWidth"
    )
    assert not outside


def test_a_card_leads_to_its_place_on_the_map(browser, report):
    browser.open(report)
    browser.evaluate("document.querySelector('#cluster-4 .on-map').click()")
    assert browser.evaluate("document.getElementById('map-cluster').value") == "4"
    assert text_of(browser, "map-live") == "dahlia: 20 images on the map"
    painted(browser)
    labels = browser.evaluate(
        "JSON.parse(document.getElementById('map-stage').dataset.labels)"
    )
    assert len(labels) == 1


def test_pictures_beside_the_page(browser, tmp_path):
    paths = [f"<script>alert({row})</script>'\"%41?#.jpg" for row in range(24)]
    paths = [path.replace("/", "_") for path in paths]
    result = build_result(tmp_path / "images", num_images=24, paths=paths)
    built = build_report(result, thumbnails="beside")
    (tmp_path / "report_files").mkdir()
    for name, content in built.files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "report.html").write_text(built.html, encoding="utf-8")
    browser.open(tmp_path / "report.html")
    widths = browser.evaluate(
        "Promise.all([...document.images].filter(i => i.src).map(i => new Promise("
        "(done, fail) => { const copy = new Image(); copy.onerror = fail;"
        " copy.onload = () => done(copy.naturalWidth); copy.src = i.src; })))"
    )
    assert set(widths) == {192}
    focus_map(browser)
    browser.press("ArrowRight")
    assert text_of(browser, "map-path") in paths
    assert not browser.evaluate("document.getElementById('map-picture').hidden")
    assert browser.complaints() == []


def test_on_paper(browser, report):
    browser.open(report, dark=True)
    answer = browser.send("Page.printToPDF", printBackground=True)
    assert base64.b64decode(answer["data"]).startswith(b"%PDF")
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        for selector in (".toolbar", ".contents", ".map-bar", "#map-help"):
            shown = f"document.querySelector('{selector}').checkVisibility()"
            assert not browser.evaluate(shown), selector
        colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", colour)[:3])) > 700
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")
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
