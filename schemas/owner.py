"""Owner: a process that left something half done, which another one can prove dead."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


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
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """A process of this container. One that is gone is named by a start time that no process has."""
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

    def is_alive(self) -> bool:
        """Whether the process is provably at work: it can be seen from here. False when in doubt."""
        return (
            self.same_kernel and self.pid_namespace == _pid_namespace() and _start_time(self.pid) == self.started != ""
        )

    def __str__(self) -> str:
        return f"process {self.pid}" if self.same_host else f"process {self.pid} on {self.host}"


def is_at_work(pid: int) -> bool:
    """Whether there is such a process and it is no zombie. False where the system cannot tell."""
    return bool(_start_time(pid))


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
