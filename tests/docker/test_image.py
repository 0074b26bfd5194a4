"""What docker/Dockerfile makes: no image is built here, its COPY instructions are applied to a directory.

This environment's libraries stand in for those that `uv sync` installs into the image, and this machine's /usr for the base image's.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.plan import plan_pipeline
from pipeline.runners.kubeflow.on_cluster import load_on_cluster

CHECKOUT = Path(__file__).parents[2]
DOCKERFILE = (CHECKOUT / "docker" / "Dockerfile").read_text(encoding="utf-8")
TAXI = "configs/taxi/pipeline.yaml"
PACKAGES = ("schemas", "components", "pipeline", "configs")


@pytest.mark.parametrize("name", ["Dockerfile", "serving.Dockerfile"])
def test_hadolint_finds_nothing(name: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([linter, CHECKOUT / "docker" / name], capture_output=True, text=True)

    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


def test_the_versions_are_those_of_the_lock_and_the_makefile() -> None:
    locked = {package["name"]: package["version"] for package in tomllib.loads(_read("uv.lock"))["package"]}
    python = _read(".python-version").strip()

    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {
        f"apache/beam_python{python}_sdk:{locked['apache-beam']}",
        *re.findall(rf"python:{re.escape(python)}\.\d+-(?:slim-)?bookworm", DOCKERFILE),
    }
    assert re.findall(r"uv==(\S+)", DOCKERFILE) == re.findall(r"^UV_VERSION := (\S+)", _read("Makefile"), re.MULTILINE)


@pytest.mark.parametrize(("extras", "given"), [("", ""), ("s3 gcs", " --extra s3 --extra gcs")], ids=["none", "two"])
def test_the_libraries_are_those_of_the_lock_with_the_extras_that_are_asked_for(
    tmp_path: Path, instructions: Any, extras: str, given: str
) -> None:
    """The instruction as the shell reads it, with programs that say how they were called in the place of uv and python."""
    (run,) = [rest for keyword, rest in instructions(DOCKERFILE) if keyword == "RUN" and "uv sync" in rest]
    (tmp_path / "bin").mkdir()
    for name in ("uv", "python"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "EXTRAS": extras, "UV_PROJECT_ENVIRONMENT": "/opt/venv"}

    shell = ["/bin/sh", "-c", run.partition("/root/.cache/uv ")[2]]
    said = subprocess.run(shell, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert said == f"python -m venv /opt/venv\nuv sync --locked --no-dev --inexact{given}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "README.md", "LICENSE", "pipeline"}


def test_the_extras_that_the_dockerfile_names_are_pyprojects() -> None:
    (named,) = re.findall(r"^# Extras of pyproject.toml, with spaces between: (.*)", DOCKERFILE, re.MULTILINE)
    extras = set(tomllib.loads(_read("pyproject.toml"))["project"]["optional-dependencies"])

    assert extras <= set(re.findall(r"\w+", named))


def test_a_change_of_the_users_code_makes_one_layer_anew() -> None:
    last_stage = DOCKERFILE.split("\nFROM ")[-1]

    assert re.findall(r"^(?:COPY|RUN|ADD) .*", last_stage, re.MULTILINE)[-1] == "COPY configs configs/"


def test_the_image_holds_every_file_of_the_packages_and_nothing_else(image: Any) -> None:
    app = image.path("/app")
    wanted = {
        str(file.relative_to(CHECKOUT))
        for package in PACKAGES
        for file in (CHECKOUT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    } | {"kubeflow/resources.yaml"}

    assert {str(file.relative_to(app)) for file in app.rglob("*") if file.is_file()} == wanted


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (".venv/bin/python", False),
        (".git/HEAD", False),
        (".penstock/ledger.db", False),
        ("serving/taxi/1/saved_model.pb", False),
        ("configs/taxi/__pycache__/features.pyc", False),
        ("configs/taxi/.env", False),
        ("components/serving/server.py", True),
        ("configs/taxi/pipeline.yaml", True),
        ("uv.lock", True),
    ],
)
def test_what_a_checkout_or_a_run_makes_is_kept_from_the_builder(path: str, kept: bool, ignored: Any) -> None:
    assert ignored(path) is not kept


def test_the_user_is_a_number_and_not_root(image: Any) -> None:
    """Kubernetes can tell by a number alone that a user is not root."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.user)


