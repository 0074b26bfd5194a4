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
