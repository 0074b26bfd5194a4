"""Steps that run only under a condition: who runs then, what a run comes to, and what is wrong before it begins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import log
from pipeline.cli.dag import draw
from pipeline.cli.plan import plan_pipeline, plan_text
from pipeline.cli.run import RunResult, run_pipeline
from pipeline.loading import load
from pipeline.plan import digest_of_run
from schemas.errors import ConfigError, UserCodeError

SEARCH = '''
from dataclasses import dataclass

from schemas.artifacts import Examples, Hyperparameters
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Search:
    """Examples -> Hyperparameters."""

    def run(self, examples: Examples, hyperparameters: Out[Hyperparameters]) -> None:
        hyperparameters.file.write_text("{}")
        hyperparameters.properties.update(trials=1, values={})
'''


def run(*overrides: str, **options: Any) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=overrides, **options)


def actions(result: RunResult) -> dict[str, str]:
    return {name: step.action for name, step in result.steps.items()}


def test_a_step_whose_condition_does_not_hold_is_skipped_and_others_run(gated: Path) -> None:
    result = run("parameters.most=2")

    assert result.outcome == "done"
    assert actions(result) == {
        "read": "run",
        "count": "run",
        "copy": "skipped",
        "fit": "run",
        "bless": "run",
        "good": "run",
        "bad": "skipped",
        "after_good": "run",
        "push": "run",
    }
    assert result.steps["copy"].message == "3 lines are more than 2"
    again = run("parameters.most=2")
    assert again.outcome == "nothing new"
    assert actions(again) == {
        **actions(result),
        **{name: "reuse" for name, was in actions(result).items() if was == "run"},
    }


def test_what_needs_the_outputs_is_skipped_with_it_and_a_refusal_is_the_run_s_outcome(gated: Path) -> None:
    events: list[log.Event] = []

    result = run("parameters.least=10", listener=events.append)

    assert (result.outcome, result.exit_code) == ("refused", 3)
    assert result.reasons == ("sum 6 is below 10",)
    told = actions(result)
    assert (told["good"], told["after_good"], told["bad"], told["copy"]) == ("refused", "skipped", "run", "run")
    # To what waits for all that stands before it, a step that a condition keeps from running has ended well.
    assert told["push"] == "run"
    (refused,) = [event for event in events if isinstance(event, log.StepRefused)]
    assert (refused.step, refused.more.split()[-3]) == ("good", "bless")
    (skipped,) = [event for event in events if isinstance(event, log.StepFinished) and event.action == "skipped"]
    assert (skipped.step, skipped.reason) == ("after_good", "good did not run")


def test_an_input_that_a_step_can_do_without_is_none_where_its_step_does_not_run(gated: Path) -> None:
    def told(result: RunResult) -> str:
        return (result.steps["bad"].outputs["statistics"] / "count.json").read_text()

    assert told(run("parameters.least=10")) == "2"
    assert told(run("parameters.least=10", "parameters.most=2")) == "1"


def test_a_run_is_skipped_where_conditions_keep_it_from_all_that_it_is_for(gated: Path) -> None:
    text = (
        (gated / "pipeline.yaml")
        .read_text()
        .replace(
            "  push: {",
            "  push:\n    when: [{uses: project_gates.AtMost, with: {most: 2}, reads: [count.statistics]}]\n    <<: {",
        )
    )
    (gated / "pipeline.yaml").write_text(text)

    result = run()

    assert (result.outcome, result.exit_code) == ("skipped", 0)
    assert "3 lines are more than 2" in result.reasons
    assert not (gated / "serving").exists()


def test_the_plan_says_whose_condition_does_not_hold_as_soon_as_that_is_known(gated: Path) -> None:
    assert {step.action for step in plan_pipeline("pipeline.yaml") if step.step in ("good", "bad")} == {"wait"}
    run("parameters.least=10", "parameters.most=2")

    planned = {
        step.step: step
        for step in plan_pipeline("pipeline.yaml", overrides=["parameters.least=10", "parameters.most=2"])
    }

    assert {name: step.action for name, step in planned.items() if step.action != "reuse"} == {
        "copy": "skipped",
        "good": "refused",
        "after_good": "skipped",
    }
    assert planned["copy"].reasons == ("3 lines are more than 2",)
    assert "the run ends" not in plan_text(planned.values())


def test_the_plan_promises_no_run_of_what_a_condition_may_keep_from_running(gated: Path) -> None:
    def planned(step: str) -> tuple[str, tuple[str, ...]]:
        (found,) = [one for one in plan_pipeline("pipeline.yaml", force=["read", step]) if one.step == step]
        return found.action, found.reasons

    assert planned("copy") == ("wait", ("after read, count",))
    assert planned("fit") == ("run", ("forced",))


def test_the_plan_promises_nothing_kept_of_what_a_condition_may_keep_from_running(gated: Path) -> None:
    (gated / "project_search.py").write_text(SEARCH)
    when = "when: [{uses: project_gates.AtMost, with: {most: 2}, reads: [count.statistics]}]"
    search = "  search: {uses: project_search.Search, cache: latest}\n"
    text = (gated / "pipeline.yaml").read_text()
    (gated / "pipeline.yaml").write_text(text + search)
    run(to="search")
    (gated / "pipeline.yaml").write_text(text + search.replace("}", f", {when}}}"))
    (gated / "numbers.txt").write_text("1\n2\n3\n4\n")

    (planned,) = [one for one in plan_pipeline("pipeline.yaml") if one.step == "search"]

    assert planned.action == "wait"
    assert actions(run(to="search"))["search"] == "skipped"


def test_what_is_asked_before_a_step_is_drawn_and_part_of_the_graph_s_digest(gated: Path) -> None:
    with_conditions = load("pipeline.yaml").graph

    assert "copy        Apply  <- read.examples, when count.statistics" in draw("pipeline.yaml")
    assert "bless -. blessing .-> good" in draw("pipeline.yaml", "mermaid")
    assert 'bless -> good [label="blessing" style=dashed];' in draw("pipeline.yaml", "dot")
    text = (gated / "pipeline.yaml").read_text()
    (gated / "pipeline.yaml").write_text(text.replace("wanted: false", "wanted: true"))
    assert load("pipeline.yaml").graph.digest != with_conditions.digest


def test_a_condition_that_cannot_be_evaluated_ends_the_run_with_its_step_s_name(gated: Path) -> None:
    (gated / "numbers.txt").write_text("")

    with pytest.raises(Exception, match="^copy: there is nothing to count"):
        run()


def test_conditions_are_checked_before_anything_runs(gated: Path) -> None:
    text = (
        (gated / "pipeline.yaml")
        .read_text()
        .replace('parameters.most}"', 'parameters.most}", x: 1')
        .replace("reads: [bless.blessing]", "reads: [bles.blessing]", 1)
    )
    (gated / "pipeline.yaml").write_text(text.replace("project_gates.Blessed, with", "project_gates.Note, with"))

    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml", ["parameters.most=-1"])

    said = "\n".join(caught.value.problems)
    assert "there is no step 'bles'. Did you mean 'bless'?" in said
    assert "project_gates.Note is no condition: expected a dataclass with a method named check" in said
    assert "no such setting" in said


def test_a_step_may_not_stand_before_what_its_condition_reads(gated: Path) -> None:
    text = (gated / "pipeline.yaml").read_text().replace("reads: [count.statistics]", "reads: [good.statistics]")
    (gated / "pipeline.yaml").write_text(text)

    with pytest.raises(ConfigError, match=r"^pipeline\.yaml:10: steps\.copy\.when: 'good' stands below 'copy'"):
        load("pipeline.yaml")


def test_a_condition_of_the_user_s_that_raises_is_told_by_its_line_and_lets_what_runs_beside_it_end(
    gated: Path,
) -> None:
    (gated / "project_gates.py").write_text(
        (gated / "project_gates.py").read_text().replace("if count == 0:", 'if read["other"]:')
    )
    events: list[log.Event] = []

    with pytest.raises(UserCodeError) as caught:
        run("parallel=2", listener=events.append)

    assert re.fullmatch(
        r"project_gates\.py:\d+ in check: KeyError: 'other', when project_gates\.AtMost was asked whether copy runs",
        str(caught.value),
    )
    begun = {event.step for event in events if isinstance(event, log.StepStarted)}
    assert "fit" in begun
    assert begun == {event.step for event in events if isinstance(event, log.StepFinished) and event.action == "run"}


def test_a_condition_whose_module_raises_is_told_by_its_line_and_its_place(gated: Path) -> None:
    (gated / "project_wrong.py").write_text("NOTHING = {}[1]\n")
    text = (gated / "pipeline.yaml").read_text().replace("project_gates.AtMost", "project_wrong.AtMost")
    (gated / "pipeline.yaml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml")

    assert "project_wrong.py:1 in <module>: KeyError: 1, when 'project_wrong.AtMost' was imported" in str(caught.value)


def test_what_a_run_is_made_of_counts_the_code_of_its_conditions(gated: Path) -> None:
    gates = gated / "project_gates.py"
    (gated / "project_asks.py").write_text(gates.read_text())
    text = (gated / "pipeline.yaml").read_text().replace("project_gates.AtMost", "project_asks.AtMost")
    (gated / "pipeline.yaml").write_text(text)
    graph = load("pipeline.yaml").graph
    before = digest_of_run(graph)

    asks = (gated / "project_asks.py").read_text()
    (gated / "project_asks.py").write_text(asks.replace("count > self.most", "count >= self.most"))

    assert digest_of_run(graph) != before
