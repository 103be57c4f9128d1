"""Signals: held back once, never lost, never held for good."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mca_jax.core.interrupts import (
    Interrupted,
    end_on_interrupt,
    hold_interrupts,
    raise_on_sigterm,
)

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers_as_before():
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_waits_for_who_holds_it(signum):
    seen = []

    def work():
        with hold_interrupts() as pending:
            seen.append(pending.signum)
            send(signum)
            seen.append(pending.signum)

    with pytest.raises(Interrupted) as caught:
        work()
    assert seen == [None, signum]
    assert caught.value.signum == signum


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_second_signal_is_raised_at_once(signum):
    reached = []

    def work():
        with hold_interrupts():
            send(signum)
            reached.append("first")
            send(signum)
            reached.append("second")

    with pytest.raises(Interrupted):
        work()
    assert reached == ["first"]


def test_afterwards_the_handlers_are_those_before():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with hold_interrupts():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_is_held_where_no_signal_arrives():
    with hold_interrupts(active=False), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    told = []

    def hold():
        with hold_interrupts() as pending:
            told.append(pending.signum)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert told == [None]


def test_sigterm_is_ctrl_c_with_another_number():
    raise_on_sigterm()
    with pytest.raises(KeyboardInterrupt) as caught:
        send(signal.SIGTERM)
    assert isinstance(caught.value, Interrupted)
    assert caught.value.signum == signal.SIGTERM


def test_while_nothing_has_begun_ctrl_c_ends_the_process_in_one_line():
    # The handler is Python's own again after the block.
    program = """
import os, signal
from mca_jax.core.interrupts import end_on_interrupt
with end_on_interrupt():
    pass
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("as before", flush=True)
with end_on_interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    print("never")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 130
    assert done.stdout == "as before\n"
    assert done.stderr == "\nInterrupted: nothing was begun\n"


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda signum, frame: None])
def test_another_handler_stays(handler):
    signal.signal(signal.SIGINT, handler)
    with end_on_interrupt():
        assert signal.getsignal(signal.SIGINT) is handler
        send(signal.SIGINT)
