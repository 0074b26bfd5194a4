"""`pipeline plan` says what a run would do and why, and does nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.plan import first_notes, plan_definition, plan_pipeline, plan_text
from pipeline.cli.run import run_definition
from pipeline.loading import load
from pipeline.log import PlainDisplay
from schemas.errors import ConfigError


def test_the_text_has_a_line_per_step_and_explains_what_is_open(project: Path) -> None:
    assert plan_text(plan_pipeline("pipeline.yaml")).splitlines() == [
        "run     read   it never ran",
        "run?    count  after read",
        "run?    judge  after count",
        "run?    apply  after read",
        "run?    fit    after apply",
        "",
        "run?  decided when the steps before it have run: reused where what they make is unchanged",
    ]


def test_fast_without_a_step_of_TFX_s_is_said_to_swap_nothing_by_every_verb_that_takes_it(
    ran: Path, command: Callable[..., Any]
) -> None:
    said = "--fast has nothing to swap: no step is a component of TFX's"

    for verb in ("plan", "check", "run"):
        done = command(verb, "pipeline.yaml", "--fast")
        assert (done.code, (done.out + done.err).count(said)) == (0, 1), verb
        assert said not in command(verb, "pipeline.yaml").out


def test_a_plan_up_to_a_step_has_what_that_needs(ran: Path) -> None:
    steps = plan_pipeline("pipeline.yaml", to="fit", force=["apply"])

    assert [(step.step, step.action) for step in steps] == [("read", "reuse"), ("apply", "run"), ("fit", "wait")]
    assert steps[1].as_json() == {"step": "apply", "action": "run", "reasons": ["forced"], "key": steps[1].key}


def test_another_root_has_another_plan(ran: Path, tmp_path: Path) -> None:
    assert {step.action for step in plan_pipeline("pipeline.yaml")} == {"reuse"}
    assert plan_pipeline("pipeline.yaml", root=str(tmp_path / "empty"))[0].action == "run"
    assert not (tmp_path / "empty").exists()


def test_steps_that_are_not_there_are_named_together(ran: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_pipeline("pipeline.yaml", to="fitt", force=["cont"])

    assert [problem.split("Did")[1] for problem in caught.value.problems] == [" you mean 'count'?", " you mean 'fit'?"]


def test_a_refusal_that_is_kept_is_planned_as_such(command: Callable[..., Any], ran: Path) -> None:
    command("run", "pipeline.yaml", "--set", "parameters.most=2", "--to", "judge")

    (judge,) = plan_pipeline("pipeline.yaml", overrides=["parameters.most=2"], to="judge")[-1:]

    assert (judge.action, judge.reasons) == ("refused", ("nothing changed since it was refused",))


def test_what_was_found_not_to_need_more_is_planned_as_such(command: Callable[..., Any], ran: Path) -> None:
    command("run", "pipeline.yaml", "--set", "steps.judge.with.fewest=4", "--to", "judge")

    said = command("plan", "pipeline.yaml", "--set", "steps.judge.with.fewest=4", "--to", "judge")

    assert said.out.splitlines()[-3:] == [
        "no need judge  nothing changed since it found no need to go on",
        "",
        "no need  the run ends with judge: what has not begun by then does not begin",
    ]


def test_what_is_not_followed_of_another_framework_s_pipeline_is_said_until_it_has_run(project: Path) -> None:
    definition = replace(load("pipeline.yaml"), notes=("pipeline_root is not used",))
    planned = plan_text(plan_definition(definition), first_notes(definition))
    console = io.StringIO()

    first = run_definition(definition, listener=PlainDisplay(console))
    again = run_definition(definition)

    assert planned.splitlines()[-1] == "note: pipeline_root is not used"
    assert "note: pipeline_root is not used" in console.getvalue().splitlines()[1]
    assert (first.as_json()["notes"], "notes" in again.as_json()) == (["pipeline_root is not used"], False)
    assert first_notes(definition) == ()
