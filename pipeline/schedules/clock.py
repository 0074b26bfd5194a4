"""The time of day, and waiting for it: what a scheduler asks of the machine, so that a test can play days in no time."""

from __future__ import annotations

import contextlib
import queue
from datetime import UTC, datetime
from typing import Protocol

_LOOK_S = 30.0  # a clock that was set, a machine that slept and a changed file are noticed after this at the latest


class Wake:
    """Ends a wait before its time. May be set from other threads and from signal handlers."""

    def __init__(self) -> None:
        self._set: queue.SimpleQueue[None] = queue.SimpleQueue()  # the one thing that a signal handler may put into

    def set(self) -> None:
        """End the wait that goes on, or the next one."""
        self._set.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Whether it was set, now or within `timeout_s`."""
        try:
            self._set.get(block=timeout_s > 0, timeout=timeout_s or None)
        except queue.Empty:
            return False
        with contextlib.suppress(queue.Empty):  # one wait answers all that came
            while True:
                self._set.get_nowait()
        return True


class Clock(Protocol):
    """Tells the time and waits. It may go wrong: it is set forward and back, and machines sleep."""

    def now(self) -> datetime:
        """This moment, in UTC."""
        ...

    def wait_until(self, moment: datetime | None, wake: Wake) -> None:
        """Return at `moment`, when `wake` is set, or earlier for no reason. None: only then."""
        ...


class SystemClock:
    """This machine's."""

    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.now(UTC)

    def wait_until(self, moment: datetime | None, wake: Wake) -> None:
        """Return at `moment`, when `wake` is set, or after half a minute."""
        left_s = _LOOK_S if moment is None else (moment - self.now()).total_seconds()
        wake.wait(min(max(left_s, 0.0), _LOOK_S))
