"""Progress that is told on, not at every call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from schemas.component import Progress


class SpacedProgress(Progress):
    """Tells on how far a step is: at most once in `every_s` seconds, and always at the end."""

    def __init__(self, tell: Callable[[int, int | None, str], None], every_s: float) -> None:
        self._tell = tell
        self._every_s = every_s
        self._last = -math.inf

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        now = time.monotonic()
        if now - self._last >= self._every_s or done == total:
            self._last = now
            self._tell(done, total, unit)
