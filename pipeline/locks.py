"""File locks that end with their holder, and say who that is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.owner import Owner

_POLL_S = 0.1


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor that holds the lock on `path`, made if need be; None when somebody else holds it.

    The lock ends with the last process that has the descriptor, so a forked child keeps it while it lives.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            held = _is_file_at(descriptor, path)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if held:
            return descriptor
        os.close(descriptor)  # the holder before us removed the file: what is locked now is nobody's lock


def unlock(descriptor: int, path: Path) -> None:
    """Give the lock back, and remove its file when nobody else holds it."""
    try:
        with contextlib.suppress(BlockingIOError):  # others share it: the file is theirs now
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file_at(descriptor, path):
                path.unlink(missing_ok=True)
    finally:
        # Outright, since a child that was forked meanwhile has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, note: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock on `path`, waiting for as long as somebody else does.

    `on_wait` is called once, before waiting, with what the holder said of itself: its process, and its `note`.
    """
    descriptor = try_lock(path)
    attempts = 0
    # Polled and not a blocking flock: that one could only be interrupted in the main thread.
    while descriptor is None:
        if attempts == 1 and on_wait is not None:  # not the first time: is_locked may have been looking
            on_wait(_holder(path))
        attempts += 1
        time.sleep(_POLL_S)
        descriptor = try_lock(path)
    pid = os.getpid()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(Owner.current().to_json() | {"note": note}).encode(), 0)
        yield
    finally:
        if os.getpid() == pid:
            unlock(descriptor, path)


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock on `path` that others may hold too, and that keeps `try_lock(path)` from getting it."""
    descriptor = try_lock(path, shared=True)
    while descriptor is None:  # somebody looks whether it is in use, which takes an instant
        time.sleep(_POLL_S)
        descriptor = try_lock(path, shared=True)
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == pid:
            unlock(descriptor, path)


def hold(descriptor: int) -> bool:
    """Take the lock on an open file for as long as its descriptor is open. False when somebody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether anybody holds the lock on `path`."""
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is None:
        return True
    unlock(descriptor, path)
    return False


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_bytes())
        note = f" ({found['note']})" if found["note"] else ""
        return f"{Owner.from_json(found)}{note}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has the lock and has not yet written who it is


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
