"""A problem of configs/ as a user runs it: its pipeline, and a server of what it pushed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).parents[2]
PIPELINE = [sys.executable, "-m", "pipeline.cli.main"]


class Problem:
    """One of configs/, with its artifacts and models in a directory of its own."""

    def __init__(self, name: str, directory: Path, overrides: tuple[str, ...]) -> None:
        self.name = name
        self.root = directory / ".penstock"
        self.serving = directory / "serving" / name
        self._overrides = (f"pusher.destination={self.serving}", *overrides)

    def run(self) -> dict[str, dict[str, Any]]:
        """What each step did and made. Fails the test when the run fails."""
        overrides = [word for override in self._overrides for word in ("--set", override)]
        command = [
            *PIPELINE,
            "run",
            f"configs/{self.name}/pipeline.yaml",
            "--root",
            str(self.root),
            "--json",
            *overrides,
        ]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, dict[str, Any]] = json.loads(done.stdout)["steps"]
        return found

    @property
    def version(self) -> Path:
        """The one version that was pushed."""
        (version,) = (path for path in self.serving.iterdir() if path.name.isdigit())
        return version

    def made(self, step: str, output: str) -> Path:
        """The directory of what a step made, where it ran once."""
        (found,) = (self.root / "store" / step).glob(f"*/{output}")
        return found

    @contextmanager
    def served(self) -> Iterator[Callable[[Any], Any]]:
        """A function that asks `pipeline serve` for the predictions of a request's body."""
        command = [*PIPELINE, "serve", str(self.serving), "--rest-port", "0", "--grpc-port", "0"]
        with subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            assert server.stdout is not None
            url = next(line for line in server.stdout if "http://" in line).split(": ", 1)[1].strip()

            def ask(body: Any) -> Any:
                answer = httpx.post(f"{url}:predict", json=body, timeout=60)
                answer.raise_for_status()
                return answer.json()["predictions"]

            try:
                yield ask
            finally:
                server.terminate()


@pytest.fixture(scope="session")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Problem]:
    """(name, *overrides) -> the problem configs/<name>, not run yet."""
    return lambda name, *overrides: Problem(name, tmp_path_factory.mktemp(name), overrides)
