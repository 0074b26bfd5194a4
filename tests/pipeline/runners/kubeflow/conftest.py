"""The small project with a release: a verdict, a push, and a step after it; and a `kubeflow` section."""

from __future__ import annotations

from pathlib import Path

import pytest

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
