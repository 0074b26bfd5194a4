"""A directory of versions -> our own model server in a fresh process, which ends when the one that started it does."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import PenstockError
from schemas.exit_code import how_it_ended

_LAST_LINES = 5
_LAST_CHARACTERS = 1000
_DYING_S = 2.0  # how long a server that no longer answers may take to be seen dead


class NotServed(Exception):
    """No server answers for the model; the message has the server's last words."""


@dataclass(frozen=True)
class ServerProcess:
    """A model server that was started. `address` is where it answers gRPC, None as long as that is not known."""

    name: str  # what it is called in messages
    process: subprocess.Popen[bytes]
    log: Path  # all that it says
    address: Callable[[], str | None]

    def raise_if_ended(self, wait_s: float = 0.0) -> None:
        """Raise NotServed when the process has ended, or does so within `wait_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(wait_s)
            raise NotServed(f"{self.name} {how_it_ended(code)}. Its last words: {self.last_words()}")

    def raise_if_dying(self) -> None:
        """The same for a server that has just failed to answer."""
        self.raise_if_ended(_DYING_S)

    def last_words(self) -> str:
        """The end of its log, in one line."""
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines()]
        said = " | ".join([line for line in lines if line][-_LAST_LINES:])
        return said[-_LAST_CHARACTERS:] or "none"


@contextlib.contextmanager
def started(model: str, directory: Path, log: Path) -> Iterator[ServerProcess]:
    """Serve the versions in `directory` as `model`, on free ports of this machine alone, as `pipeline serve` does."""
    found = [str(Path(entry or ".").absolute()) for entry in sys.path]
    # -P: what lies in the working directory must not hide Penstock or a library.
    command = [sys.executable, "-P", "-m", "components.release.model_server", f"{model}={directory}"]
    with running(command, log, os.environ | {"PYTHONPATH": os.pathsep.join(found)}) as process:
        yield ServerProcess("the model server", process, log, lambda: _address(log))


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end. Its standard input ends when this process does, however that ends."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=environment
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _address(log: Path) -> str | None:
    found = re.search(r"^gRPC: (\S+)$", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found.group(1) if found else None


def _end_with_parent() -> None:
    """Nothing is ever written to the standard input, and its end is the other process's. Whatever is half done does not matter.

    A parent-death signal would come when the thread ends that started this process, and only on Linux.
    """
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(1)


def main() -> None:
    """What the fresh process does: serve `name=directory`, its first argument."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from components.serving.server import Server

    code = 0
    try:
        Server(directories=(sys.argv[1],), rest_port=0, grpc_port=0).run(lambda line: print(line, flush=True))
    except PenstockError as error:
        sys.stderr.write(f"{error}\n")
        code = 1
    sys.stderr.flush()
    os._exit(code)  # not through the interpreter's shutdown, which TensorFlow's threads have crashed in


if __name__ == "__main__":
    main()
