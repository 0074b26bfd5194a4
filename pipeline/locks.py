"""Who is at work: processes that can be proven dead, and file locks that end with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_POLL_S = 0.1


@dataclass(frozen=True)
class Owner:
    """One process, named so that another one can tell later whether it is still alive.

    A pid alone says little: it is reused, and it means nothing on another host, after a reboot or in another container.
    """

    host: str
    boot_id: str  # of the running kernel; empty where the system has none
    pid_namespace: str  # empty where the system has none
    pid: int
    started: str  # the kernel's start time of the process, in ticks since boot; empty when unknown

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot_id(), _pid_namespace(), pid, _start_time(pid))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Owner:
        """Read back what `to_json` gave. Raises KeyError, TypeError or ValueError when it is something else."""
        return cls(
            str(found["host"]),
            str(found["boot_id"]),
            str(found["pid_namespace"]),
            int(found["pid"]),
            str(found["started"]),
        )

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON data."""
        return asdict(self)

    @property
    def same_kernel(self) -> bool:
        """Whether it ran on the kernel that runs us, so that the kernel's locks are shared."""
        return bool(self.boot_id) and self.boot_id == _boot_id()

    @property
    def same_host(self) -> bool:
        """Whether it ran on a machine of our name, now or before a reboot."""
        return self.host == socket.gethostname()

    def is_dead(self) -> bool:
        """Whether the process is provably gone. False when in doubt: on another host, in another container."""
        if self.same_kernel:
            if self.pid_namespace != _pid_namespace():
                return False
            return _start_time(self.pid) != self.started
        # Without a boot id (not Linux) one cannot tell a reboot from now, so only a missing pid proves anything.
        if not self.boot_id:
            return self.same_host and not _exists(self.pid)
        return self.same_host

    def __str__(self) -> str:
        return f"process {self.pid}" if self.same_host else f"process {self.pid} on {self.host}"


def is_at_work(pid: int) -> bool:
    """Whether there is such a process and it is no zombie. False where the system cannot tell."""
    return bool(_start_time(pid))


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


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the command in parentheses and may itself hold spaces and parentheses.
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]  # a zombie does no more work


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
