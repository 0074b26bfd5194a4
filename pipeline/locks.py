"""File locks that end with their holder, and say who that is.

They are flock's. On a disk of this machine they hold between all its processes, in whatever container. On a volume of several
machines they hold where the file system carries flock to its server: NFS 4, NFS 3 with its lock daemon (the Linux client
takes a byte-range lock of the whole file for a flock), CephFS, GlusterFS, Lustre mounted with `flock`, SMB. They hold between the
processes of one machine only where a mount says so (`nolock`, `local_lock=flock`, `nobrl`) and on file systems made of an object
store. A machine that is gone keeps its locks until the server gives up on it, on NFS 4 for a minute and a half.

A file that is locked is removed with its lock, and says so in its last moment: another machine may know its name for as long
as it remembers the directory (on NFS up to a minute), and would hold a lock that nobody else sees.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.owner import Owner

_REMOVED = b"\0removed"
_POLL_S = 0.1
_FIRST_POLL_S = 0.005


class NotGivenError(Exception):
    """A lock that others did not give up in time; says who has it."""


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor that holds the lock on `path`, made if need be; None when somebody else holds it.

    The lock ends with the last process that has the descriptor, so a forked child keeps it while it lives.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            held = _is_file_at(descriptor, path) and os.pread(descriptor, len(_REMOVED), 0) != _REMOVED
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if held:
            return descriptor
        os.close(descriptor)  # the holder before us removed the file: what is locked now is nobody's lock
        time.sleep(_FIRST_POLL_S)


def unlock(descriptor: int, path: Path, *, keep: bool = False) -> None:
    """Give the lock back, and remove its file when nobody else holds it, unless it is to be kept."""
    try:
        if keep:
            return
        with contextlib.suppress(BlockingIOError):  # others share it: the file is theirs now
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file_at(descriptor, path):
                path.unlink(missing_ok=True)
                os.pwrite(descriptor, _REMOVED, 0)
    finally:
        # Outright, since a child that was forked meanwhile has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextlib.contextmanager
def locked(
    path: Path,
    note: str,
    on_wait: Callable[[str], None] | None = None,
    *,
    keep: bool = False,
    patience_s: float | None = None,
) -> Iterator[None]:
    """Hold the lock on `path`, waiting for as long as somebody else does.

    `on_wait` is called once, before waiting, with what the holder said of itself: its process, and its `note`. With `keep`
    the file stays when the lock is given back. Raises NotGivenError, with what the holder said, when `patience_s` is over.
    """
    descriptor = try_lock(path)
    begun = time.monotonic()
    pause = _FIRST_POLL_S
    # Polled and not a blocking flock: that one could only be interrupted in the main thread.
    while descriptor is None:
        waited = time.monotonic() - begun
        if waited >= _POLL_S and on_wait is not None:  # not the first time: is_locked may have been looking
            on_wait(_holder(path))
            on_wait = None
        if patience_s is not None and waited >= patience_s:
            raise NotGivenError(_holder(path))
        time.sleep(pause * (0.5 + random.random()))  # those who wait do not all look at the same moment
        pause = min(2 * pause, _POLL_S)
        descriptor = try_lock(path)
    pid = os.getpid()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(Owner.current().to_json() | {"note": note}).encode(), 0)
        yield
    finally:
        if os.getpid() == pid:
            unlock(descriptor, path, keep=keep)


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
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
