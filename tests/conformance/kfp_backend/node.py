"""A process that has TFX's libraries in memory, and forks what is to run: a pod, or a `pipeline` command of a user's.

Importing them takes seconds of processor time in each process, many times what a step that is reused takes. What is forked has the
working directory, variables, `sys.path`, standard streams, session and namespaces of a process that was started, and is ended like
one. It differs in what was imported before, libraries and none of the user's modules, and in its seed of str's hashes, which all that
one node forks share. What is told of a start in an empty process (which library is imported first, what of the environment it
reads then), and of an order of sets that another process does not have, is told by pods that are not forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x4000000, 0x10000000, 0x20000000
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_REQUEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """How a pod's namespaces are entered: the script that makes its root and its arguments, and the user that it is then."""

    script: Sequence[str]
    user: int


class Forked:
    """A process that a node has forked, as `subprocess.Popen` would give it, for what pods and tests ask of one."""

    def __init__(self, status: socket.socket) -> None:
        """Raises ValueError when nothing was forked: the node's log says why."""
        self._status = status.makefile("r")
        self.pid = int(self._status.readline())  # its session's leader; with namespaces their first process
        self.returncode: int | None = None
        self._ended = status

    def poll(self) -> int | None:
        """Its exit code or minus its signal, None while it runs."""
        if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """The same, once it has ended."""
        if self.returncode is None:
            self.returncode = int(self._status.readline())
            self._status.close()
            self._ended.close()
        return self.returncode


class Node:
    """Starts the process that forks; it ends with the test's process, or by `close`."""

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str], log: Path) -> None:
        """`environment` is what all that is forked has of variables that Python and the libraries read when they start."""
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with log.open("wb") as file, theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                env={**environment, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        out: int,
        err: int,
        entry: Entry | None = None,
    ) -> Forked:
        """Fork a process that runs a Python script: the first word of `command`, a path. `out` and `err` are descriptors."""
        asked = {
            "command": list(command),
            "environment": dict(environment),
            "directory": str(directory),
            "script": list(entry.script) if entry else None,
            "user": entry.user if entry else None,
        }
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._ours, [json.dumps(asked).encode()], [out, err, theirs.fileno()])
        return Forked(ours)

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> subprocess.CompletedProcess[str]:
        """The same, to its end, with what it said."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            code = self.start(command, environment, directory, out.fileno(), err.fileno()).wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(command), code, out.read(), err.read())

    def close(self) -> None:
        """End it; what was forked goes on."""
        self._ours.close()
        self._process.wait()


def serve(control: socket.socket) -> Mapping[str, Any]:
    """Fork for every request. Returns in what is forked, with the request that it is to become."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if not select.select([control], [], [], 0.2)[0]:
            continue
        data, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 3)
        if not data:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            request = json.loads(data)
            out, err, status = descriptors
            _fork_and_tell(request, status)
            for given, standard in ((out, 1), (err, 2)):
                os.dup2(given, standard)
            for descriptor in descriptors:
                os.close(descriptor)
            return request
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_and_tell(request: Mapping[str, Any], status: int) -> None:
    """Go on in a process of its own, in namespaces where it is to have some; this one waits for it, and tells its pid and its end."""
    if request["script"] is not None:
        _unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID, 0, os.getuid(), os.getgid())
    child = os.fork()
    if child == 0:
        os.setsid()
        return
    os.write(status, f"{child}\n".encode())
    _, how = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(how)}\n".encode())
    os._exit(0)


def _unshare(what: int, become: int, user: int, group: int) -> None:
    """What unshare(1) does with --map-user and --map-group: new namespaces, and in the user's one another number."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(what) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{become} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{become} {group} 1")


def _lose_rights() -> None:
    """What a program that is started as no superuser loses of the rights of who makes a user's namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def enter(script: Sequence[str], user: int) -> None:
    """Make the pod's root and enter it, as its first process; the command is another, whose end is this one's."""
    subprocess.run(script, check=True)
    os.chdir("/app")
    child = os.fork()
    if child == 0:
        _unshare(CLONE_NEWUSER, user, 0, 0)
        _lose_rights()
        return
    _, how = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(how)
    os._exit(code if code >= 0 else 128 - code)


def become(command: Sequence[str], environment: Mapping[str, str], search: Sequence[str]) -> NoReturn:
    """Be what `python SCRIPT ...` is. `search` is `sys.path` without the script's directory."""
    if environment.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):
        raise NotImplementedError("a node forks only what looks for modules where it does")
    locale = {
        name: value for name, value in os.environ.items() if name == "LC_CTYPE"
    }  # which Python itself sets (PEP 538)
    os.environ.clear()
    os.environ.update({**locale, **environment})
    tempfile.tempdir = None
    sys.path[:] = [str(Path(command[0]).parent), *search]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    if numpy := sys.modules.get("numpy"):  # has drawn its seed, which all that is forked would share
        numpy.random.seed()
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")
    raise SystemExit(0)


def main() -> None:
    """Import what is asked for, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    search = sys.path[1:]
    sys.path[:] = search  # what lies beside this file is no pod's
    gc.disable()
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    request = serve(control)
    os.chdir(request["directory"])
    if request["script"] is not None:
        enter(request["script"], request["user"])
    become(request["command"], request["environment"], search)


if __name__ == "__main__":
    main()
