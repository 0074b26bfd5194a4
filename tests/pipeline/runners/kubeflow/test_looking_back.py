"""A step that looks back, in a pod that sees none of the files that other steps read: it takes what their tasks have found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.runners.kubeflow.package import Package

Cluster = Any  # of conftest.py, which cannot be imported

STEPS = '''
from __future__ import annotations

import json
from dataclasses import dataclass

from schemas.artifact import ABSENT
from schemas.artifacts import Examples, Model
from schemas.component import Earlier, Out, Sought


@dataclass(frozen=True, kw_only=True)
class Last:
    """-> Model: the newest there is."""

    PASSES_ON = True

    def sought(self) -> list[Sought]:
        return [Sought(type="Model", step="grow")]

    def run(self, earlier: Earlier, model: Out[Model]) -> None:
        model.serving.mkdir()
        if earlier.path is None:
            model.properties[ABSENT] = True
        else:
            (model.serving / "saved_model.pb").write_bytes((earlier.path / "Format-Serving" / "saved_model.pb").read_bytes())


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Model, Examples -> Model: with the lines at its end."""

    def run(self, model: Model, examples: Examples, grown: Out[Model]) -> None:
        before = "" if model.properties.get(ABSENT) else (model.serving / "saved_model.pb").read_text()
        lines = json.loads((examples.split("train") / "lines.json").read_text())
        grown.serving.mkdir()
        (grown.serving / "saved_model.pb").write_text(before + "".join(lines) + ".")
'''

DEFINITION = """\
name: toy
root: store-root
steps:
  last: {uses: project_looking_back.Last}
  read: {uses: project_steps.Read, with: {source: configs/numbers.txt}}
  grow: {uses: project_looking_back.Grow, inputs: {model: last.model}}
"""


@pytest.fixture
def looking_back(toy: Path, project: Path) -> Path:
    """The definition's file; the newest model comes first in it."""
    (project / "project_looking_back.py").write_text(STEPS)
    toy.write_text(DEFINITION)
    return toy


def run(cluster: Cluster, job: str) -> dict[str, str]:
    """The outcomes of the tasks of a run, in which the pod of `last` has no file of numbers."""
    numbers, away = Path("configs/numbers.txt"), Path("configs/away.txt")
    outcomes = {"read": cluster.here("read", job).outcome}
    numbers.rename(away)
    outcomes["last"] = cluster.here("last", job).outcome
    away.rename(numbers)
    return outcomes | {"grow": cluster.here("grow", job).outcome}


def grown(cluster: Cluster, job: str) -> str:
    key = cluster.record(job)["steps"]["grow"]["key"]
    return str((cluster.root / "store/grow" / key / "grown/Format-Serving/saved_model.pb").read_text())


def test_it_knows_an_unchanged_run_from_one_with_other_files(looking_back: Path, cluster: Cluster) -> None:
    kubeflow = f"kubeflow: {{image: registry.example.com/toy:1, root: {cluster.volume / 'root'}}}\n"
    looking_back.write_text(DEFINITION + kubeflow)
    Path("configs/numbers.txt").write_text("1\n2\n")

    assert set(run(cluster, "job-1").values()) == {"done"}
    assert set(run(cluster, "job-2").values()) == {"reused"}
    Path("configs/numbers.txt").write_text("3\n")
    assert set(run(cluster, "job-3").values()) == {"done"}
    assert [grown(cluster, job) for job in ("job-1", "job-2", "job-3")] == ["12.", "12.", "12.3."]


def test_its_task_waits_for_those_that_read_files(looking_back: Path, compiled: Callable[[object], Package]) -> None:
    volumes = "defaults: {volumes: [{claim: penstock, path: /mnt/penstock}]}"
    looking_back.write_text(
        f"{DEFINITION}kubeflow: {{image: registry.example.com/toy:1, exit_handler: false, {volumes}}}\n"
    )

    (spec, *_) = yaml.safe_load_all(compiled(looking_back).text)

    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["last"]["dependentTasks"] == ["read"]
    assert sorted(tasks["grow"]["dependentTasks"]) == ["last", "read"]
