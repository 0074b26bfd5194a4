"""The plan says what runs, what is reused, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.run import run_pipeline
from pipeline.contract import read_contract
from pipeline.fingerprint import what_changed
from pipeline.loading import load
from pipeline.plan import files_of, make_plan
from pipeline.store import Store
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, DataError


def plan(*overrides: str, force: tuple[str, ...] = ()) -> dict[str, str]:
    definition = load("pipeline.yaml", overrides)
    planned = make_plan(definition.graph, Store(definition.root), force)
    return {step.step: f"{step.action}: {', '.join(step.reasons)}" for step in planned}


def test_the_first_plan_runs_everything_and_writes_nothing(project: Path) -> None:
    assert plan() == {
        "read": "run: it never ran",
        "count": "wait: after read",
        "judge": "wait: after count",
        "apply": "wait: after read",
        "fit": "wait: after apply",
    }
    assert not (project / "store-root").exists()


def test_an_unchanged_plan_reuses_everything(ran: Path) -> None:
    assert set(plan().values()) == {"reuse: nothing changed"}


def test_another_pipeline_in_the_same_root_is_not_compared_with(ran: Path) -> None:
    assert plan("name=another", "parameters.most=5")["judge"] == "run: it never ran"


def test_a_changed_helper_reruns_its_step_and_what_follows_and_names_it(ran: Path) -> None:
    helpers = ran / "project_helpers.py"
    helpers.write_text(helpers.read_text().replace("return number", "return number + 1"))

    assert plan() == {
        "read": "reuse: nothing changed",
        "count": "reuse: nothing changed",
        "judge": "reuse: nothing changed",
        "apply": "run: project_helpers.py: scale changed",
        "fit": "wait: after apply",
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file"), "numbers.txt: it was removed while the input files were read"),
        (OSError(5, "Input/output error"), "numbers.txt: cannot be read: Input/output error"),
    ],
    ids=["removed", "unreadable"],
)
def test_a_file_that_was_listed_and_cannot_be_read_is_named(project: Path, error: OSError, said: str) -> None:
    step = load("pipeline.yaml").graph["read"]

    def digest(file: Path) -> str:
        raise error

    with pytest.raises(DataError, match=said):
        files_of(read_contract(resolve(step.component)), step.settings, digest)


def test_a_comment_reruns_nothing(ran: Path) -> None:
    for name in ("project_helpers.py", "project_functions.py", "project_steps.py"):
        with (ran / name).open("a") as file:
            file.write("\n# a remark\n")

    assert set(plan().values()) == {"reuse: nothing changed"}


def test_a_setting_the_seed_and_the_data_are_named_when_they_change(ran: Path) -> None:
    assert plan("parameters.most=5")["judge"] == "run: most 100 -> 5"
    assert plan("seed=8")["fit"] == "run: seed 7 -> 8"
    assert plan("seed=8")["apply"] == "reuse: nothing changed"
    (ran / "numbers.txt").write_text("1\n2\n")
    assert plan()["read"] == "run: numbers.txt changed"


def test_force_and_cache_false_run_a_step_all_the_same(ran: Path) -> None:
    assert plan(force=("count",))["count"] == "run: forced"
    assert plan("steps.count.cache=false")["count"] == "run: cache: false"


def test_a_damaged_artifact_is_named_with_the_way_to_rebuild_it(ran: Path) -> None:
    (model,) = (ran / "store-root/store/fit").glob("*/model/Format-Serving/saved_model.pb")
    model.write_text("longer than it was")

    with pytest.raises(ArtifactError, match=r"saved_model\.pb") as caught:
        plan()

    assert "--force fit" in str(caught.value)
    assert plan(force=("fit",))["fit"] == "run: forced"


SAYS = '''
from dataclasses import dataclass

from schemas.artifacts import Model
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Say:
    """-> Model: no file is another, whatever it says."""

    limit: int

    def run(self, model: Out[Model]) -> None:
        (model.path / "file").write_text("the same")
        model.properties.update(limit=self.limit, made_at=self.limit * 10)


@dataclass(frozen=True, kw_only=True)
class Read:
    """Model -> Model: what the model says."""

    @classmethod
    def properties_read(cls, port, properties):
        return {"limit": properties["limit"]}

    def run(self, model: Model, read: Out[Model]) -> None:
        (read.path / "file").write_text(str(model.properties["limit"]))


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Model -> Model: what is in its file."""

    def run(self, model: Model, copy: Out[Model]) -> None:
        (copy.path / "file").write_text((model.path / "file").read_text())
'''


def test_what_an_artifact_says_of_itself_counts_for_a_step_that_reads_it(project: Path) -> None:
    (project / "project_says.py").write_text(SAYS)
    (project / "pipeline.yaml").write_text(
        "name: toy\nroot: store-root\nparameters: {limit: 1}\nsteps:\n"
        "  say: {uses: project_says.Say, with: {limit: '${parameters.limit}'}}\n"
        "  read: {uses: project_says.Read, inputs: {model: say.model}}\n"
        "  copy: {uses: project_says.Copy, inputs: {model: say.model}}\n"
    )
    run_pipeline("pipeline.yaml")
    second = run_pipeline("pipeline.yaml", overrides=["parameters.limit=2"])

    assert {name: step.action for name, step in second.steps.items()} == {"say": "run", "read": "run", "copy": "reuse"}
    assert (second.steps["read"].outputs["read"] / "file").read_text() == "2"
    parts = Store(Path("store-root")).latest("read", "toy")
    assert parts is not None
    now = dict(parts.key_parts) | {"properties": {"model": {"limit": 3}}}
    assert what_changed(parts.key_parts, now) == ("input model: limit 2 -> 3",)
