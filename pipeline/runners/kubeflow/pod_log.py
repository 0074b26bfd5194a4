"""What a pod prints goes to two places: its own log, which `kubectl logs` and the UI show, and the step's log in the store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.runners.kubeflow import copier

_DRAIN_S = 10.0  # how long the last lines may take, when something that the step started still holds the other end


@contextlib.contextmanager
def copied_to(log: Path) -> Iterator[None]:
    """Copy everything that this process and what it starts print to the end of `log` too, also from C++.

    A process of its own copies: a thread would stand still while C++ prints with Python's lock held. It outlives a killed
    step long enough to write its last words. A log that cannot be written is done without. Processes that were started
    inside and are still there are ended: they have nobody to work for, and would keep the log, and with it the pod, open.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    others = _children(os.getpid())
    reading, writing = os.pipe()
    copying = subprocess.Popen([sys.executable, "-I", "-S", copier.__file__, str(log)], stdin=reading)
    os.close(reading)
    kept = os.dup(1), os.dup(2)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    before = sys.stdout, sys.stderr
    # By lines: what was printed before a crash is what one looks for. New ones, since the old ones may take the pipe for a file.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr, *before):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before
        for descriptor, standard in zip(kept, (1, 2), strict=True):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        _end_all_but({copying.pid, *others})
        try:
            copying.wait(_DRAIN_S)
        except subprocess.TimeoutExpired:
            copying.kill()
            copying.wait()


def _end_all_but(kept: Collection[int]) -> None:
    """Kill every process that this one started, and what they started, but for some."""
    waiting = [pid for pid in _children(os.getpid()) if pid not in kept]
    while waiting:
        pid = waiting.pop()
        waiting += _children(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """The processes that a process started; none where the system does not tell."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text(encoding="ascii").split())
    return found
