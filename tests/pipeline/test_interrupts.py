"""A signal reaches its handler when nothing is half done, and not before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from pipeline.interrupts import KeptBack, ctrl_c_blocked, like_ctrl_c, stopping, unblock_ctrl_c


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # whoever runs the tests (nohup) may have it ignored
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # to this thread: another one may not have it blocked


def test_a_signal_is_kept_back_until_it_is_allowed() -> None:
    done = []

    def work() -> None:
        with KeptBack() as signals:
            press_ctrl_c()
            done.append("half")
            done.append("whole")
            with signals.allowed():
                done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["half", "whole"]


def test_a_signal_that_is_allowed_raises_at_once() -> None:
    done = []

    def work() -> None:
        with KeptBack() as signals, signals.allowed():
            press_ctrl_c()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []


def test_a_signal_that_never_was_allowed_comes_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), KeptBack():
        press_ctrl_c()


def test_an_exception_is_not_hidden_by_the_signal_that_came_meanwhile() -> None:
    def work() -> None:
        with KeptBack():
            press_ctrl_c()
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        work()


def test_the_handlers_are_as_before() -> None:
    with KeptBack() as signals, signals.allowed():
        pass
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_of_the_users_that_does_not_raise_is_called_once() -> None:
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))

    with KeptBack() as signals:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        assert called == []
        with signals.allowed():
            assert called == [signal.SIGTERM]
    assert called == [signal.SIGTERM]


def test_outside_the_main_thread_nothing_happens() -> None:
    ended = []

    def work() -> None:
        with KeptBack() as signals, signals.allowed():
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_is_like_ctrl_c(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), like_ctrl_c():
        signal.pthread_kill(threading.get_ident(), number)
    assert signal.getsignal(number) == signal.SIG_DFL


def test_what_is_ignored_or_somebody_elses_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, len)

    with like_ctrl_c():
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGTERM) is len


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_stops_by_itself_is_asked_to_and_told_by_which_signal(number: signal.Signals) -> None:
    asked = []

    with stopping(lambda: asked.append(1)) as by:
        assert by.signal is None
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)

    assert asked == [1, 1]
    assert by.signal == number
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_is_ignored_asks_nobody_to_stop() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked = []

    with stopping(lambda: asked.append(1)):
        signal.raise_signal(signal.SIGHUP)

    assert asked == []


def test_ctrl_c_that_was_blocked_comes_afterwards() -> None:
    done = []

    def work() -> None:
        with ctrl_c_blocked():
            press_ctrl_c()
            done.append("inside")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inside"]


def test_unblocking_undoes_what_a_process_was_started_with() -> None:
    with ctrl_c_blocked():
        unblock_ctrl_c()
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
