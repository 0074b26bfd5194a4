"""What a Resolver gave is, in an export, the artifact that an earlier run made: lineage leads from who read it to who made it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.cli.export_mlmd import export_runs
from pipeline.cli.run import RunResult, run_pipeline

EXPORT: dict[str, str] = {"root": "store-root"}

STEPS = '''
from __future__ import annotations

import shutil
from dataclasses import dataclass

from pathlib import Path

from project_steps import Push as PushAnyway
from schemas.artifact import ABSENT
from schemas.artifacts import Blessing, Model, PushedModel
from schemas.component import Baseline, Earlier, Lineage, Out, Sought


@dataclass(frozen=True, kw_only=True)
class Fit:
    """-> Model: a letter."""

    letter: str = "a"

    def run(self, model: Out[Model]) -> None:
        model.serving.mkdir()
        (model.serving / "saved_model.pb").write_text(self.letter)


class Resolver:
    """-> Model: another name for one that is there."""

    PASSES_ON = True

    def pass_on(self, found: Path | None, result: Model) -> None:
        if found is None:
            result.properties[ABSENT] = True
        else:
            shutil.copytree(found, result.serving)


@dataclass(frozen=True, kw_only=True)
class Newest(Resolver):
    """-> Model: the newest."""

    def sought(self) -> list[Sought]:
        return [Sought(type="Model", step="fit")]

    def run(self, earlier: Earlier, result: Out[Model]) -> None:
        self.pass_on(earlier.path and earlier.path / "Format-Serving", result)


@dataclass(frozen=True, kw_only=True)
class Served(Resolver):
    """Model -> Model: the one that serves."""

    def run(self, model: Model, baseline: Baseline, result: Out[Model]) -> None:
        self.pass_on(baseline.path, result)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Model, Model -> Blessing: whatever they are."""

    strictness: int = 1

    def run(self, model: Model, baseline_model: Model, blessing: Out[Blessing]) -> None:
        blessing.properties["blessed"] = True
        blessing.properties["compared"] = not baseline_model.properties.get(ABSENT, False)


@dataclass(frozen=True, kw_only=True)
class Push(PushAnyway):
    """Model, Blessing -> PushedModel."""

    def run(self, model: Model, blessing: Blessing, lineage: Lineage, pushed_model: Out[PushedModel]) -> None:
        super().run(model, lineage, pushed_model)
