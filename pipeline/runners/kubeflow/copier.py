"""A process that copies what it reads to standard output and to the end of a file, until nobody can write to it any more.

Run as a script, by its path: it imports nothing of ours, and is at work in an instant.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_CHUNK = 1 << 16


def copy(log: str) -> None:
    """Copy standard input. What one of the two places does not take is still written to the other."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they end the step, whose last words are still to come
    places = [1]
    with suppress(OSError):
        places.append(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666))
    while said := os.read(0, _CHUNK):
        for place in places:
            left = said
            with suppress(OSError):  # nobody listens, or the disk is full
                while left:
                    left = left[os.write(place, left) :]


if __name__ == "__main__":
    copy(sys.argv[1])
