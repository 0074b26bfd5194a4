"""What a pod prints goes to two places: its own log, which `kubectl logs` and the UI show, and the step's log in the store."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_CHUNK = 1 << 16
_DRAIN_S = 10.0  # how long the last lines may take, when something that the step started still holds the other end


@contextlib.contextmanager
def copied_to(log: Path) -> Iterator[None]:
    """Copy everything that this process and what it starts print to the end of `log` too, also from C++.

    A process of its own copies: a thread would stand still while C++ prints with Python's lock held. It outlives a killed
    step long enough to write its last words. A log that cannot be written is done without. Processes that were started
    inside and are still there are ended: they have nobody to work for, and would keep the log, and with it the pod, open.
    """
    others = set(_children(os.getpid()))
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    copier = os.fork()
    if copier == 0:
        code = 1
        try:
            os.close(writing)
            _copy(reading, log)
            code = 0
        finally:
            os._exit(code)
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
        _end_all_but({copier, *others})
        _await(copier)


def _copy(reading: int, log: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they end the step, whose last words are still to come
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError:
        file = -1
    while said := os.read(reading, _CHUNK):
        with contextlib.suppress(OSError):
            _write(1, said)
        if file >= 0:
            with contextlib.suppress(OSError):  # the disk is full: the pod's own log has it
                _write(file, said)


def _write(descriptor: int, said: bytes) -> None:
    while said:
        said = said[os.write(descriptor, said) :]


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


def _await(copier: int) -> None:
    """Let the copier write the last lines. It ends with the last process that may still print."""
    deadline = time.monotonic() + _DRAIN_S
    while os.waitpid(copier, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(copier, signal.SIGKILL)
            os.waitpid(copier, 0)
            return
        time.sleep(0.01)
