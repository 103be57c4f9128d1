"""Progress on a terminal and nowhere else; stages and their times."""

import io
from types import SimpleNamespace

import pytest

from mca_jax.core import progress
from mca_jax.core.progress import Clock, NoCallback, progress_bar


class Terminal(io.StringIO):
    """A stream that says it is a terminal, though not how wide."""

    def isatty(self):
        return True

    def lines(self):
        return [line.rstrip() for line in self.getvalue().split("\r")[1:]]


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    return stream


def test_count_rate_and_time_left_are_shown(terminal):
    with progress_bar("Embedding", 1000, unit="images", mininterval=0) as bar:
        bar.start_t = bar.last_print_t = bar.start_t - 4
        bar.update(200)
    first, middle, last = terminal.lines()
    assert first.startswith("Embedding:   0%|")
    # 200 in 4 s: 50 a second, 800 left take 16 s.
    assert middle.endswith("| 200/1000 [00:04<00:16, 50.00 images/s]")
    assert last.endswith("50.00 images/s]")
    assert all(len(line) <= 80 for line in terminal.lines())


def test_an_interrupt_passes_and_leaves_the_count(terminal):
    def work():
        with progress_bar("Embedding", 500) as bar:
            bar.update(120)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "120/500" in terminal.lines()[-1]
    assert terminal.getvalue().endswith("\n")


def test_an_unknown_total(terminal):
    with progress_bar("Unpacking", unit="files") as bar:
        bar.update(3)
    assert terminal.lines()[-1].startswith("Unpacking: 3 files [00:00, ")


def test_a_log_file_gets_nothing(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    with progress_bar("Embedding", 2) as bar:
        bar.update(2)
    assert stream.getvalue() == ""


def test_no_standard_error(monkeypatch):
    # As in a program without a console on Windows.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=None))
    with progress_bar("Embedding", 2) as bar:
        bar.update(2)


def test_a_closed_terminal_does_not_end_the_work(terminal):
    bar = progress_bar("Embedding", 2, mininterval=0)
    terminal.close()
    bar.update(2)
    bar.close()


def test_stages_are_reported_and_timed():
    events = []

    class Recorded(NoCallback):
        def start(self, stage, total):
            events.append((stage, total))

        def log(self, event, values):
            events.append((event, values["stage"]))

    clock = Clock(Recorded())
    clock.report_stage("Embedding", 3)
    clock.report_stage("Training")
    clock.stop()
    clock.stop()
    assert events == [
        *(("Embedding", 3), ("stage", "Embedding")),
        *(("Training", None), ("stage", "Training")),
    ]
    assert list(clock.seconds) == ["Embedding", "Training"]
    assert min(clock.seconds.values()) >= 0
