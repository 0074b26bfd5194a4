"""Rules find what a graph's shape does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lint import lint
from pipeline.loading import load


def findings(*overrides: str) -> list[str]:
    return [f"{finding.level}: {finding}" for finding in lint(load("pipeline.yaml", overrides).graph)]


def test_a_right_definition_has_no_findings(project: Path) -> None:
    assert findings() == []


def test_a_users_function_that_is_not_there_is_found_without_importing_it(project: Path) -> None:
    (project / "project_functions.py").write_text("raise SystemExit\ndef double(): ...\n")

    (found,) = findings("apply.function=project_functions.duoble")

    assert found == (
        "error: steps.apply.function: 'project_functions.duoble' does not import: project_functions has no 'duoble'. "
        "Did you mean 'double'?"
    )


def test_a_users_module_that_is_not_there_is_found(project: Path) -> None:
    (found,) = findings("apply.function=project_nothing.double")

    assert "there is no module 'project_nothing'" in found


@pytest.mark.parametrize("module", ["project_functions", "project_helpers"])
def test_a_users_module_that_is_not_python_is_found_with_its_line(project: Path, module: str) -> None:
    (project / f"{module}.py").write_text("x = 1\ndef double(:\n")

    (found,) = findings()

    assert f"{module}.py:2: not valid Python" in found


def test_a_module_file_without_the_function_that_is_asked_for_is_found(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: files\nroot: store\nsteps:\n"
        "  example_gen: {uses: ExampleGen, with: {source: numbers.txt}}\n"
        "  schema_gen: {uses: ImportSchema, with: {path: numbers.txt}}\n"
        "  transform: {uses: Transform, with: {preprocessing_fn: models/taxi.py}}\n"
    )
    (project / "models").mkdir()
    (project / "models/taxi.py").write_text("raise SystemExit\ndef preprocess_fn(inputs): ...\n")

    (found,) = findings()

    assert found == (
        "error: steps.transform.preprocessing_fn: models/taxi.py has no 'preprocessing_fn'. Did you mean 'preprocess_fn'?"
    )
    (project / "models/taxi.py").write_text("def preprocessing_fn(inputs): ...\n")
    assert findings() == []


def test_findings_have_the_line_that_they_are_about(project: Path) -> None:
    definition = load("pipeline.yaml", ["apply.function=project_functions.duoble"])
    (project / "numbers.txt").unlink()

    first, second = map(str, lint(definition.graph, definition.source))

    assert first.startswith("--set steps.apply.with.function: 'project_functions.duoble' does not import")
    assert second.startswith("pipeline.yaml:6: steps.read.with.source: numbers.txt: there is no such file")


def test_input_files_that_are_not_there_are_found(project: Path) -> None:
    (found,) = findings("read.source=nothing.txt")

    assert found.startswith("error: steps.read.source: ")
    assert "nothing.txt" in found


def test_an_input_that_stays_empty_because_several_steps_make_it_is_found(project: Path) -> None:
    steps = project / "project_steps.py"
    steps.write_text(
        steps.read_text()
        .replace("import InputFiles", "import IfOnlyOne, InputFiles")
        .replace("lineage: Lineage, pushed_model", "lineage: Lineage, statistics: IfOnlyOne[Statistics], pushed_model")
    )
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  push: {uses: project_steps.Push, with: {destination: serving}}\n")
    assert findings() == []
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  again: {uses: project_steps.Count}\n")
        file.write("  publish: {uses: project_steps.Push, with: {destination: other}}\n")

    (found,) = findings("steps.judge.inputs={statistics: count.statistics}")

    assert found == (
        "warning: steps.publish: input 'statistics' could be count.statistics or again.statistics, and stays empty. Say "
        "which, as in inputs: {statistics: count.statistics}"
    )


def test_two_pushers_to_one_directory_are_found(project: Path) -> None:
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  push: {uses: Pusher, with: {destination: serving, require_blessing: false}}\n")
        file.write("  again: {uses: Pusher, with: {destination: serving, require_blessing: false}}\n")

    found = findings()

    assert any("steps.again.destination: 'serving' is where 'push' pushes too" in finding for finding in found)


def test_less_memory_than_a_step_takes_whatever_the_data_is_found(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n"
        "  read: {uses: project_steps.Read, with: {source: numbers.txt}, resources: {memory: 1MB}}\n"
        "  statistics_gen: {uses: StatisticsGen, resources: {memory: 512MB}}\n"
    )

    (found,) = findings()

    assert found == (
        "error: steps.statistics_gen: resources.memory is 0.512 GB, and StatisticsGen takes 1 GB whatever the data. "
        "Give it that or more"
    )


def test_just_enough_memory_is_enough(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n"
        "  read: {uses: project_steps.Read, with: {source: numbers.txt}}\n"
        "  statistics_gen: {uses: StatisticsGen, resources: {memory: 1GB}}\n"
    )

    assert findings() == []
