"""Steps that look back: the newest artifact of earlier runs, what makes it another one, and that an unchanged run changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.plan import plan_pipeline
from pipeline.cli.run import RunResult, run_pipeline

STEPS = '''
from __future__ import annotations

from dataclasses import dataclass

from schemas.artifact import ABSENT
from schemas.artifacts import Examples, Model
from schemas.component import Baseline, Earlier, Out, Sought


@dataclass(frozen=True, kw_only=True)
class Last:
    """-> Model: the newest there is."""

    PASSES_ON = True

    output: str = "model"
    and_also: str = "Model"

    def sought(self) -> list[Sought]:
        besides = ("project_earlier.Last",)
        return [Sought(type="Model", output=self.output, besides=besides), Sought(type=self.and_also, besides=besides)]

    def run(self, earlier: Earlier, model: Out[Model]) -> None:
        model.serving.mkdir()
        if earlier.path is None:
            model.properties[ABSENT] = True
        else:
            (model.serving / "saved_model.pb").write_bytes((earlier.path / "Format-Serving" / "saved_model.pb").read_bytes())
            model.properties.update(earlier.properties, run=earlier.run)


@dataclass(frozen=True, kw_only=True)
class Served:
    """-> Model: what is served, looked at anew where the run is of something new."""

    def sought(self) -> list[Sought]:
        return []

    def run(self, baseline: Baseline, earlier: Earlier, model: Out[Model]) -> None:
        model.serving.mkdir()
        if baseline.path is None:
            model.properties[ABSENT] = True
        else:
            (model.serving / "saved_model.pb").write_bytes((baseline.path / "saved_model.pb").read_bytes())


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Model -> Model: one more letter."""

    letter: str = "a"

    def run(self, model: Model, grown: Out[Model]) -> None:
        before = "" if model.properties.get(ABSENT) else (model.serving / "saved_model.pb").read_text()
        grown.serving.mkdir()
        (grown.serving / "saved_model.pb").write_text(before + self.letter)
        grown.properties["metrics"] = {"letters": len(before) + 1}
'''

DEFINITION = """\
name: toy
root: store-root
parameters: {letter: a, output: grown, also: Model}
steps:
  last: {uses: project_earlier.Last, with: {output: "${parameters.output}", and_also: "${parameters.also}"}}
  grow: {uses: project_earlier.Grow, inputs: {model: last.model}, with: {letter: "${parameters.letter}"}}
"""


@pytest.fixture
def looking_back(project: Path) -> Path:
    """The project's directory, with a definition whose model goes on from the newest one."""
    (project / "project_earlier.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION)
    return project


def run(*overrides: str, **options: Any) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=overrides, **options)


def letters(result: RunResult, step: str = "grow", output: str = "grown") -> str:
    return (result.steps[step].outputs[output] / "Format-Serving" / "saved_model.pb").read_text()


def test_a_model_goes_on_from_the_newest_only_where_something_changed(looking_back: Path) -> None:
    first = run()
    again = run()
    changed = run("parameters.letter=b")
    planned = {step.step: step for step in plan_pipeline("pipeline.yaml", overrides=["parameters.letter=b"])}
    back = run()

    assert (letters(first), first.outcome) == ("a", "done")
    assert again.outcome == "nothing new"
    assert letters(changed) == "ab"
    assert {step.action for step in planned.values()} == {"reuse"}
    assert letters(back) == "aba"
    assert run().outcome == "nothing new"


def test_what_is_passed_on_is_no_result_of_the_run(looking_back: Path) -> None:
    run()

    result = run("parameters.letter=b")

    assert set(result.paths) == {"grow.grown"}
    assert result.metrics == {"letters": 2}


def test_the_plan_names_the_run_whose_artifact_is_the_newest(looking_back: Path) -> None:
    first = run()

    (last, _) = plan_pipeline("pipeline.yaml", overrides=["parameters.letter=b"])

    assert last.reasons == (f"the newest is that of run {first.run}",)


def test_nothing_is_given_unless_there_is_one_of_each(looking_back: Path) -> None:
    run()

    assert letters(run("parameters.also=Examples", "parameters.letter=c")) == "c"
    assert letters(run("parameters.output=other", "parameters.letter=d")) == "d"


def test_another_pipeline_s_artifacts_in_the_same_store_are_not_found(looking_back: Path) -> None:
    run()
    (looking_back / "pipeline.yaml").write_text(DEFINITION.replace("name: toy", "name: other"))

    assert letters(run("parameters.letter=b")) == "b"


def test_a_step_that_runs_each_time_goes_on_each_time(looking_back: Path) -> None:
    (looking_back / "pipeline.yaml").write_text(
        DEFINITION.replace("inputs: {model: last.model}", "cache: false, inputs: {model: last.model}")
    )

    assert [letters(run()) for _ in range(3)] == ["a", "aa", "aaa"]


def test_what_this_very_run_has_made_is_not_of_an_earlier_one(looking_back: Path) -> None:
    above = "  before: {uses: project_steps.Read, with: {source: numbers.txt}}\n  fit: {uses: project_steps.Fit}\n"
    text = DEFINITION.replace("steps:\n", f"steps:\n{above}").replace("output: grown", "output: model")
    (looking_back / "pipeline.yaml").write_text(text + "parallel: 1\n")

    first, second = run(), run()

    assert letters(first) == "a"
    assert letters(second) == letters(first, "fit", "model") + "a"
    assert run().outcome == "nothing new"


def test_a_model_goes_on_from_the_served_one_only_where_something_changed(looking_back: Path) -> None:
    push = "  push: {uses: project_steps.Push, inputs: {model: grow.grown}, with: {destination: serving}}\n"
    text = DEFINITION.replace(
        'project_earlier.Last, with: {output: "${parameters.output}", and_also: "${parameters.also}"}',
        "project_earlier.Served",
    )
    (looking_back / "pipeline.yaml").write_text(text + push)

    first, again, changed = run(), run(), run("parameters.letter=b")

    assert [letters(first), again.outcome, letters(changed)] == ["a", "nothing new", "ab"]
    assert run("parameters.letter=b").outcome == "nothing new"
