"""Conditions on Kubeflow: each task asks its own, the others run, and the end says the same as a run on one machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.kubeflow.ended import end_run
from pipeline.runners.kubeflow.package import Package

Cluster = Any  # of conftest.py, which cannot be imported

GATE = """
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Never:
    def check(self, read):
        raise AssertionError("nobody asks before the step's task is there")
"""

STEPS = ("read", "count", "copy", "fit", "bless", "good", "bad", "after_good", "push")


@pytest.fixture
def conditional(cluster: Cluster, gated: Path) -> Cluster:
    """The definition with conditions, which push only what is blessed, as an image has it."""
    text = (gated / "pipeline.yaml").read_text()
    text = text.replace(
        "  push: {", "  push:\n    when: [{uses: project_gates.Blessed, reads: [bless.blessing]}]\n    <<: {"
    )
    kubeflow = f"kubeflow: {{image: registry.example.com/toy:1, root: {cluster.volume / 'root'}}}\n"
    (gated / "pipeline.yaml").write_text(text + kubeflow)
    return cluster


def outcomes(cluster: Cluster, **parameters: int) -> dict[str, str]:
    return {step: cluster.here(step, **parameters).outcome for step in STEPS}


def end(cluster: Cluster, **parameters: int) -> Any:
    values = {**cluster.definition().parameters, "penstock_run": "job-1", **parameters}
    outputs = {"artifacts": {}, "outputFile": str(cluster.pods / "ended.json")}
    given = {"inputs": {"parameterValues": values}, "outputs": outputs}
    return end_run("pipeline.yaml", root=str(cluster.root), executor_input=json.dumps(given), environ={})


def test_who_runs_where_the_model_is_blessed(conditional: Cluster) -> None:
    told = outcomes(conditional, most=2)

    assert {name: outcome for name, outcome in told.items() if outcome != "done"} == {
        "copy": "skipped",
        "bad": "skipped",
    }
    assert conditional.record()["steps"]["copy"]["reason"] == "3 lines are more than 2"
    assert end(conditional, most=2).outcome == "done"


def test_who_runs_where_it_is_not_and_what_the_end_says(conditional: Cluster) -> None:
    told = outcomes(conditional, least=10)

    assert {name: outcome for name, outcome in told.items() if outcome != "done"} == {
        "good": "refused",
        "after_good": "skipped",
        "push": "refused",
    }
    assert conditional.record()["steps"]["after_good"]["reason"] == "good did not run"
    ended = end(conditional, least=10)
    assert (ended.outcome, ended.reasons) == ("refused", ("sum 6 is below 10",) * 2)


def test_what_asks_for_a_blessing_itself_has_a_task_beside_the_others(
    toy: Path, compiled: Callable[[object], Package]
) -> None:
    assert "bless-blessed" in compiled(toy).text
    (toy.parent / "project_gates.py").write_text(GATE)
    when = "when: [{uses: project_gates.Never, reads: [bless.blessing]}]"
    toy.write_text(toy.read_text().replace("uses: project_release.Push,", f"uses: project_release.Push, {when},"))

    assert "bless-blessed" not in compiled(toy).text


@pytest.fixture
def held_back(cluster: Cluster, gated: Path) -> Cluster:
    """The definition with conditions, and a push that has none, in whose group Kubeflow enters for a blessed model alone."""
    kubeflow = f"kubeflow: {{image: registry.example.com/toy:1, root: {cluster.volume / 'root'}}}\n"
    (gated / "pipeline.yaml").write_text((gated / "pipeline.yaml").read_text() + kubeflow)
    return cluster


def test_a_model_that_is_not_blessed_is_refused_whatever_a_condition_kept_from_running_before(
    held_back: Cluster,
) -> None:
    definition = held_back.project / "pipeline.yaml"
    text = definition.read_text()
    good = text.index("  good:")
    definition.write_text(text[:good] + text[text.index("  push:") :])
    for step in STEPS[:5]:
        held_back.here(step, most=2, least=10)

    ended = end(held_back, most=2, least=10)

    assert {step.step: step.action for step in ended.steps}["copy"] == "skipped"
    assert held_back.record()["steps"]["push"]["reason"] == "bless did not bless the model"
    assert (ended.outcome, ended.reasons) == ("refused", ("sum 6 is below 10",))


def test_a_step_that_has_no_task_though_no_verdict_holds_it_back_never_began(held_back: Cluster) -> None:
    for step in STEPS[:5]:
        held_back.here(step, least=10)

    ended = end(held_back, least=10)

    assert {step.step: step.action for step in ended.steps if step.step in ("bad", "push")} == {
        "bad": "failed",
        "push": "skipped",
    }
    assert ended.outcome == "failed"


def test_the_verdict_of_a_step_that_a_condition_keeps_from_running_holds_nothing_back(held_back: Cluster) -> None:
    definition = held_back.project / "pipeline.yaml"
    when = "when: [{uses: project_gates.AtMost, with: {most: 2}, reads: [count.statistics]}]"
    text = definition.read_text().replace("uses: project_gates.Bless,", f"uses: project_gates.Bless, {when},")
    definition.write_text(text[: text.index("  good:")] + text[text.index("  push:") :])
    told = {step: held_back.here(step) for step in (*STEPS[:5], "push")}

    assert told["bless"].outcome == "skipped"
    assert told["bless"].said["parameterValues"]["blessed"] is True
    assert told["push"].outcome == "done"
    assert end(held_back).outcome == "done"
