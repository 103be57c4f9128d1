"""One line, seldom enough, with a rate and a time that can be checked by hand."""

from __future__ import annotations

import io

import pytest

from mca_jax.core.terminal import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Whether it is one."""
        return True

    def lines(self) -> list[str]:
        """Everything that was on the line, one after the other."""
        return [line.rstrip() for line in self.getvalue().split("\r")[1:]]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        """Start at a time that isn't zero."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


@pytest.fixture
def clock():
    return Clock()


def test_rate_and_time_left(stream, clock):
    bar = Progress("Embedding", 1000, stream=stream, clock=clock)
    for _ in range(4):
        clock.now += 1
        bar.update(50)
    # 200 in 4 s: 50 a second, 800 left take 16 s.
    assert stream.lines() == [
        "Embedding: 0/1000 0%",
        "Embedding: 50/1000 5%, 50 images/s, 0:19 left",
        "Embedding: 100/1000 10%, 50 images/s, 0:18 left",
        "Embedding: 150/1000 15%, 50 images/s, 0:17 left",
        "Embedding: 200/1000 20%, 50 images/s, 0:16 left",
    ]


def test_rate_is_that_of_the_last_seconds(stream, clock):
    bar = Progress("Embedding", 100_000, stream=stream, clock=clock)
    clock.now += 1
    # From a cache, at once.
    bar.update(90_000)
    for _ in range(40):
        clock.now += 1
        bar.update(10)
    # 20 seconds ago it was 90,200; the 9,600 left take 960 s.
    assert stream.lines()[-1] == "Embedding: 90400/100000 90%, 10 images/s, 16:00 left"


def test_at_most_ten_lines_a_second(stream, clock):
    bar = Progress("Embedding", 100_000, stream=stream, clock=clock)
    for _ in range(2000):
        clock.now += 0.001
        bar.update()
    # The first line, and one each tenth of two seconds, but for rounding.
    assert 19 <= len(stream.lines()) <= 21


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0:00"), (7, "0:07"), (754, "12:34"), (3723, "1:02:03")],
)
def test_summary(stream, clock, seconds, shown):
    with Progress("Reading", 3, unit="files", stream=stream, clock=clock) as bar:
        bar.update(3)
        clock.now += seconds
    summary = stream.getvalue().split("\r")[-1]
    assert summary.startswith(f"Reading: 3 files in {shown}, ")
    assert summary.endswith(" files/s\n")


def test_summary_gives_the_overall_rate(stream, clock):
    with Progress("Embedding", 500, stream=stream, clock=clock) as bar:
        clock.now += 4
        bar.update(500)
    assert stream.lines()[-1] == "Embedding: 500 images in 0:04, 125 images/s"


def test_summary_when_stopped(stream, clock):
    def work():
        with Progress("Embedding", 500, stream=stream, clock=clock) as bar:
            bar.update(120)
            clock.now += 60
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    expected = "Embedding: stopped at 120 of 500 images in 1:00, 2 images/s"
    assert stream.lines()[-1] == expected


def test_unknown_total(stream, clock):
    with Progress("Embedding", stream=stream, clock=clock) as bar:
        clock.now += 1
        bar.update(3)
    assert stream.lines() == [
        "Embedding: 0",
        "Embedding: 3, 3 images/s",
        "Embedding: 3 images in 0:01, 3 images/s",
    ]


def test_nothing_to_do(stream, clock):
    with Progress("Embedding", 0, stream=stream, clock=clock):
        pass
    assert stream.lines() == ["Embedding: 0/0 100%", "Embedding: 0 images in 0:00"]


def test_a_shorter_line_covers_a_longer_one(stream, clock):
    with Progress("Embedding", 10_000, stream=stream, clock=clock) as bar:
        clock.now += 1
        bar.update(1)
        clock.now += 100
        bar.update(9_999)
    lines = stream.getvalue().rstrip("\n").split("\r")[1:]
    for before, after in zip(lines, lines[1:], strict=False):
        assert len(after) >= len(before.rstrip())


def test_fits_the_terminal(stream, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    with Progress("Embedding", 1000, stream=stream, clock=clock) as bar:
        clock.now += 1
        bar.update(50)
    assert all(len(line) <= 19 for line in stream.lines())


def test_quiet_when_not_a_terminal(clock):
    stream = io.StringIO()
    with Progress("Embedding", 2, stream=stream, clock=clock) as bar:
        clock.now += 1
        bar.update(2)
    assert stream.getvalue() == ""


def test_standard_error_is_the_default(capsys, monkeypatch, clock):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("Embedding", 2, clock=clock):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Embedding: 0/2 0%" in captured.err


def test_no_standard_error(monkeypatch):
    # As in a program without a console on Windows.
    monkeypatch.setattr("sys.stderr", None)
    with Progress("Embedding", 2) as bar:
        bar.update(2)


def test_a_closed_terminal_does_not_end_the_work(stream, clock):
    bar = Progress("Embedding", 2, stream=stream, clock=clock)
    stream.close()
    clock.now += 1
    bar.update(2)
    bar.close()


def test_closing_twice(stream, clock):
    bar = Progress("Embedding", 2, stream=stream, clock=clock)
    bar.close()
    bar.close(finished=False)
    clock.now += 1
    bar.update(1)
    assert len(stream.lines()) == 2
