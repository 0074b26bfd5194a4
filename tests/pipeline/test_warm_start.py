"""A step that may start from the model that serves: its key counts that model where the step wants it, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.run import run_pipeline
from pipeline.loading import load
from pipeline.plan import make_plan
from pipeline.store import Store

STEPS = """
from __future__ import annotations

from dataclasses import dataclass

from schemas.artifacts import Examples, Model
from schemas.component import Baseline, Out, WantsBaseline


@dataclass(frozen=True, kw_only=True)
class GoOn:
    '''Examples -> Model: one more than the served model.'''

    warm_start: WantsBaseline = False

    def run(self, examples: Examples, baseline: Baseline, model: Out[Model]) -> None:
        before = int((baseline.path / "saved_model.pb").read_text()) if baseline.path else 0
        model.serving.mkdir()
        (model.serving / "saved_model.pb").write_text(str(before + 1))
"""

DEFINITION = """\
name: toy
root: store-root
steps:
  read: {uses: project_steps.Read, with: {source: numbers.txt}}
  go_on: {uses: project_warm.GoOn, with: {warm_start: true}}
  push: {uses: project_steps.Push, with: {destination: serving}}
"""


@pytest.fixture
def pushed(project: Path) -> Path:
    """The project with one model served."""
    (project / "project_warm.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION)
    run_pipeline("pipeline.yaml")
    return project


def actions() -> dict[str, str]:
    definition = load("pipeline.yaml")
    return {step.step: step.action for step in make_plan(definition.graph, Store(definition.root))}


def served(project: Path) -> dict[str, str]:
    return {path.name: (path / "saved_model.pb").read_text() for path in sorted((project / "serving").iterdir())}


def test_an_unchanged_run_does_not_go_on_from_its_own_model(pushed):
    assert actions() == {"read": "reuse", "go_on": "reuse", "push": "reuse"}


def test_new_data_goes_on_from_what_is_served_and_then_rests(pushed):
    (pushed / "numbers.txt").write_text("1\n2\n3\n4\n")
    run_pipeline("pipeline.yaml")

    assert served(pushed) == {"1": "1", "2": "2"}
    assert actions() == {"read": "reuse", "go_on": "reuse", "push": "reuse"}


def test_a_model_that_another_pushed_is_gone_on_from(pushed):
    other = pushed / "serving" / "2"
    other.mkdir()
    (other / "saved_model.pb").write_text("40")
    run_pipeline("pipeline.yaml")

    assert served(pushed)["3"] == "41"


def test_a_run_up_to_the_step_goes_on_from_what_is_served_as_a_whole_run_does(pushed):
    (pushed / "numbers.txt").write_text("1\n2\n3\n4\n")
    made = run_pipeline("pipeline.yaml", to="go_on").steps["go_on"].outputs["model"]
    assert (made / "Format-Serving" / "saved_model.pb").read_text() == "2"

    run_pipeline("pipeline.yaml")

    assert served(pushed) == {"1": "1", "2": "2"}


def test_without_warm_start_what_is_served_is_no_part_of_the_key(pushed):
    (pushed / "pipeline.yaml").write_text(DEFINITION.replace("true", "false"))
    run_pipeline("pipeline.yaml")
    other = pushed / "serving" / "9"
    other.mkdir()
    (other / "saved_model.pb").write_text("40")

    assert actions() == {"read": "reuse", "go_on": "reuse", "push": "reuse"}
