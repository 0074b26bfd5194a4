"""`pipeline serve`: what it says, what it refuses, and how it stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Command = Callable[..., Any]


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """A serving directory with one version, which answers x + 1."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def add_one(x: Any) -> dict[str, Any]:
        return {"y": x + 1}

    tf.saved_model.save(tf.Module(), str(tmp_path / "serving" / "more" / "3"), signatures={"serving_default": add_one})
    return tmp_path / "serving" / "more"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_answers_there_alone_and_stops_cleanly(serving: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "pipeline.cli.main", "serve", str(serving), "--rest-port", "0", "--grpc-port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline().strip() for _ in range(3)]
        url = lines[1].partition(": ")[2]
        answer = httpx.post(f"{url}:predict", json={"instances": [1.0]}).json()
        server.send_signal(number)
        out, err = server.communicate(timeout=60)

    assert lines[0] == "more version 3: available"
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1/models/more")
    assert lines[2].startswith("gRPC: 127.0.0.1:")
    assert answer == {"predictions": [2.0]}
    assert (server.returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "directories: give a serving directory"),
        (["nowhere"], "nowhere: there is no such directory"),
        (["--models-config", "nowhere"], "nowhere: cannot be read"),
        (["x", "--max-batch-size", "0"], "max_batch_size: is 0"),
    ],
)
def test_what_cannot_be_served_ends_with_2(command: Command, arguments: list[str], message: str) -> None:
    said = command("serve", *arguments)

    assert said.code == 2
    assert message in said.err


def test_a_port_that_is_taken_ends_with_2(command: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = command("serve", str(tmp_path), "--rest-port", str(taken.getsockname()[1]), "--json")

    assert said.code == 2
    assert "cannot be listened on" in said.data["problems"][0]


def test_an_empty_directory_ends_with_1_and_says_what_is_missing(command: Command, tmp_path: Path) -> None:
    said = command("serve", str(tmp_path), "--rest-port", "0", "--grpc-port", "0")

    assert said.code == 1
    assert f"nothing in {tmp_path} can be served" in said.err
