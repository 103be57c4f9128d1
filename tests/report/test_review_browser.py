"""The review in a real browser, without a window, over a server of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from chromium_pipe import Chromium, find_chromium
from small_reviews import write_run

pytest.importorskip("uvicorn", reason="the extra review is not installed")


@contextmanager
def served(run, *flags):
    """Start ``mca-jax review``; yield its process and address."""
    command = [sys.executable, "-m", "mca_jax.pipeline.command_line.main", "review"]
    process = subprocess.Popen(
        [*command, str(run), "--nobrowser", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def ask(address, path, body=None):
    host = "/".join(address.split("/")[:3])
    headers = {"origin": host, "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def rename(address, version, name):
    body = {"version": version, "action": "rename", "group": 0, "name": name}
    return ask(address, "tell/edit", body)


@pytest.mark.slow
def test_a_server_that_is_killed_loses_nothing(tmp_path):
    run = write_run(tmp_path)
    with served(run) as (process, address):
        for version in range(5):
            rename(address, version, f"name {version}")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(run) as (process, again):
        # Another token: the address of before is worth nothing.
        assert address.split("/")[3] != again.split("/")[3]
        old = f"{'/'.join(again.split('/')[:3])}/{address.split('/')[3]}/ask/state"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(old, timeout=20)
        state = ask(again, "ask/state")
        assert (state["version"], state["groups"][0]["name"]) == (5, "name 4")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Ended; 5 edits are kept" in out
    assert err == ""


WAIT = """new Promise((done, fail) => {
  const start = performance.now();
  const look = () => {
    if (%s) done(performance.now() - start);
    else if (performance.now() - start > %d) fail(new Error('never'));
    else setTimeout(look, 10);
  };
  look();
})"""


class Page:
    """What a person does, by mouse and by keys."""

    def __init__(self, browser):
        self.browser = browser

    def wait(self, condition, *, seconds=40):
        return self.browser.evaluate(WAIT % (condition, 1000 * seconds))

    def names(self):
        return self.browser.evaluate(
            "[...document.querySelectorAll('.group .label')].map(e => e.textContent)"
        )

    def click(self, selector):
        self.browser.evaluate(f"document.querySelector({selector!r}).click()")

    def settle(self, version):
        self.wait(
            f"state && state.version === {version} "
            f"&& document.body.dataset.ready === '{version}'"
        )

    def drag(self, source, target):
        """Drag one thing onto another, as a browser tells a page of it."""
        self.browser.evaluate(
            "(() => { const data = new DataTransfer();"
            f" const from = document.querySelector({source!r});"
            f" const to = document.querySelector({target!r});"
            " const tell = (node, kind) => node.dispatchEvent(new DragEvent(kind,"
            " {bubbles: true, cancelable: true, dataTransfer: data}));"
            " tell(from, 'dragstart'); tell(to, 'dragover'); tell(to, 'drop');"
            " tell(from, 'dragend'); })()"
        )


def complaints(browser):
    own = [each for each in browser.complaints() if not each.startswith("request for")]
    asked = [each for each in browser.complaints() if each.startswith("request for")]
    assert all("http://127.0.0.1:" in each for each in asked), asked
    return own


def rename_merge_and_split(page):
    browser = page.browser
    # Rename, by keys.
    browser.evaluate("document.querySelector('#group0').focus()")
    browser.press("r", "r")
    page.wait("document.getElementById('dialog').open")
    page.wait("document.querySelectorAll('.chips button').length > 0")
    browser.evaluate("document.getElementById('new-name').value = '<b>mine</b>'")
    browser.press("Enter", "\r")
    page.settle(1)
    assert page.names()[0] == "<b>mine</b>"
    assert browser.evaluate("document.querySelectorAll('main b, nav b').length") == 0
    # Merge, by dragging.
    page.drag("#group1", "#group0")
    page.settle(2)
    assert page.names()[:1] == ["<b>mine</b>"]
    assert len(page.names()) == 4
    # Split, by keys.
    browser.evaluate("document.querySelector('#group0').focus()")
    browser.press("s", "s")
    page.wait("document.getElementById('parts')")
    browser.press("Enter", "\r")
    page.settle(3)
    assert len(page.names()) == 5


def move_and_mark(page):
    browser = page.browser
    page.click("#group2")
    page.wait("view.group === 2 && shown.total === 30")
    browser.evaluate("document.querySelector('.picture').focus()")
    browser.press(" ", " ")
    browser.press("ArrowRight")
    browser.press(" ", " ")
    assert browser.evaluate("selected.size") == 2
    browser.press("v", "v")
    page.wait("document.querySelectorAll('.choices button').length === 3")
    browser.press("ArrowDown")
    browser.press("Enter", "\r")
    page.settle(4)
    assert browser.evaluate("[shown.total, state.placed]") == [28, 2]
    page.drag(".picture", "#group3")
    page.settle(5)
    browser.evaluate("document.querySelector('.picture').focus()")
    browser.press("o", "o")
    page.settle(6)
    assert browser.evaluate("[state.nowhere, shown.total]") == [1, 26]
    # Whoever goes on by keys stands where the picture was.
    assert browser.evaluate("document.activeElement.className") == "picture"
    browser.press("x", "x")
    page.settle(7)
    browser.press("d", "d")
    page.settle(8)
    assert browser.evaluate("document.querySelectorAll('#group-2').length") == 1


def undo_in_another_window(page, address):
    for version in range(8, 13):
        ask(address, "tell/edit", {"version": version, "action": "undo"})
    page.settle(13)
    assert page.browser.evaluate("[state.placed, state.nowhere]") == [0, 0]
    page.browser.press("U", "U")
    page.settle(14)
    assert page.browser.evaluate("state.placed") == 2
    page.browser.press("u", "u")
    page.settle(15)


def answer_and_learn(page):
    """Answer questions by keys, and say of one that nobody can tell; then learn."""
    browser = page.browser
    title = "document.getElementById('dialog-title').textContent"
    groups = "document.querySelectorAll('.which .choices button').length"
    place = "document.querySelector('.question').textContent.includes('%d of')"
    browser.press("q", "q")
    page.wait("document.querySelector('.which figure img')")
    # One group: the picture is put there.
    assert browser.evaluate(groups) == 4
    browser.press("1", "1")
    page.settle(16)
    assert browser.evaluate("state.placed") == 1
    page.wait(place % 2)
    browser.press("s", "s")
    page.wait("skipped.length > 0")
    page.wait(place % 3)
    # Two groups: they are one, which waits until it is learnt.
    before = browser.evaluate("state.groups.length")
    for key in "m12":
        browser.press(key, key)
    pressed = "document.querySelectorAll('[aria-pressed=true]').length"
    assert browser.evaluate(pressed) == 2
    browser.press("Enter", "\r")
    page.settle(18)
    assert browser.evaluate("state.groups.length") == before
    assert browser.evaluate("[state.placed, state.said]") == [2, 3]
    # None: it begins a group.
    page.wait("!document.querySelector('.question').textContent.includes('3 of')")
    browser.press("n", "n")
    page.settle(19)
    browser.press("Escape")
    page.wait("!document.getElementById('dialog').open")
    assert not browser.evaluate("document.getElementById('open-learn').hidden")
    browser.press("L", "L")
    page.wait("document.getElementById('take-lesson')")
    assert browser.evaluate(title) == "Learn from this"
    assert browser.evaluate("state.version") == 19
    page.click("#take-lesson")
    page.settle(20)
    assert browser.evaluate("state.undo").startswith("Learn: ")


def keep_and_export(page):
    browser = page.browser
    browser.press("t", "t")
    page.wait("document.querySelectorAll('.nodes li').length > 1")
    browser.press("Escape")
    browser.press("k", "k")
    page.wait("document.querySelector('#dialog-body input[type=text]')")
    browser.evaluate("document.querySelector('#dialog-body input').value = 'v1'")
    browser.press("Enter", "\r")
    page.settle(21)
    page.wait("document.querySelectorAll('.choices button').length === 2")
    browser.press("Escape")
    browser.press("e", "e")
    page.wait("document.getElementById('export-csv')")
    page.click("#export-csv")
    said = "document.querySelector('#dialog-body [role=status]').textContent"
    page.wait(f"{said}.startsWith('Written')")


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium found")
def test_a_review_from_opening_to_export(tmp_path):
    run = write_run(tmp_path, pictures=120)
    with (
        served(run) as (_, address),
        Chromium(find_chromium(), tmp_path / "profile") as browser,
    ):
        page = Page(browser)
        browser.open(address)
        page.settle(0)
        assert len(page.names()) == 5
        page.wait("[...document.images].some(each => each.naturalWidth === 192)")
        rename_merge_and_split(page)
        move_and_mark(page)
        undo_in_another_window(page, address)
        answer_and_learn(page)
        # What an edit complained of is not wiped away before anybody could read it.
        stays = "(async () => { trouble(new Error('no')); await poll(); "
        assert not browser.evaluate(stays + "return $('trouble').hidden; })()")
        keep_and_export(page)
        table = run / "review" / "exports" / "0001" / "assignments.csv"
        assert len(table.read_text("utf-8").splitlines()) == 121
        assert complaints(browser) == []
        for width in (320, 390, 768, 1280):
            browser.open(address, width=width)
            page.settle(21)
            assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert complaints(browser) == []
