"""TensorFlow Serving in a container: the command, what is mounted, and how it ends; `docker` itself is a stand-in here."""

from __future__ import annotations

import csv
import stat
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from components.release import docker_server
from components.release.infra_validator import InfraValidator, version_directory
from schemas.artifacts import Examples, InfraBlessing, Model
from schemas.component import Progress, Scratch
from schemas.errors import ConfigError

IMAGE = "tensorflow/serving:2.16.1"


def test_each_part_of_a_version_is_mounted_from_where_it_really_lies(tmp_path: Path, asked: Model) -> None:
    (tmp_path / "store").symlink_to(asked.path)
    (tmp_path / "requests").touch()
    version = version_directory(tmp_path / "serving", tmp_path / "store" / "Format-Serving", tmp_path / "requests")

    found = docker_server.mounts(version)

    really = asked.serving.resolve()
    requests = "assets.extra/tf_serving_warmup_requests"
    assert found == {**{child.name: really / child.name for child in really.iterdir()}, requests: version / requests}


def test_the_command_serves_them_read_only_on_a_port_of_this_machine_alone() -> None:
    parts = {"saved_model.pb": Path("/store/a,b/saved_model.pb"), "variables": Path("/store/variables")}

    command = docker_server.run_command("/bin/docker", IMAGE, "name", "model", 1, parts)

    assert command[:7] == ["/bin/docker", "run", "--rm", "--interactive", "--init", "--name", "name"]
    assert command[command.index("--publish") + 1] == "127.0.0.1::8500"
    binds = [word for option, word in pairwise(command) if option == "--mount"]
    assert next(csv.reader(binds)) == [
        "type=bind",
        "source=/store/a,b/saved_model.pb",
        "target=/models/model/1/saved_model.pb",
        "readonly",
    ]
    assert binds[1] == "type=bind,source=/store/variables,target=/models/model/1/variables,readonly"
    after = command[command.index(IMAGE) + 1 :]
    assert after[:4] == ["-c", docker_server.WATCH_INPUT, "sh", "tensorflow_model_server"]
    assert {"--model_name=model", "--model_base_path=/models/model", "--port=8500"} <= set(after)


def test_what_runs_in_the_container_is_killed_at_the_end_of_its_input() -> None:
    command = ["sh", "-c", docker_server.WATCH_INPUT, "sh", "sh", "-c", "echo serving; exec sleep 600"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"serving\n"
        time.sleep(0.1)
        assert server.poll() is None

        server.stdin.close()

        assert server.wait(60) == -9


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is all there is to look for commands in."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def put(directory: Path, program: str) -> None:
    """Make a `docker` of a Python program."""
    file = directory / "docker"
    file.write_text(f"#!{sys.executable}\n{program}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def validate(tmp_path: Path, model: Model, *given: Examples) -> InfraBlessing:
    blessing = InfraBlessing(tmp_path / "blessing")
    blessing.path.mkdir()
    scratch = Scratch(tmp_path / "scratch")
    validator = InfraValidator(server=IMAGE, requests=2)
    validator.run(model, *given, scratch=scratch, progress=Progress(), infra_blessing=blessing)
    return blessing


def test_without_docker_the_setting_is_named(tmp_path: Path, asked: Model, docker: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^server: {IMAGE} runs in Docker, and there is no docker command here"):
        validate(tmp_path, asked)


def test_an_engine_that_does_not_answer_is_quoted(tmp_path: Path, asked: Model, docker: Path) -> None:
    put(docker, "import sys; sys.exit('Cannot connect to the Docker daemon')")

    with pytest.raises(ConfigError, match="^server: .* engine does not answer: Cannot connect to the Docker daemon"):
        validate(tmp_path, asked)


RUNS_NOTHING = """
import sys
sys.exit(0) if sys.argv[1] != 'run' else print('Unable to find image', file=sys.stderr)
sys.exit(125)
"""


def test_an_image_that_docker_cannot_run_says_nothing_of_the_model(tmp_path: Path, asked: Model, docker: Path) -> None:
    put(docker, RUNS_NOTHING)

    with pytest.raises(ConfigError, match=f"^server: {IMAGE} does not run: Unable to find image"):
        validate(tmp_path, asked)


OURS_INSTEAD = """
import csv, os, subprocess, sys
from pathlib import Path
place = Path({place!r})
if sys.argv[1] == "port":
    log = (place / "log").read_text() if (place / "log").is_file() else ""
    found = [line.removeprefix("gRPC: ") for line in log.splitlines() if line.startswith("gRPC: ")]
    print(*found)
elif sys.argv[1] == "run":
    for option, bind in zip(sys.argv, sys.argv[1:]):
        if option == "--mount":
            fields = dict(field.partition("=")[::2] for field in next(csv.reader([bind])))
            target = place / fields["target"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(fields["source"])
    served = f"model={{place}}/models/model"
    os.dup2(os.open(place / "log", os.O_WRONLY | os.O_CREAT), 1)
    os.execv(sys.executable, [sys.executable, "-m", "components.release.model_server", served])
"""


def test_the_server_in_the_container_is_asked_as_ours_is(
    tmp_path: Path, asked: Model, raw: Examples, docker: Path
) -> None:
    (tmp_path / "container").mkdir()
    put(docker, OURS_INSTEAD.format(place=str(tmp_path / "container")))

    blessing = validate(tmp_path, asked, raw)

    assert blessing.reasons == ()
    assert blessing.properties["server"] == IMAGE
    assert blessing.properties["parity"]["signatures"]["serving_default"]["rows"] == 3
    assert "6 warm-up requests answered" in (tmp_path / "container" / "log").read_text()
