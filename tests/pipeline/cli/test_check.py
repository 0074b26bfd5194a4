"""`pipeline check` finds every mistake and runs nothing."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli.check import check_pipeline
from pipeline.loading import load


def test_a_right_definition_is_ready_to_run(project: Path) -> None:
    result = check_pipeline("pipeline.yaml")

    assert result.ok
    assert result.as_text() == "pipeline.yaml: 5 steps, ready to run"
    assert result.digest == load("pipeline.yaml").graph.digest


def test_mistakes_are_listed_and_counted(project: Path) -> None:
    result = check_pipeline("pipeline.yaml", overrides=["fit.pause=1", "judge.most=x"])

    assert not result.ok
    assert result.as_text().splitlines() == [
        "error: --set steps.judge.with.most: 'x' is not valid here: input should be a valid integer",
        "error: --set steps.fit.with.pause: no such setting. Did you mean 'pause_s'?",
        "pipeline.yaml: 2 mistakes to mend",
    ]


def test_what_is_wrong_with_the_graph_is_found_as_well(project: Path) -> None:
    (project / "numbers.txt").unlink()

    (error,) = check_pipeline("pipeline.yaml").errors

    assert error.startswith("pipeline.yaml:6: steps.read.with.source: numbers.txt: there is no such file")


def test_a_warning_does_not_keep_it_from_running(project: Path) -> None:
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  evaluate: {uses: Evaluator, inputs: {examples: read.examples}, with: {label: x}}\n")

    result = check_pipeline("pipeline.yaml")

    assert result.ok, result.errors
    (warning,) = result.warnings
    assert warning.startswith("pipeline.yaml:11: steps.evaluate.with.thresholds: none are set")


def test_an_Evaluator_whose_EvalConfig_says_it_all_is_not_asked_for_thresholds(project: Path) -> None:
    whole = "{eval_config: {metrics_specs: [{metrics: [{class_name: AUC}]}]}}"
    with (project / "pipeline.yaml").open("a") as file:
        file.write(f"  evaluate: {{uses: Evaluator, inputs: {{examples: read.examples}}, with: {whole}}}\n")

    result = check_pipeline("pipeline.yaml")

    assert (result.errors, result.warnings) == ((), ())


def test_nothing_is_run_or_written(project: Path) -> None:
    (project / "project_functions.py").write_text("raise SystemExit\ndef double(): ...\n")

    assert check_pipeline("pipeline.yaml").ok
    assert not (project / "store-root").exists()
