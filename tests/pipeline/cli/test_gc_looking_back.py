"""`pipeline gc` beside steps that look back: what they were given stays, and a model that was removed is made again as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.gc import collect_garbage
from pipeline.cli.run import RunResult, run_pipeline

STEPS = '''
from __future__ import annotations

from dataclasses import dataclass

from schemas.artifact import ABSENT
from schemas.artifacts import Model
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
    """Model -> Model: one more letter."""

    letter: str = "a"

    def run(self, model: Model, grown: Out[Model]) -> None:
        before = "" if model.properties.get(ABSENT) else (model.serving / "saved_model.pb").read_text()
        grown.serving.mkdir()
        (grown.serving / "saved_model.pb").write_text(before + self.letter)
'''

DEFINITION = """\
name: toy
root: store-root
parameters: {letter: a}
steps:
  last: {uses: project_looking_back.Last}
  grow: {uses: project_looking_back.Grow, inputs: {model: last.model}, with: {letter: "${parameters.letter}"}}
"""


@pytest.fixture(autouse=True)
def looking_back(project: Path) -> None:
    """A definition whose model goes on from the newest one."""
    (project / "project_looking_back.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION)


def run(letter: str, to: str | None = None) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=[f"parameters.letter={letter}"], to=to)


def letters(result: RunResult) -> str:
    return (result.steps["grow"].outputs["grown"] / "Format-Serving" / "saved_model.pb").read_text()


def gc() -> set[str]:
    """Keep the newest run alone; gives the steps of what was removed from the store."""
    removed = collect_garbage("store-root", keep_runs=1, remove=True).garbage
    return {item.path.parent.name for item in removed if item.path.parent.parent.name == "store"}


def test_the_model_to_go_on_from_stays_when_the_runs_since_made_none() -> None:
    run("a")
    run("b", to="last")  # as one that was refused before it came to the model

    removed = gc()

    assert removed == {"last"}  # of the first run, which had none to give
    assert letters(run("b")) == "ab"


def test_the_newest_model_is_made_again_as_it_was_when_it_was_removed() -> None:
    run("a")
    before = run("b")
    run("b", to="last")

    removed = gc()
    again = run("b")

    assert removed == {"last", "grow"}
    assert (again.steps["last"].action, again.steps["grow"].action) == ("reuse", "run")
    assert letters(again) == "ab"
    assert again.steps["grow"].outputs == before.steps["grow"].outputs
    assert run("b").outcome == "nothing new"


def test_a_model_of_before_that_was_removed_changes_nothing() -> None:
    run("a")
    run("b")
    run("b")

    gc()

    assert run("b").outcome == "nothing new"
    assert letters(run("c")) == "abc"
