"""The `release:` section is the settings it stands for, and says what is wrong in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.loading import load
from schemas.errors import ConfigError

STEPS = """\
steps:
  example_gen: {uses: ExampleGen, with: {source: numbers.txt}}
  statistics_gen: {uses: StatisticsGen}
  schema_gen: {uses: SchemaGen}
  validator: {uses: ExampleValidator}
  train: {uses: project_steps.Fit}
  judge: {uses: components.model.evaluator.Evaluator, with: {label: tip}}
  serve: {uses: InfraValidator, with: {rows: 5}}
  push: {uses: Pusher, with: {destination: serving}}
"""
RELEASE = """\
release:
  metrics:
    auc: {min: 0.7, confidence: 0.95, slices: [{slice: [hour], min: 0.6}]}
  confidence_intervals: jackknife
  anomalies: warn
  drift: retrain
  latency: {p50_ms: 5, p99_ms: 20}
  parity: {absolute: 0.001}
  max_size_mb: 50
"""


def define(text: str) -> None:
    Path("pipeline.yaml").write_text(f"name: toy\n{text}")


def problems() -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml")
    return list(caught.value.problems)


def test_each_gate_is_a_setting_of_the_step_that_checks_it(project: Path) -> None:
    define(RELEASE + STEPS)

    graph = load("pipeline.yaml").graph

    assert graph["judge"].settings["thresholds"] == {
        "auc": {"min": 0.7, "confidence": 0.95, "slices": [{"slice": ["hour"], "min": 0.6}]}
    }
    assert graph["judge"].settings["confidence_intervals"] == "jackknife"
    assert graph["validator"].settings["on_anomaly"] == "warn"
    assert graph["validator"].settings["on_drift"] == "retrain"
    assert graph["serve"].settings["latency"] == {"p50_ms": 5.0, "p99_ms": 20.0}
    assert graph["serve"].settings["parity"] == {"absolute": 0.001}
    assert graph["push"].settings["max_size_mb"] == 50


def test_the_same_settings_in_the_steps_give_the_same_digest(project: Path) -> None:
    define("release: {anomalies: warn, max_size_mb: 50}\n" + STEPS)
    in_one_place = load("pipeline.yaml").graph.digest

    define(
        STEPS.replace("ExampleValidator}", "ExampleValidator, with: {on_anomaly: warn}}").replace(
            "destination: serving", "destination: serving, max_size_mb: 50"
        )
    )

    assert load("pipeline.yaml").graph.digest == in_one_place


def test_a_value_may_be_set_from_the_command_line(project: Path) -> None:
    define(RELEASE + STEPS)

    graph = load("pipeline.yaml", ["release.metrics.auc.min=0.8"]).graph

    assert graph["judge"].settings["thresholds"]["auc"]["min"] == 0.8


def test_what_a_step_finds_wrong_is_said_where_it_was_written(project: Path) -> None:
    define(
        "release:\n  metrics:\n    auc: {mn: 0.7}\n  anomalies: fial\n  latency: {p95_ms: 9}\n  max_size_mb: -1\n"
        + STEPS
    )

    assert [problem.partition(". ")[0] for problem in problems()] == [
        "pipeline.yaml:5: release.anomalies: 'fial' is not one of fail, warn",
        "pipeline.yaml:4: release.metrics.auc.mn: no such bound",
        "pipeline.yaml:6: release.latency.p95_ms: no such bound",
        "pipeline.yaml:7: release.max_size_mb: -1 is not a positive number of megabytes",
    ]


def test_a_gate_that_is_unknown_has_a_suggestion(project: Path) -> None:
    define("release: {metric: {}}\n" + STEPS)

    assert problems() == ["pipeline.yaml:2: release.metric: no such setting. Did you mean 'metrics'?"]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (
            "  push: {uses: Pusher, with: {destination: serving, require_blessing: false, max_size_mb: 3}}\n",
            "pipeline.yaml:4: release.max_size_mb: steps.push.with.max_size_mb asks the same. Keep one of the two",
        ),
        (
            "  push: {uses: Pusher, with: {destination: serving, require_blessing: false}}\n"
            "  again: {uses: Pusher, with: {destination: other, require_blessing: false}}\n",
            "pipeline.yaml:4: release.max_size_mb: push, again all use Pusher. Say in each of them what it asks, as 'max_size_mb'",
        ),
        ("", "pipeline.yaml:4: release.max_size_mb: no step uses Pusher, which checks it. Add one, or remove this"),
    ],
)
def test_a_gate_that_no_one_step_checks_is_said(project: Path, steps: str, problem: str) -> None:
    start = "  read: {uses: project_steps.Read, with: {source: numbers.txt}}\n  fit: {uses: project_steps.Fit}\n"
    define(f"seed: 1\nrelease:\n  max_size_mb: 2\nsteps:\n{start}{steps}")

    assert problems() == [problem]
