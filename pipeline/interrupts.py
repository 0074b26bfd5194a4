"""Signals that stop a run: kept back while something is half done, and delivered at the next moment when nothing is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM (schedulers, Kubernetes) and SIGHUP (a closed terminal) raise KeyboardInterrupt, as Ctrl-C does.

    A signal that is ignored (nohup) or has a handler of somebody else's stays so.
    """
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


class Asked:
    """Which signal asked for the end first; None: none did."""

    signal: int | None = None


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[Asked]:
    """Have the signals that stop a run call `stop` in the place of raising. One that is ignored (nohup) stays so.

    Outside the main thread, where no handler can be put in place, this does nothing.
    """
    asked = Asked()

    def came(number: int, frame: FrameType | None) -> None:
        asked.signal = asked.signal or number
        stop()

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, came)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach until they say so: they inherit what is blocked here, for this instant."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_ctrl_c() -> None:
    """Undo in a process what it was started with."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class KeptBack:
    """A context in which the stopping signals that have a handler reach it only inside `allowed`, or when the context ends.

    Python runs handlers between any two instructions. An exception from one may come when a process has been started and
    not yet been noted, or in the middle of a transaction. Outside the main thread, where no handler runs, this does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._waiting: int | None = None
        self._allowed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._came)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self._deliver()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Where a handler may raise. One that was kept back is called at once."""
        self._allowed = True
        try:
            self._deliver()
            yield
        finally:
            self._allowed = False

    def _came(self, number: int, frame: FrameType | None) -> None:
        self._waiting = number
        if self._allowed:
            self._deliver()

    def _deliver(self) -> None:
        if self._waiting is not None:
            number, self._waiting = self._waiting, None
            self._handlers[number](number, None)
