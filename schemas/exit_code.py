"""The exit code of a process -> how it ended, in words."""

from __future__ import annotations

import signal


def how_it_ended(code: int | None) -> str:
    """'was killed by SIGKILL', or 'ended with exit code 3'. Python gives a process that a signal ended the negative of its number."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # most of the real-time signals have no name
        return f"was killed by signal {-code}"


def how_its_process_died(code: int | None, missing: str) -> str:
    """The same of a process that was to give something, and what that was: 'an outcome'."""
    how = f"its process {how_it_ended(code)}"
    if code is None or code >= 0:
        return f"{how} before it had {missing}"
    return f"{how} (out of memory is the usual cause)" if code == -signal.SIGKILL else how
