"""A step with `cache: latest` takes what it made last, and the plan says of which run that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.run import RunResult, run_pipeline
from pipeline.definition import Pipeline
from pipeline.ledger import Ledger
from pipeline.lint import lint
from pipeline.loading import load
from pipeline.plan import make_plan
from pipeline.store import Store
from schemas.errors import ConfigError

STEPS = '''
import json
from dataclasses import dataclass

from schemas.artifacts import Examples, Hyperparameters, Statistics
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Search:
    """Examples -> Hyperparameters: how many lines there are."""

    most: int = 12

    def run(self, examples: Examples, hyperparameters: Out[Hyperparameters]) -> None:
        lines = json.loads((examples.split("train") / "lines.json").read_text())
        hyperparameters.file.write_text(json.dumps({"values": {"lines": len(lines)}}))
        hyperparameters.properties.update(trials=self.most, values={"lines": len(lines)})


@dataclass(frozen=True, kw_only=True)
class Use:
    """Hyperparameters, Examples -> Statistics: both."""

    def run(self, hyperparameters: Hyperparameters, examples: Examples, statistics: Out[Statistics]) -> None:
        lines = json.loads((examples.split("train") / "lines.json").read_text())
        (statistics.path / "seen.json").write_text(json.dumps([hyperparameters.properties["values"], lines]))
'''

DEFINITION = """\
name: toy
root: store-root
steps:
  read: {uses: project_steps.Read, with: {source: numbers.txt}}
  search: {uses: project_search.Search, cache: latest}
  use: {uses: project_search.Use}
"""


@pytest.fixture
def searched(project: Path) -> str:
    """The run that searched; the numbers have changed since."""
    (project / "project_search.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION)
    first = run_pipeline("pipeline.yaml")
    assert first.outcome == "done"
    (project / "numbers.txt").write_text("1\n2\n3\n4\n")
    return first.run


def plan(*overrides: str, force: tuple[str, ...] = ()) -> dict[str, str]:
    definition = load("pipeline.yaml", overrides)
    planned = make_plan(definition.graph, Store(definition.root), force)
    return {step.step: f"{step.action}: {', '.join(step.reasons)}" for step in planned}


def seen(result: RunResult) -> str:
    return (result.steps["use"].outputs["statistics"] / "seen.json").read_text()


def test_where_it_made_nothing_yet_it_runs(project: Path) -> None:
    (project / "project_search.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION)

    assert plan()["search"] == "wait: after read"


def test_new_data_and_settings_leave_the_winner_and_what_follows_runs_with_it(searched: str) -> None:
    winner = f"reuse: reuses the winner of run {searched} (best of 12)"
    assert plan() == {"read": "run: numbers.txt changed", "search": winner, "use": "wait: after read"}

    second = run_pipeline("pipeline.yaml")

    assert {name: step.action for name, step in second.steps.items()} == {
        "read": "run",
        "search": "reuse",
        "use": "run",
    }
    assert seen(second) == '[{"lines": 3}, ["1", "2", "3", "4"]]'
    assert plan()["search"] == f"{winner}, although input examples changed"
    assert plan("search.most=40")["search"] == f"{winner}, although most 12 -> 40, input examples changed"
    assert plan()["use"] == "reuse: nothing changed"
    reasons = {step.step: step.reason for step in Ledger(Store(Path("store-root"))).run(second.run).steps}
    assert reasons["search"] == f"{winner.removeprefix('reuse: ')}, although input examples changed"


def test_forced_it_searches_again_and_that_is_the_latest_then(searched: str) -> None:
    assert plan(force=("search",))["search"] == "run: forced"

    second = run_pipeline("pipeline.yaml", force=["search"])

    assert seen(second) == '[{"lines": 4}, ["1", "2", "3", "4"]]'
    assert plan()["search"] == "reuse: nothing changed"


def test_it_is_refused_for_a_step_that_makes_something_else(project: Path) -> None:
    (found,) = lint(load("pipeline.yaml", ["count.cache=latest"]).graph)

    assert (found.level, found.step) == ("error", "count")
    assert "cache: latest is for steps that make hyperparameters alone, and this one makes ExampleStatistics" in str(
        found
    )


def test_a_pipeline_in_python_may_ask_for_it_too(project: Path) -> None:
    from project_steps import Read  # type: ignore[import-not-found]

    toy = Pipeline(name="toy")
    toy.step("read", Read(source="numbers.txt"), cache="latest")

    assert toy.definition().graph["read"].cache == "latest"


def test_another_word_is_refused_with_those_there_are(project: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml", ["count.cache=newest"])

    assert caught.value.problems == (
        "--set steps.count.cache: 'newest' is not valid here: input should be True, False or 'latest'",
    )
