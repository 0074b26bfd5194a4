"""This machine's clock waits until its moment, and no longer than until it is woken."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime, timedelta

from pipeline.schedules.clock import SystemClock, Wake


def test_a_moment_that_comes_is_waited_for() -> None:
    clock = SystemClock()
    clock.wait_until(clock.now() - timedelta(days=1), Wake())  # one that is past is not
    moment = clock.now() + timedelta(seconds=0.05)

    while clock.now() < moment:
        clock.wait_until(moment, Wake())

    assert datetime.now(UTC) >= moment


def test_a_wait_ends_when_it_is_woken_before_or_meanwhile() -> None:
    clock, wake = SystemClock(), Wake()
    wake.set()
    clock.wait_until(None, wake)

    waker = threading.Thread(target=wake.set)
    waker.start()
    assert wake.wait(60)
    waker.join()


def test_a_signal_handler_may_wake_it() -> None:
    wake = Wake()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: wake.set())
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert wake.wait(60)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_wait_answers_all_that_came() -> None:
    wake = Wake()
    wake.set()
    wake.set()

    assert wake.wait(0)
    assert not wake.wait(0)
