"""`pipeline step` runs one step alone, as it is now, and publishes it under the key that is true for what ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.plan import plan_pipeline
from pipeline.cli.run import RunResult, run_pipeline
from pipeline.cli.step import run_step
from schemas.errors import ConfigError


def run(*overrides: str, **options: object) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=overrides, **options)  # type: ignore[arg-type]


def order_of(step: str, result: RunResult) -> Path:
    return Path("store-root/runs") / result.run / f"{step}.order.json"


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.fixture
def failed(project: Path) -> RunResult:
    """A run that ended in the user's function."""
    edit(project / "project_functions.py", "return scale(int(line)) * 2", 'return {"1": 1}[str(3 - scale(2))] / 0')
    result = run()
    assert result.steps["apply"].message.startswith("project_functions.py:6 in double: ZeroDivisionError")
    return result


def test_a_mended_function_runs_alone_and_the_next_run_reuses_what_it_made(project: Path, failed: RunResult) -> None:
    edit(project / "project_functions.py", 'return {"1": 1}[str(3 - scale(2))] / 0', "return scale(int(line)) * 3")

    done = run_step(order_of("apply", failed))

    assert done.outcome.action == "run"
    assert json.loads((done.outputs["transformed_examples"] / "Split-train/lines.json").read_text()) == [3, 6, 9]
    again = run()
    assert again.steps["apply"].action == "reuse"
    assert again.steps["apply"].outputs == done.outputs
    assert again.metrics == {"sum": 18}


def test_nothing_is_published_under_the_key_of_the_code_that_failed(project: Path, failed: RunResult) -> None:
    broken = (project / "project_functions.py").read_text()
    edit(project / "project_functions.py", 'return {"1": 1}[str(3 - scale(2))] / 0', "return scale(int(line)) * 3")
    run_step(order_of("apply", failed))
    (project / "project_functions.py").write_text(broken)

    assert {step.step: step.action for step in plan_pipeline("pipeline.yaml")}["apply"] == "run"


def test_changed_input_files_are_what_is_read_and_what_the_key_counts(project: Path) -> None:
    result = run(to="count")
    (project / "numbers.txt").write_text("1\n2\n")

    done = run_step(order_of("read", result))

    assert done.outcome.action == "run"
    assert run(to="count").steps["read"].outputs == done.outputs


def test_an_unchanged_step_is_reused_and_made_anew_with_force(project: Path) -> None:
    result = run(to="count")

    assert run_step(order_of("count", result)).outcome.action == "reuse"
    assert run_step(order_of("count", result), force=True).outcome.action == "run"


def test_a_failed_step_names_the_users_line_and_leaves_nothing_staged(project: Path, failed: RunResult) -> None:
    done = run_step(order_of("apply", failed))

    assert done.exit_code == 1
    assert done.outcome.message.startswith("project_functions.py:6 in double: ZeroDivisionError: division by zero")
    assert list((project / "store-root/staging").iterdir()) == []


def test_an_input_that_was_replaced_since_is_not_taken_for_the_one_that_was_ordered(project: Path) -> None:
    order = order_of("judge", run())
    ordered = json.loads(order.read_text())
    ordered["inputs"]["statistics"]["digest"] = "sha256:" + "0" * 64
    order.write_text(json.dumps(ordered))

    done = run_step(order, force=True)

    assert done.exit_code == 1
    assert "count.statistics was replaced by run" in done.outcome.message


def test_a_component_with_a_new_input_is_run_by_the_pipeline_only(project: Path) -> None:
    result = run(to="count")
    edit(
        project / "project_steps.py",
        "def run(self, examples: Examples, statistics: Out",
        "def run(self, examples: Examples, model: Model, statistics: Out",
    )

    with pytest.raises(ConfigError, match="has an input 'model' now"):
        run_step(order_of("count", result))


def test_the_working_directory_is_as_before(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of("read", run(to="read")).absolute()
    monkeypatch.chdir(tmp_path)

    assert run_step(order).outcome.action == "reuse"
    assert Path.cwd() == tmp_path


def test_what_is_no_order_is_said_to_be_none(project: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; a run writes one per step"):
        run_step(project / "nothing.order.json")
    with pytest.raises(ConfigError, match="not a step's order"):
        run_step(project / "pipeline.yaml")
