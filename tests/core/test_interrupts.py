"""Signals: held back once, never lost, never held for good."""

import os
import signal
import threading

import pytest

from mca_jax.core.interrupts import Interrupted, hold_interrupts, raise_on_sigterm

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
