"""Calls -> how long each takes, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

WARM_UP_CALLS = 20
CALLS = 200


def medians_ms(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """The median duration of each call in milliseconds, by name.

    After a warm-up every call is made CALLS times, one at a time and in turns, so that a busy moment of the machine falls on
    all of them. How many threads a call uses is up to it.
    """
    for call in calls.values():
        for _ in range(WARM_UP_CALLS):
            call()
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) * 1000 for name, times in took.items()}
