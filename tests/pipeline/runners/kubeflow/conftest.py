"""The small project on Kubeflow: one with a release, as a package; one whose tasks run as the launcher runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.runners.kubeflow import names
from pipeline.runners.kubeflow.compile import compile_package
from pipeline.runners.kubeflow.on_cluster import load_on_cluster
from pipeline.runners.kubeflow.package import Package
from pipeline.runners.kubeflow.task import TaskResult, run_task
from schemas.dotted_path import resolve

RELEASE = '''
from __future__ import annotations

from dataclasses import dataclass

from project_steps import Push
from schemas.artifacts import Blessing, Evaluation, InfraBlessing, Model, PushedModel, Statistics
from schemas.component import InputFiles, Out

__all__ = ["Announce", "Bless", "Evaluate", "Look", "Odd", "Probe", "Push"]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Model -> Evaluation."""

    def run(self, model: Model, evaluation: Out[Evaluation]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Bless:
    """Evaluation -> Blessing."""

    def run(self, evaluation: Evaluation, blessing: Out[Blessing]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Model -> InfraBlessing."""

    def run(self, model: Model, infra_blessing: Out[InfraBlessing]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Announce:
    """PushedModel -> Statistics."""

    def run(self, pushed_model: PushedModel, statistics: Out[Statistics]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Look:
    """Files -> Statistics."""

    path: InputFiles

    def run(self, statistics: Out[Statistics]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Odd:
    """Model -> Statistics, called as a task's own output is."""

    def run(self, model: Model, summary: Out[Statistics]) -> None: ...
'''

DEFINITION = """\
name: toy
root: store-root
seed: 7
parameters: {most: 100, rate: 0.5, quick: true, destination: serving/toy, source: configs/numbers.txt}
kubeflow:
  image: registry.example.com/toy:1
  parameters: {destination: /mnt/penstock/serving/toy, most: 50}
  defaults: {volumes: [{claim: penstock, path: /mnt/penstock}]}
steps:
  read: {uses: project_steps.Read, with: {source: "${parameters.source}"}}
  count: {uses: project_steps.Count}
  judge: {uses: project_steps.Judge, with: {most: "${parameters.most}"}}
  apply: {uses: project_steps.Apply, with: {function: project_functions.double}}
  fit: {uses: project_steps.Fit}
  evaluate: {uses: project_release.Evaluate}
  bless: {uses: project_release.Bless}
  push: {uses: project_release.Push, with: {destination: "${parameters.destination}"}}
  announce: {uses: project_release.Announce}
"""


@pytest.fixture
def toy(project: Path) -> Path:
    """The definition's file, relative to the project's directory, which is the working directory."""
    (project / "project_release.py").write_text(RELEASE)
    (project / "configs").mkdir()
    (project / "numbers.txt").rename(project / "configs" / "numbers.txt")
    file = Path("pipeline.yaml")
    file.write_text(DEFINITION)
    return file


@pytest.fixture
def compiled() -> Callable[[object], Package]:
    """Compiles what a target names, in a thread: KFP looks at the whole stack at every turn, and pytest's is deep."""

    def compile_(target: object) -> Package:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(compile_package, str(target)).result()

    return compile_


@dataclass(frozen=True)
class Ended:
    """How a task's process ended, what it printed, and what KFP would read."""

    code: int
    log: str
    output_file: Path

    @property
    def said(self) -> dict[str, Any]:
        """The output file."""
        found: dict[str, Any] = json.loads(self.output_file.read_text())
        return found

    @property
    def outcome(self) -> str:
        """The output parameter of that name."""
        return str(self.said["parameterValues"]["outcome"])

    def metadata(self, name: str) -> dict[str, Any]:
        """What is said of an artifact."""
        (artifact,) = self.said["artifacts"][name]["artifacts"]
        found: dict[str, Any] = artifact["metadata"]
        return found

    def page(self, name: str) -> str:
        """What the UI would read of an artifact."""
        return (self.output_file.parent / name).read_text()


@dataclass
class Cluster:
    """The project's definition as an image has it, a volume, and what the tasks of each run have said of their executions."""

    project: Path
    volume: Path
    pods: Path
    executions: dict[tuple[str, str], str] = field(default_factory=dict)  # (run, step): what the task said
    attempts: int = 0
    secrets: dict[str, str] = field(default_factory=dict)  # in the environment of each pod

    @property
    def root(self) -> Path:
        """The store's."""
        return self.volume / "root"

    def definition(self) -> Definition:
        """As it is in the image."""
        return load_on_cluster("pipeline.yaml")

    def given(self, step: str, run: str = "job-1", **parameters: Any) -> dict[str, Any]:
        """`{{$}}` of a task, with numbers as doubles and artifacts without a type."""
        definition = self.definition()
        found, outputs = definition.graph[step], read_contract(resolve(definition.graph[step].component)).outputs
        self.attempts += 1
        pod = self.pods / str(self.attempts)
        values = {**definition.parameters, **parameters}
        ports = [*outputs, names.SUMMARY, names.METRICS, names.ROC]
        return {
            "inputs": {
                "parameterValues": {
                    **{name: float(value) if type(value) is int else value for name, value in values.items()},
                    names.RUN: run,
                    **{names.came_from(parent): self.executions[run, parent] for parent in found.parents},
                },
                "artifacts": {
                    port: {"artifacts": [{"name": "17", "uri": f"minio://bucket/{run}/{wire}", "type": {}}]}
                    for port, wire in found.inputs.items()
                },
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(pod / name)} for name in ("outcome", "executions", "blessed")},
                "artifacts": {
                    port: {
                        "artifacts": [
                            {"name": port, "uri": f"minio://bucket/{run}/{step}/{port}", "customPath": str(pod / port)}
                        ]
                    }
                    for port in ports
                },
                "outputFile": str(pod / "output_metadata.json"),
            },
        }

    def here(
        self, step: str, run: str = "job-1", *, given: Mapping[str, Any] | None = None, **parameters: Any
    ) -> Ended:
        """Run a task in this process."""
        return self.task(step, run, given=given, **parameters)[1]

    def task(
        self, step: str, run: str = "job-1", *, given: Mapping[str, Any] | None = None, **parameters: Any
    ) -> tuple[TaskResult, Ended]:
        """Run a task in this process; also what it gave."""
        given = given or self.given(step, run, **parameters)
        result = run_task("pipeline.yaml", step, root=str(self.root), executor_input=json.dumps(given))
        ended = Ended(result.exit_code, "", Path(given["outputs"]["outputFile"]))
        self._keep(run, step, ended)
        return result, ended

    def start(
        self, step: str, run: str = "job-1", *, arguments: tuple[str, ...] = (), **parameters: Any
    ) -> tuple[subprocess.Popen[str], Path]:
        """Start a task as a process of its own, in the image's working directory and with a clean environment."""
        given = self.given(step, run, **parameters)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipeline.cli.main", "step", "pipeline.yaml", step),
                *("--root", str(self.root), "--executor-input", json.dumps(given), *arguments),
            ],
            cwd=self.project,
            env=environment(self.pods) | self.secrets,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, Path(given["outputs"]["outputFile"])

    def pod(self, step: str, run: str = "job-1", *, arguments: tuple[str, ...] = (), **parameters: Any) -> Ended:
        """Run a task as a process of its own, to its end."""
        return self.ended(step, run, *self.start(step, run, arguments=arguments, **parameters))

    def ended(self, step: str, run: str, process: subprocess.Popen[str], output_file: Path) -> Ended:
        """Wait for a process that `start` gave."""
        log, _ = process.communicate(timeout=120)
        ended = Ended(process.returncode, log, output_file)
        self._keep(run, step, ended)
        return ended

    def _keep(self, run: str, step: str, ended: Ended) -> None:
        if ended.output_file.exists():
            self.executions[run, step] = ended.said["parameterValues"]["executions"]

    def record(self, run: str = "job-1") -> dict[str, Any]:
        """What the store says of a run, its steps by name."""
        found: dict[str, Any] = json.loads((self.root / "runs" / run / "run.json").read_text())
        return found | {"steps": {step["step"]: step for step in found["steps"]}}


def environment(home: Path) -> dict[str, str]:
    """A pod's environment: nothing of ours but where the package is."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(Path(pipeline.__file__).parents[1]),
    }


@pytest.fixture
def cluster(project: Path, tmp_path: Path) -> Cluster:
    """The project with a `kubeflow` section, and an empty volume."""
    volume, pods = tmp_path / "volume", tmp_path / "pods"
    volume.mkdir()
    pods.mkdir()
    with (project / "pipeline.yaml").open("a") as definition:
        definition.write(f"kubeflow: {{image: registry.example.com/toy:1, root: {volume / 'root'}}}\n")
    return Cluster(project, volume, pods)
