"""A server in a process of its own: it ends with whoever started it, however that ends, and its last words are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from components.io import saved_model
from components.release import model_server
from components.release.infra_validator import version_directory
from components.release.model_server import NotServed, ServerProcess
from components.release.questions import predict_request, questions
from components.release.served_model import ServedModel, available
from schemas.artifacts import Examples, Model

PARENT = """
import sys, time
from pathlib import Path
from components.release import model_server
with model_server.started("model", Path(sys.argv[1]), Path(sys.argv[2])) as server:
    print(server.process.pid, flush=True)
    until = (lambda: server.address() is not None) if sys.argv[3] == "up" else (lambda: True)
    while not until():
        server.raise_if_ended()
        time.sleep(0.01)
    print("started", flush=True)
    time.sleep(600)
"""


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie, as one is for whom nobody waits."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGKILL, "up"), (signal.SIGKILL, "starting"), (signal.SIGTERM, "starting"), (signal.SIGINT, "starting")],
)
def test_it_ends_with_the_process_that_started_it(
    tmp_path: Path, asked: Model, number: signal.Signals, when: str
) -> None:
    serving = version_directory(tmp_path / "serving", asked.serving, None).parent
    (tmp_path / "components.py").write_text("raise ImportError('this is not Penstock')")  # hides nothing of ours
    command = [sys.executable, "-P", "-c", PARENT, str(serving), str(tmp_path / "log"), when]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            server = int(parent.stdout.readline())
            assert parent.stdout.readline() == "started\n", (tmp_path / "log").read_text()
            assert is_running(server)

            parent.send_signal(number)

            wait_until(lambda: not is_running(server), f"the server outlives its parent by {number.name}")
        finally:
            parent.kill()  # which else is waited for, should it be there still


@contextmanager
def process(tmp_path: Path, *command: str) -> Iterator[ServerProcess]:
    """A server that is any command, and listens nowhere."""
    import socket

    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        nowhere = f"127.0.0.1:{free.getsockname()[1]}"
    with model_server.running(command, tmp_path / "log") as started:
        yield ServerProcess("the server", started, tmp_path / "log", lambda: nowhere)


def test_the_last_words_of_a_server_that_ended_are_told(tmp_path: Path) -> None:
    with process(tmp_path, "sh", "-c", "seq 9; echo out of memory >&2; exit 7") as server:
        server.process.wait()

        with pytest.raises(
            NotServed, match=r"^the server ended with exit code 7\. Its last words: 6 \| 7 \| 8 \| 9 \| out"
        ):
            server.raise_if_ended()


def test_a_server_that_lives_has_not_ended(tmp_path: Path) -> None:
    with process(tmp_path, "sleep", "60") as server:
        server.raise_if_ended()

        assert server.last_words() == "none"


def test_a_server_that_dies_of_a_request_is_told_from_one_that_refuses_it(
    tmp_path: Path, asked: Model, raw: Examples
) -> None:
    import grpc

    loaded = saved_model.load(asked.serving)
    question = next(questions(loaded, [b""]))
    with process(tmp_path, "sleep", "60") as server, grpc.insecure_channel(str(server.address())) as channel:
        os.kill(server.process.pid, signal.SIGSEGV)

        with pytest.raises(NotServed, match="the server was killed by SIGSEGV"):
            ServedModel(server, channel, "model", 10).ask(predict_request(loaded, "model", question))


def test_the_server_of_a_model_that_it_does_not_know_is_waited_for(tmp_path: Path) -> None:
    with (
        process(tmp_path, "sh", "-c", "echo still loading; sleep 60") as server,
        pytest.raises(
            NotServed, match=r"has not loaded it after 0\.2 s \(load_timeout_s\)\. Its last words: still loading"
        ),
        available(server, "model", 0.2, 1),
    ):
        pass
