"""`pipeline kubeflow compile`: what it writes, says, and refuses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runners.kubeflow.package import Package, write
from schemas.errors import ConfigError

DEFINITION = """\
name: toy
kubeflow: {image: registry.example.com/toy:1, defaults: {volumes: [{claim: penstock, path: /mnt/penstock}], service_account: runner}}
parameters: {most: 100}
steps:
  read: {uses: project_steps.Read, with: {source: /mnt/penstock/numbers.txt}}
  count: {uses: project_steps.Count}
  judge: {uses: project_steps.Judge, with: {most: "${parameters.most}"}}
"""


def pipeline(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pipeline.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def package() -> Package:
    return Package(
        text="name: toy\n",
        target="pipeline.yaml",
        name="toy",
        image="registry.example.com/toy:1",
        root="/mnt/penstock/.penstock",
        tasks=("read",),
        parameters={},
        service_account=None,
    )


def test_the_command_writes_the_package_and_says_what_is_in_it(project: Path) -> None:
    (project / "toy.yaml").write_text(DEFINITION)

    done = pipeline("kubeflow", "compile", "toy.yaml", "-o", "package.yaml", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "outcome": "compiled",
        "file": "package.yaml",
        "pipeline": "toy",
        "image": "registry.example.com/toy:1",
        "root": "/mnt/penstock/.penstock",
        "tasks": ["read", "count", "judge"],
        "parameters": {"most": 100},
        "service_account": "runner",
        "warnings": [],
        "unused": [],
    }
    assert "schemaVersion: 2.1.0" in (project / "package.yaml").read_text()


def test_what_is_set_is_the_package_s_and_its_pods_are_told(project: Path) -> None:
    text = DEFINITION.replace("{most: 100}", "{most: 100, rate: 0.5}")
    (project / "toy.yaml").write_text(text)
    given = ["--image", "registry.example.com/toy:2", "--set", "parameters.most=7", "--set", "parameters.rate=1"]

    done = pipeline("kubeflow", "compile", "toy.yaml", "-o", "package.yaml", *given, "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["image"], said["parameters"]) == ("registry.example.com/toy:2", {"most": 7, "rate": 1.0})
    package = (project / "package.yaml").read_text()
    assert package.count("- parameters.most=7") == len(said["tasks"]) + 1
    assert package.count("parameterType: NUMBER_DOUBLE") > 0


def test_a_definition_that_pods_cannot_run_is_refused_and_nothing_is_written(project: Path) -> None:
    (project / "toy.yaml").write_text(
        DEFINITION.replace("claim: penstock, path: /mnt/penstock", "claim: p, path: /other")
    )

    done = pipeline("kubeflow", "compile", "toy.yaml", "-o", "package.yaml")

    assert done.returncode == 2
    assert done.stderr.count("error: ") == 2
    assert "kubeflow.root: /mnt/penstock/.penstock is on no volume that the pods mount" in done.stderr
    assert "steps.read.with.source: /mnt/penstock/numbers.txt lies on this machine" in done.stderr
    assert not (project / "package.yaml").exists()


def test_check_finds_what_pods_cannot_see_without_importing_kfp(project: Path) -> None:
    (project / "toy.yaml").write_text(DEFINITION.replace("/mnt/penstock/numbers.txt", "numbers.txt"))
    code = (
        "import sys; from pipeline.cli.check import check_pipeline; errors = check_pipeline('toy.yaml').errors; "
        "print('kfp' in sys.modules, *errors)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)

    assert done.stdout.startswith("False toy.yaml:5: steps.read.with.source: numbers.txt is relative")


def test_what_a_package_holds_is_shown_at_the_terminal(package: Package) -> None:
    assert package.as_text().splitlines() == [
        "  image       registry.example.com/toy:1",
        "  root        /mnt/penstock/.penstock",
        "  tasks       read",
        "  parameters  none",
    ]


def test_a_package_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path, package: Package) -> None:
    file = tmp_path / "package.yaml"
    file.write_text("the one before")

    write(package, file)

    assert file.read_text() == "name: toy\n"
    assert [path.name for path in tmp_path.iterdir()] == ["package.yaml"]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("package.json", "KFP takes packages whose names end in .yaml. Name it package.yaml", id="no yaml"),
        pytest.param("missing/package.yaml", "there is no directory .*missing. Make it first", id="no directory"),
        pytest.param("taken.yaml", "cannot be written: Is a directory", id="a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, package: Package, name: str, problem: str) -> None:
    (tmp_path / "taken.yaml").mkdir()

    with pytest.raises(ConfigError, match=problem):
        write(package, tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == ["taken.yaml"]
