"""`pipeline run --bless-anyway`: what a gate refused is pushed all the same, and it is known who said so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.people import who

Command = Callable[..., Any]

GATES = '''
from __future__ import annotations

import json
from dataclasses import dataclass

import project_steps
from schemas.artifacts import Blessing, InfraBlessing, Model, PushedModel
from schemas.component import Lineage, Out
from schemas.errors import NotBlessed


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Model -> Blessing: the model's sum must be at least `least`."""

    least: int

    def run(self, model: Model, blessing: Out[Blessing]) -> None:
        total = model.properties["metrics"]["sum"]
        blessing.write(() if total >= self.least else (f"sum {total} overall is below {self.least}",))


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Model -> InfraBlessing: a server that answers, too slowly, or that does not load the model."""

    loads: bool = True

    def run(self, model: Model, infra_blessing: Out[InfraBlessing]) -> None:
        infra_blessing.write(("latency p99 7 ms is above 5 ms",), servable=self.loads)


@dataclass(frozen=True, kw_only=True)
class Push(project_steps.Push):
    """Model x Blessing -> PushedModel: with a passport that has the gate's verdict."""

    def run(
        self,
        model: Model,
        blessing: Blessing,
        lineage: Lineage,
        pushed_model: Out[PushedModel],
        infra_blessing: InfraBlessing | None = None,
    ) -> None:
        for verdict in (blessing, infra_blessing):
            if verdict is not None and not verdict.blessed:
                raise NotBlessed(", ".join(verdict.reasons))
        project_steps.Push.run(self, model, lineage, pushed_model)
        (pushed_model.version_path / "verdict.json").write_text(json.dumps(blessing.properties))
'''


DEFINITION = """\
name: toy
root: store-root
seed: 7
steps:
  read: {uses: project_steps.Read, with: {source: numbers.txt}}
  fit: {uses: project_steps.Fit}
  evaluate: {uses: project_gates.Evaluate, with: {least: 100}}
  push: {uses: project_gates.Push, with: {destination: serving}}
"""


@pytest.fixture
def gated(project: Path) -> Path:
    """A model, a gate that it does not pass, and a push behind that."""
    (project / "project_gates.py").write_text(GATES)
    (project / "pipeline.yaml").write_text(DEFINITION)
    return project


SERVED = "  serve: {uses: project_gates.Serve, with: {loads: LOADS}}\n  push:"


def test_of_two_gates_the_one_that_refused_is_the_one_to_see_more_of(command: Command, gated: Path) -> None:
    served = DEFINITION.replace("least: 100", "least: 1").replace("  push:", SERVED.replace("LOADS", "true"))
    (gated / "pipeline.yaml").write_text(served)

    said = command("run", "pipeline.yaml")

    assert said.code == 3
    assert "latency p99 7 ms is above 5 ms" in said.out
    assert re.search(r"more +pipeline show \S+ serve --root store-root", said.out)


def test_a_model_that_no_server_loads_is_not_blessed_anyway(command: Command, gated: Path) -> None:
    (gated / "pipeline.yaml").write_text(DEFINITION.replace("  push:", SERVED.replace("LOADS", "false")))

    said = command("run", "pipeline.yaml", "--bless-anyway", "the demo")

    assert said.code == 3
    assert "blessed anyway by" in said.out
    assert re.search(r"more +pipeline show \S+ serve ", said.out)
    assert not (gated / "serving").exists()


def actions(said: Any) -> dict[str, str]:
    return {name: step["action"] for name, step in said.data["steps"].items()}


def test_a_refusal_names_the_command_to_see_more_and_that_command_works(command: Command, gated: Path) -> None:
    said = command("run", "pipeline.yaml")

    assert said.code == 3
    assert "sum 6 overall is below 100" in said.out
    more = re.search(r"more +pipeline (show \S+ evaluate --root store-root)", said.out)
    assert more is not None
    shown = command(*more.group(1).split())
    assert shown.code == 0
    assert '"sum 6 overall is below 100"' in shown.out


def test_who_when_and_why_are_in_the_blessing_that_the_push_is_given(command: Command, gated: Path) -> None:
    assert command("run", "pipeline.yaml").code == 3

    said = command("run", "pipeline.yaml", "--bless-anyway", "the demo on Monday", "--json")

    assert said.code == 0
    assert actions(said) == {"read": "reuse", "fit": "reuse", "evaluate": "run", "push": "run"}
    blessing = Path(said.data["steps"]["evaluate"]["outputs"]["blessing"])
    anyway = json.loads((blessing / "anyway.json").read_text())
    assert (anyway["by"], anyway["reason"]) == (who(), "the demo on Monday")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", anyway["at"])
    verdict = json.loads((gated / "serving" / "1" / "verdict.json").read_text())
    assert verdict == {"blessed": True, "reasons": ["sum 6 overall is below 100"], "anyway": anyway}


def test_said_again_it_does_nothing_and_unsaid_the_gate_says_no_again(command: Command, gated: Path) -> None:
    command("run", "pipeline.yaml", "--bless-anyway", "the demo")
    pushed = sorted(path.name for path in (gated / "serving").iterdir())

    assert command("run", "pipeline.yaml", "--bless-anyway", "the demo", "--json").data["outcome"] == "nothing new"
    assert command("run", "pipeline.yaml").code == 3

    assert sorted(path.name for path in (gated / "serving").iterdir()) == pushed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bless-anyway", " "), "--bless-anyway: say why"),
        (("--bless-anyway", "the demo", "--to", "fit"), "--bless-anyway: no step of toy blesses models"),
    ],
)
def test_without_a_reason_or_a_gate_it_is_wrong_usage(
    command: Command, gated: Path, arguments: tuple[str, ...], message: str
) -> None:
    said = command("run", "pipeline.yaml", *arguments)

    assert said.code == 2
    assert message in said.err
    assert not (gated / "serving").exists()
