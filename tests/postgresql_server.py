"""A PostgreSQL server of the tests' own, where its programs are installed: unprivileged, on a socket, nothing kept on disk."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "open:sesame/50%"
IN_A_URL = "open%3Asesame%2F50%25"


@dataclass
class Server:
    """A server that listens on a socket in `directory`, with the user `penstock`, whose password is PASSWORD."""

    programs: Path
    directory: Path
    user: int | None  # who runs it; None: who runs the tests
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        subprocess.run([self.programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, **self._as())

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.directory / "data", "-k", self.directory, "-h", "", "-F",
                 "-c", "full_page_writes=off", "-c", "max_connections=60", "-c", "shared_buffers=16MB"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_parent, **self._as(),
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(Exception):
                self.sql("SELECT 1")
                return
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends the connections, SIGQUIT is as if it crashed."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def url(self, database: str, user: str = "penstock", password: str = IN_A_URL, more: str = "") -> str:
        """The URL of a database."""
        return f"postgresql://{user}:{password}@/{database}?host={self.directory}{more}"

    def sql(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the administrator; gives its rows."""
        import psycopg

        with psycopg.connect(
            host=str(self.directory), dbname=database, user="penstock", password=PASSWORD, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def empty(self) -> str:
        """The URL of a place without tables: a schema, which takes less than a database to make."""
        name = f"ledger_{next(self._numbers)}"
        self.sql(f"CREATE SCHEMA {name}")
        return self.url("postgres", more=f"&options=-csearch_path%3D{name}")

    def _as(self) -> dict[str, Any]:
        who = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        return {"cwd": "/", "env": {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}, **who}


def _end_with_parent() -> None:
    # A test run that is killed leaves no server behind. 1 is PR_SET_PDEATHSIG.
    ctypes.CDLL(None).prctl(1, int(signal.SIGQUIT))


def _programs() -> Path | None:
    """Where PostgreSQL's programs are: Debian keeps a server's out of PATH."""
    found = [Path(name).resolve().parent for name in (shutil.which("initdb"),) if name]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A new server, for as long as the context lasts. The test is skipped where its programs are not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's programs initdb and postgres are not installed (Debian: postgresql)")
    user = None
    if os.geteuid() == 0:  # as whom it refuses to run
        user = pwd.getpwnam("nobody").pw_uid
    # Not pytest's own directory: that one may be closed to the server's user, and too long a path for a socket.
    directory = Path(tempfile.mkdtemp(prefix="penstock-pg-", dir="/tmp"))
    try:
        (directory / "password").write_text(PASSWORD)
        if user is not None:
            for path in (directory, directory / "password"):
                os.chown(path, user, -1)
        server = Server(programs, directory, user)
        server.run(
            "initdb", "-D", str(directory / "data"), "-U", "penstock", "--pwfile", str(directory / "password"),
            "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
