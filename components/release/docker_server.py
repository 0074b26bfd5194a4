"""A version's files -> TensorFlow Serving in a container, which ends when the process that started it does."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.release.model_server import ServerProcess, running
from schemas.errors import ConfigError

_GRPC_PORT = 8500
_NOT_THE_MODELS_FAULT = (
    125,
    126,
    127,
)  # docker run's own exit codes: the engine failed, the command is not in the image

WATCH_INPUT = 'exec 3<&0; (cat <&3 >/dev/null; kill -KILL $$) & exec "$@" 3<&-'
"""A shell that becomes the server and has it killed at the end of its standard input.

That ends with the `docker run` that started the container, which a killed client would otherwise leave behind.
"""


@contextlib.contextmanager
def started(image: str, model: str, version: Path, log: Path) -> Iterator[ServerProcess]:
    """TensorFlow Serving of `image` on the version directory `version`, whose number it keeps, as `model`.

    Raises ConfigError where there is no docker command or no engine that it reaches.
    """
    docker = _docker(image)
    container = f"penstock-infra-{uuid.uuid4().hex[:12]}"
    with running(run_command(docker, image, container, model, int(version.name), mounts(version)), log) as process:
        yield _Container(
            name=f"the server {image}", process=process, log=log, address=lambda: _published(docker, container)
        )


def mounts(version: Path) -> dict[str, Path]:
    """Where each part of a version directory really lies, by its name in there: links lead nowhere inside a container."""
    found: dict[str, Path] = {}
    for child in sorted(version.iterdir()):
        if child.is_dir() and not child.is_symlink():
            found.update({f"{child.name}/{name}": path for name, path in mounts(child).items()})
        else:
            found[child.name] = child.resolve()
    return found


def run_command(
    docker: str, image: str, container: str, model: str, version: int, parts: Mapping[str, Path]
) -> list[str]:
    """The command that serves `parts`, each mounted read-only under its name, as a version of `model` on a free port."""
    directory = f"/models/{model}"
    binds = [
        _csv("type=bind", f"source={path}", f"target={directory}/{version}/{name}", "readonly")
        for name, path in parts.items()
    ]
    server = [
        "tensorflow_model_server",
        f"--port={_GRPC_PORT}",
        f"--model_name={model}",
        f"--model_base_path={directory}",
        "--max_num_load_retries=0",  # it would try five times, a minute apart
    ]
    return [
        *(docker, "run", "--rm", "--interactive", "--init", "--name", container),
        *("--publish", f"127.0.0.1::{_GRPC_PORT}"),
        *(word for bind in binds for word in ("--mount", bind)),
        *("--entrypoint", "/bin/sh", image, "-c", WATCH_INPUT, "sh", *server),
    ]


class _Container(ServerProcess):
    """A server whose start may fail for reasons that say nothing of the model."""

    def raise_if_ended(self, wait_s: float = 0.0) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.wait(wait_s) in _NOT_THE_MODELS_FAULT:
                raise ConfigError(f"server: {self.name.removeprefix('the server ')} does not run: {self.last_words()}")
        super().raise_if_ended()


def _docker(image: str) -> str:
    docker = shutil.which("docker")
    if docker is None:
        raise ConfigError(
            f"server: {image} runs in Docker, and there is no docker command here. Install Docker, or leave server out to ask "
            f"our own model server"
        )
    asked = subprocess.run(
        [docker, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        raise ConfigError(
            f"server: {image} runs in Docker, whose engine does not answer: {asked.stderr.strip()}. Start it, or leave server "
            f"out to ask our own model server"
        )
    return docker


def _published(docker: str, container: str) -> str | None:
    """Where the container's port is on this machine; None while it is not."""
    asked = subprocess.run(
        [docker, "port", container, f"{_GRPC_PORT}/tcp"], capture_output=True, text=True, check=False
    )
    return asked.stdout.split()[0] if asked.returncode == 0 and asked.stdout.strip() else None


def _csv(*fields: str) -> str:
    """One line of CSV, as --mount reads it: a comma in a path is not the end of a field."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