'''

DEFINITION = """\
name: toy
root: store-root
parameters: {letter: a, strictness: 1}
steps:
  fit: {uses: project_resolving.Fit, with: {letter: "${parameters.letter}"}}
  resolver: {uses: project_resolving.RESOLVER}
  compare:
    uses: project_resolving.Compare
    inputs: {model: fit.model, baseline_model: resolver.result}
    with: {strictness: "${parameters.strictness}"}
  push: {uses: project_resolving.Push, inputs: {model: fit.model}, with: {destination: serving}}
"""


def run(*overrides: str) -> RunResult:
    result = run_pipeline("pipeline.yaml", overrides=overrides)
    assert result.outcome == "done"
    return result


@pytest.fixture
def resolving(project: Path, resolver: str) -> Path:
    """The project's directory, with a definition that compares a model with what a `resolver` gives."""
    (project / "project_resolving.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION.replace("RESOLVER", resolver))
    return project


def opened(file: str) -> Any:
    """ML Metadata's own client."""
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = file
    config.sqlite.connection_mode = 1
    return MetadataStore(config)


def execution(store: Any, run: RunResult, step: str) -> Any:
    context = store.get_context_by_type_and_name("pipeline_run", run.run)
    (found,) = [e for e in store.get_executions_by_context(context.id) if e.name == f"{run.run}.{step}"]
    return found


def artifacts(store: Any, run: RunResult, step: str, kind: int) -> dict[str, int]:
    """The ids of what a step read or made, by port."""
    found = store.get_events_by_execution_ids([execution(store, run, step).id])
    return {key.key: event.artifact_id for event in found if event.type == kind for key in event.path.steps if key.key}


@pytest.mark.parametrize("resolver", ["Newest", "Served"])
def test_the_baseline_leads_back_to_the_step_that_made_it(resolving: Path) -> None:
    first, second = run(), run("parameters.letter=b")

    export_runs(Path("lineage.db"), every=True, **EXPORT)

    store = opened("lineage.db")
    baseline = artifacts(store, second, "compare", pb.Event.INPUT)["baseline_model"]
    (made,) = [e for e in store.get_events_by_artifact_ids([baseline]) if e.type == pb.Event.OUTPUT]
    assert made.execution_id == execution(store, first, "fit").id
    assert artifacts(store, second, "resolver", pb.Event.INTERNAL_OUTPUT) == {"result": baseline}
    assert len(store.get_artifacts_by_type("Model")) == 2
    # The second run alone, and then the first: the same.
    export_runs(Path("apart.db"), second.run, **EXPORT)
    export_runs(Path("apart.db"), first.run, **EXPORT)
    apart = opened("apart.db")
    baseline = artifacts(apart, second, "compare", pb.Event.INPUT)["baseline_model"]
    assert artifacts(apart, first, "fit", pb.Event.OUTPUT) == {"model": baseline}


@pytest.mark.parametrize("resolver", ["Newest", "Served"])
def test_what_was_given_is_the_same_when_its_maker_is_gone_and_its_copy_where_nothing_else_is_known(
    resolving: Path,
) -> None:
    first, second = run(), run("parameters.letter=b")
    export_runs(Path("before.db"), every=True, **EXPORT)
    shutil.rmtree(first.steps["fit"].outputs["model"].parent)

    export_runs(Path("before.db"), every=True, **EXPORT)
    export_runs(Path("after.db"), second.run, **EXPORT)

    before, after = opened("before.db"), opened("after.db")
    (known,) = before.get_artifacts_by_id([artifacts(before, second, "compare", pb.Event.INPUT)["baseline_model"]])
    (copy,) = after.get_artifacts_by_id([artifacts(after, second, "compare", pb.Event.INPUT)["baseline_model"]])
    assert artifacts(before, first, "fit", pb.Event.OUTPUT) == {"model": known.id}
    assert known.state == pb.Artifact.DELETED
    assert copy.uri == str(second.steps["resolver"].outputs["result"])
    assert copy.state == pb.Artifact.LIVE


@pytest.mark.parametrize("resolver", ["Newest"])
def test_a_model_that_is_compared_with_itself_is_read_under_both_names(resolving: Path) -> None:
    run()
    stricter = run("parameters.strictness=2")  # the model is the newest there is

    export_runs(Path("lineage.db"), every=True, **EXPORT)

    store = opened("lineage.db")
    read = artifacts(store, stricter, "compare", pb.Event.INPUT)
    assert set(read) == {"model", "baseline_model"}
    assert len(set(read.values())) == len(store.get_artifacts_by_type("Model")) == 1
    assert not export_runs(Path("lineage.db"), every=True, **EXPORT).is_new


@pytest.mark.parametrize("resolver", ["Newest"])
def test_a_blessing_says_of_which_model_it_is_when_a_later_run_only_reads_it(resolving: Path) -> None:
    first = run()
    export_runs(Path("lineage.db"), **EXPORT)
    again = run("parameters.strictness=2")  # its push is that of the first run, which read another blessing

    export_runs(Path("lineage.db"), again.run, **EXPORT)

    store = opened("lineage.db")
    (id_,) = artifacts(store, first, "compare", pb.Event.OUTPUT).values()
    (blessing,) = store.get_artifacts_by_id([id_])
    (model,) = store.get_artifacts_by_type("Model")
    assert again.steps["push"].action == "reuse"
    assert blessing.custom_properties["current_model_id"].int_value == model.id