@pytest.mark.namespaces
def test_only_tmp_and_the_volume_can_be_written_to(container: Any) -> None:
    tried = "for place in /app /opt/venv /tmp $HOME $TMPDIR /mnt/penstock; do touch $place/x 2>&-; echo $place $?; done; id -u"

    said = container.run("sh", "-c", tried).stdout.split("\n")

    assert said == ["/app 1", "/opt/venv 1", "/tmp 0", "/tmp 0", "/tmp 0", "/mnt/penstock 0", "65532", ""]


@pytest.mark.namespaces
def test_the_image_says_what_pipeline_does(container: Any) -> None:
    ran = container.run()

    assert ran.returncode == 0, ran.stderr
    assert "Machine-learning pipelines from files to a served model" in ran.stdout


@pytest.mark.namespaces
def test_options_alone_go_to_beams_boot(container: Any) -> None:
    """Runners start a worker's container with nothing else: --id=1-1 --provision_endpoint=..., or --worker_pool."""
    assert container.run("--id=1-1", "--provision_endpoint=localhost:1").stdout == (
        "boot --id=1-1 --provision_endpoint=localhost:1\n"
    )
    assert container.run("echo", "--id=1-1").stdout == "--id=1-1\n"


@pytest.mark.namespaces
def test_neither_a_users_name_nor_git_is_needed(container: Any) -> None:
    """Who pushed, and from which commit, goes into a passport."""
    asked = (
        "from pipeline.people import who; from pipeline.order import git_commit; print(who(), git_commit(Path.cwd()))"
    )

    ran = container.run("env", "-u", "USER", "PATH=/opt/venv/bin", "python", "-c", f"from pathlib import Path; {asked}")

    assert ran.stdout == f"65532@{socket.gethostname()} None\n", ran.stderr


@pytest.mark.namespaces
def test_the_example_is_ready_to_run_in_the_image(container: Any) -> None:
    ran = container.run("pipeline", "check", TAXI)

    assert (ran.stdout, ran.returncode) == (f"{TAXI}: 10 steps, ready to run\n", 0), ran.stderr


@pytest.mark.namespaces
def test_a_task_runs_in_the_image_and_leaves_its_output_on_the_volume(
    container: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user without a name, who owns nothing but the volume."""
    monkeypatch.chdir(CHECKOUT)
    parameters = load_on_cluster(TAXI).parameters | {"penstock_run": "job-1"}
    given = {
        "inputs": {"parameterValues": parameters},
        "outputs": {
            "parameters": {name: {"outputFile": f"/tmp/{name}"} for name in ("outcome", "executions")},
            "outputFile": "/mnt/penstock/output_metadata.json",
        },
    }
    task = ("schema_gen", "--root", "/mnt/penstock/.penstock", "--executor-input", json.dumps(given))

    ran = container.run("pipeline", "step", TAXI, *task)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = json.loads((container.volume / "output_metadata.json").read_text())["parameterValues"]
    assert said["outcome"] == "done"
    key = json.loads(said["executions"])["schema_gen"]
    schema = container.volume / ".penstock" / "store" / "schema_gen" / key / "schema" / "schema.pbtxt"
    assert schema.stat().st_uid == 65532
    assert schema.read_text() == _read("schemas/datasets/taxi.pbtxt")
    # What ran in a pod is reused on a machine that mounts the volume, and the other way round.
    (planned,) = plan_pipeline(TAXI, to="schema_gen", root=str(container.volume / ".penstock"))
    assert (planned.action, planned.key) == ("reuse", key)


def _read(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")
