"""`pipeline export-mlmd` writes what ML Metadata's own client reads, whole or not at all, and the same once only."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.cli.export_mlmd import export_runs
from pipeline.cli.run import run_pipeline
from pipeline.cli.show import show_run
from pipeline.ledger import Ledger, StepRecord
from pipeline.store import Store
from schemas.errors import ConfigError, StoreError

Command = Callable[..., Any]
EXPORT: dict[str, str] = {"root": "store-root"}


def opened(file: Path | str) -> Any:
    """ML Metadata's own client."""
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    config.sqlite.connection_mode = 1
    return MetadataStore(config)


def executions(store: Any, run: str) -> dict[str, Any]:
    """The executions of a run by step."""
    context = store.get_context_by_type_and_name("pipeline_run", run)
    found = store.get_executions_by_context(context.id)
    return {execution.name.removeprefix(f"{run}."): execution for execution in found}


def events(store: Any, execution: Any, kind: int) -> dict[str, Any]:
    """The artifacts of an execution by input or output."""
    found = [event for event in store.get_events_by_execution_ids([execution.id]) if event.type == kind]
    return {event.path.steps[0].key: store.get_artifacts_by_id([event.artifact_id])[0] for event in found}


def state(execution: Any) -> str:
    return str(pb.Execution.State.Name(execution.last_known_state))


def test_the_model_leads_back_to_the_file_of_numbers(ran: Path) -> None:
    export_runs(Path("lineage.db"), **EXPORT)

    store = opened("lineage.db")
    run = show_run("store-root").record.id
    made = executions(store, run)
    assert {step: state(execution) for step, execution in made.items()} == dict.fromkeys(
        ("read", "count", "judge", "apply", "fit"), "COMPLETE"
    )
    (model,) = store.get_artifacts_by_type("Model")
    assert model.uri == str(show_run("store-root").outputs["fit"]["model"])
    assert events(store, made["fit"], pb.Event.OUTPUT)["model"].id == model.id
    transformed = events(store, made["fit"], pb.Event.INPUT)["examples"]
    assert events(store, made["apply"], pb.Event.OUTPUT)["transformed_examples"].id == transformed.id
    examples = events(store, made["apply"], pb.Event.INPUT)["examples"]
    assert examples.properties["split_names"].string_value == '["train"]'
    assert examples.custom_properties["records"].struct_value["train"] == 3
    assert events(store, made["read"], pb.Event.OUTPUT)["examples"].id == examples.id
    (file,) = json.loads(made["read"].custom_properties["__penstock_files__"].string_value)
    assert Path(file["path"]).name == "numbers.txt"
    assert made["read"].custom_properties["source"].string_value.endswith("numbers.txt")


def test_contexts_are_those_of_TFX(ran: Path) -> None:
    export_runs(Path("lineage.db"), **EXPORT)

    store = opened("lineage.db")
    run = show_run("store-root").record
    (pipeline,) = store.get_contexts_by_type("pipeline")
    (pipeline_run,) = store.get_contexts_by_type("pipeline_run")
    assert (pipeline.name, pipeline_run.name) == ("toy", run.id)
    assert [parent.id for parent in store.get_parent_contexts_by_context(pipeline_run.id)] == [pipeline.id]
    nodes = {context.name: context.id for context in store.get_contexts_by_type("node")}
    assert set(nodes) == {"toy.read", "toy.count", "toy.judge", "toy.apply", "toy.fit"}
    assert {artifact.type for artifact in store.get_artifacts_by_context(nodes["toy.fit"])} == {"Model", "Examples"}
    assert len(store.get_artifacts_by_context(pipeline.id)) == len(store.get_artifacts()) == 5


def test_times_are_those_of_the_run(ran: Path) -> None:
    export_runs(Path("lineage.db"), **EXPORT)

    store = opened("lineage.db")
    shown = show_run("store-root")
    manifest = Store("store-root").executions_of("fit")[0].manifest
    fit = executions(store, shown.record.id)["fit"]
    assert abs(fit.last_update_time_since_epoch / 1000 - _seconds(manifest.created_at)) < 0.01
    assert fit.create_time_since_epoch <= fit.last_update_time_since_epoch
    (model,) = store.get_artifacts_by_type("Model")
    assert model.create_time_since_epoch == fit.last_update_time_since_epoch


def test_the_same_run_again_changes_nothing(ran: Path) -> None:
    first = export_runs(Path("lineage.db"), **EXPORT)
    content = Path("lineage.db").read_bytes()

    again = export_runs(Path("lineage.db"), **EXPORT)

    assert (first.executions, first.artifacts) == (5, 5)
    assert (again.executions, again.artifacts) == (0, 0)
    assert again.as_json()["outcome"] == "nothing new"
    assert Path("lineage.db").read_bytes() == content
    assert sorted(path.name for path in Path().glob("*lineage.db*")) == ["lineage.db"]


def test_what_two_runs_share_is_one_artifact(ran: Path) -> None:
    (ran / "project_functions.py").write_text("def double(line):\n    return 3 * int(line)\n")
    run_pipeline("pipeline.yaml")

    done = export_runs(Path("lineage.db"), every=True, **EXPORT)

    store = opened("lineage.db")
    earlier, later = (executions(store, run) for run in done.runs)
    assert {step: state(execution) for step, execution in later.items()} == {
        "read": "CACHED",
        "count": "CACHED",
        "judge": "CACHED",
        "apply": "COMPLETE",
        "fit": "COMPLETE",
    }
    (one,), (other,) = (events(store, run["read"], pb.Event.OUTPUT).values() for run in (earlier, later))
    assert one.id == other.id
    assert len(store.get_artifacts_by_type("Model")) == 2
    assert max(store.get_artifacts_by_type("Model"), key=lambda model: model.id).uri == str(
        show_run("store-root").outputs["fit"]["model"]
    )


def test_a_step_that_failed_says_why_and_what_it_read(ran: Path) -> None:
    (ran / "project_functions.py").write_text("def double(line):\n    raise ValueError('no')\n")
    failed = run_pipeline("pipeline.yaml")

    export_runs(Path("lineage.db"), **EXPORT)

    store = opened("lineage.db")
    made = executions(store, failed.run)
    assert state(made["apply"]) == "FAILED"
    assert made["apply"].type == "project_steps.Apply"
    said = json.loads(made["apply"].custom_properties["__execution_result__"].string_value)
    assert said["resultMessage"] == "project_functions.py:2 in double: ValueError: no"
    assert set(events(store, made["apply"], pb.Event.INPUT)) == {"examples"}
    assert "fit" not in made  # it never began


def test_a_step_that_failed_has_not_made_what_a_later_run_made_under_its_key(ran: Path) -> None:
    numbers = ran / "more.txt"
    numbers.write_text("7\n")
    given = ["read.source=more.txt"]
    helpers = (ran / "project_functions.py").read_text()
    (ran / "project_functions.py").write_text(
        "import os\n" + helpers.replace("    return", "    assert not os.path.exists('broken')\n    return", 1)
    )
    (ran / "broken").touch()
    failed = run_pipeline("pipeline.yaml", overrides=given)
    (ran / "broken").unlink()
    done = run_pipeline("pipeline.yaml", overrides=given)
    assert (failed.outcome, done.outcome) == ("failed", "done")

    export_runs(Path("lineage.db"), every=True, **EXPORT)

    store = opened("lineage.db")
    failing, making = (executions(store, result.run)["apply"] for result in (failed, done))
    assert (state(failing), state(making)) == ("FAILED", "COMPLETE")
    assert events(store, failing, pb.Event.OUTPUT) == {}
    assert set(events(store, failing, pb.Event.INPUT)) == {"examples"}
    assert set(events(store, making, pb.Event.OUTPUT)) == {"transformed_examples"}


def test_a_step_that_was_stopped_is_canceled_and_those_that_never_began_are_left_out(ran: Path) -> None:
    ledger = Ledger(Store("store-root"))
    done = show_run("store-root", _first(ran)).record
    read, fit = (next(step for step in done.steps if step.step == name) for name in ("read", "fit"))
    record = ledger.start_run("toy", "sha256:0")
    ledger.record_step(record.id, read, Store("store-root").find("read", read.key))
    stopped = replace(fit, action="skipped", message="the run was stopped")
    for step in (
        stopped,
        StepRecord(step="judge", action="refused", message="no"),
        StepRecord(step="count", action="skipped"),
    ):
        ledger.record_step(record.id, step, None)
    ledger.end_run(record.id, "interrupted")

    export_runs(Path("lineage.db"), record.id, **EXPORT)

    store = opened("lineage.db")
    made = executions(store, record.id)
    assert {step: state(execution) for step, execution in made.items()} == {"read": "COMPLETE", "fit": "CANCELED"}
    assert events(store, made["fit"], pb.Event.OUTPUT) == {}
    said = json.loads(made["fit"].custom_properties["__execution_result__"].string_value)
    assert said["resultMessage"] == "the run was stopped"


def test_a_refusal_is_canceled_and_keeps_its_report(ran: Path) -> None:
    refused = run_pipeline("pipeline.yaml", overrides=["parameters.most=1"])

    export_runs(Path("lineage.db"), **EXPORT)

    store = opened("lineage.db")
    judge = executions(store, refused.run)["judge"]
    assert state(judge) == "CANCELED"
    assert set(events(store, judge, pb.Event.OUTPUT)) == {"anomalies"}


def test_a_run_that_goes_on_is_brought_up_to_date_later(ran: Path) -> None:
    ledger = Ledger(Store("store-root"))
    record = ledger.start_run("toy", "sha256:0")
    done = show_run("store-root", _first(ran)).record
    read, fit = (next(step for step in done.steps if step.step == name) for name in ("read", "fit"))
    execution = Store("store-root").find("read", read.key)
    ledger.record_step(record.id, read, execution)
    ledger.begin_step(record.id, "fit", fit.key, "the first run of this step")
    going_on = export_runs(Path("lineage.db"), record.id, **EXPORT)

    assert going_on.notes == (
        f"run {record.id} goes on: what it has done so far is written. Export it again when it has ended",
    )
    assert state(executions(opened("lineage.db"), record.id)["fit"]) == "RUNNING"

    ledger.record_step(record.id, fit, Store("store-root").find("fit", fit.key))
    ledger.end_run(record.id, "done")
    export_runs(Path("lineage.db"), record.id, **EXPORT)

    store = opened("lineage.db")
    assert state(executions(store, record.id)["fit"]) == "COMPLETE"
    assert set(events(store, executions(store, record.id)["fit"], pb.Event.OUTPUT)) == {"model"}


def test_what_is_not_in_the_store_any_more_is_deleted_in_the_file_and_said(ran: Path) -> None:
    export_runs(Path("lineage.db"), **EXPORT)
    (read,) = Store("store-root").executions_of("read")
    shutil.rmtree(read.path)

    done = export_runs(Path("lineage.db"), **EXPORT)
    export_runs(Path("other.db"), **EXPORT)

    assert len(done.notes) == 1
    assert "what read made is not in the store any more" in done.notes[0]
    for file in ("lineage.db", "other.db"):
        (examples,) = opened(file).get_artifacts_by_uri(str(read.output("examples")))
        assert examples.state == pb.Artifact.DELETED
    (known,) = opened("lineage.db").get_artifacts_by_uri(str(read.output("examples")))
    assert known.custom_properties["records"].struct_value["train"] == 3


def test_a_forced_run_makes_another_artifact_in_the_same_place(ran: Path) -> None:
    export_runs(Path("lineage.db"), **EXPORT)
    (before,) = opened("lineage.db").get_artifacts_by_type("Model")
    (fit,) = Store("store-root").executions_of("fit")
    manifest = json.loads((fit.path / "manifest.json").read_text())
    manifest["outputs"]["model"]["digest"] = "sha256:another"
    (fit.path / "manifest.json").write_text(json.dumps(manifest))

    export_runs(Path("lineage.db"), **EXPORT)

    found = {model.id: model.state for model in opened("lineage.db").get_artifacts_by_uri(before.uri)}
    assert found[before.id] == pb.Artifact.DELETED
    assert list(found.values()).count(pb.Artifact.LIVE) == 1


class TestBadInput:
    def test_an_unknown_run_has_a_suggestion(self, command: Command, ran: Path) -> None:
        run = show_run("store-root").record.id
        wrong = run[:-1] + ("0" if run[-1] != "0" else "1")

        said = command("export-mlmd", "lineage.db", wrong, "--root", "store-root")

        assert said.code == 2
        assert f"there is no run '{wrong}'" in said.err
        assert f"Did you mean '{run}'?" in said.err
        assert not Path("lineage.db").exists()

    def test_a_file_of_something_else_is_refused_and_untouched(self, command: Command, ran: Path) -> None:
        with sqlite3.connect("other.db") as other:
            other.execute("CREATE TABLE things (name TEXT)")
        other.close()
        Path("text.db").write_text("no database")

        for name in ("other.db", "text.db", "pipeline.yaml"):
            content = Path(name).read_bytes()
            said = command("export-mlmd", name, "--root", "store-root")
            assert said.code == 2
            assert f"{Path(name).absolute()} is no ML Metadata database" in said.err
            assert Path(name).read_bytes() == content

    def test_a_file_that_cannot_be_written_is_named(self, ran: Path) -> None:
        Path("plain").write_text("")
        with pytest.raises(StoreError, match="nowhere/lineage.db: cannot be written: No such file or directory"):
            export_runs(Path("nowhere/lineage.db"), **EXPORT)
        with pytest.raises(StoreError, match="plain/lineage.db: cannot be written: Not a directory"):
            export_runs(Path("plain/lineage.db"), **EXPORT)
        with pytest.raises(ConfigError, match="store-root is a directory: name a file in it"):
            export_runs(Path("store-root"), **EXPORT)

    def test_a_database_that_is_written_to_now_is_left_alone(self, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        export_runs(Path("lineage.db"), **EXPORT)
        monkeypatch.setattr("pipeline.cli.export_mlmd._PATIENCE_S", 0.1)
        writer = sqlite3.connect("lineage.db", isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match="database is locked. Does a TFX pipeline write to it now?"):
            export_runs(Path("lineage.db"), **EXPORT)
        writer.close()

    def test_a_run_and_all_of_them_are_two_things(self, ran: Path) -> None:
        with pytest.raises(ConfigError, match="--all is every run, and latest is one"):
            export_runs(Path("lineage.db"), "latest", every=True, **EXPORT)

    def test_a_root_without_runs_says_so(self, project: Path) -> None:
        with pytest.raises(ConfigError, match="store-root: there is no such directory"):
            export_runs(Path("lineage.db"), **EXPORT)
        Store("store-root").open()
        with pytest.raises(ConfigError, match="there is no run in .* yet"):
            export_runs(Path("lineage.db"), every=True, **EXPORT)


TFX_PIPELINE = """
import os

from tfx import v1 as tfx
from tfx.types.artifact import Artifact, Property, PropertyType
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, OutputDict, Parameter
from tfx.v1.types.standard_artifacts import Examples, Schema


class Report(Artifact):
    TYPE_NAME = "Report"
    PROPERTIES = {
        "rows": Property(type=PropertyType.INT),
        "more": Property(type=PropertyType.JSON_VALUE),
        "who": Property(type=PropertyType.STRING),
    }


@tfx.dsl.components.component
def Make(examples: OutputArtifact[Examples], rows: Parameter[int] = 3, keep: Parameter[bool] = True) -> OutputDict(count=int):
    os.makedirs(os.path.join(examples.uri, "Split-train"))
    examples.split_names = '["train"]'
    examples.set_int_custom_property("rows", rows)
    return {"count": rows}


@tfx.dsl.components.component
def Look(examples: InputArtifact[Examples], schema: InputArtifact[Schema], report: OutputArtifact[Report], count: int):
    report.rows = count
    report.more = {"a": [1, 2]}


def create_pipeline(root, metadata):
    make = Make(rows=5, keep=False)
    schema = tfx.dsl.Importer(source_uri="curated", artifact_type=Schema).with_id("CuratedSchema")
    look = Look(examples=make.outputs["examples"], count=make.outputs["count"], schema=schema.outputs["result"])
    return tfx.dsl.Pipeline(
        pipeline_name="tiny_one",
        pipeline_root=root,
        components=[make, schema, look],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata),
    )
"""

# One process for both runners, which import TFX once then; the steps of ours are in processes of their own all the same.
BOTH = """
import tiny_pipeline_of_tfx as tiny
from pipeline.cli.run import run_pipeline
from tfx import v1 as tfx

if __name__ == "__main__":
    tfx.orchestration.LocalDagRunner().run(tiny.create_pipeline("root", "theirs.db"))
    values = ["parameters.root=root", "parameters.metadata=theirs.db"]
    assert run_pipeline("tiny_pipeline_of_tfx:create_pipeline", overrides=values).outcome == "done"
"""


@pytest.mark.slow
def test_a_TFX_pipeline_is_written_as_TFX_s_own_runner_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_pipeline_of_tfx.py").write_text(TFX_PIPELINE)
    (tmp_path / "curated").mkdir()
    (tmp_path / "curated" / "schema.pbtxt").write_text("")
    (tmp_path / "both.py").write_text(BOTH)
    pipeline = Path(sys.executable).parent / "pipeline"
    for command in ([sys.executable, "both.py"], [pipeline, "export-mlmd", "ours.db"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    ours, theirs = (written(opened(file)) for file in ("ours.db", "theirs.db"))

    assert ours == theirs


def written(store: Any) -> dict[str, Any]:
    """What a file has of types, contexts, artifacts, executions and events, without ids, times and what only ours says."""
    artifacts = {artifact.id: artifact for artifact in store.get_artifacts()}
    tables: dict[str, Any] = {
        "artifact types": {kind.name: (dict(kind.properties), kind.base_type) for kind in store.get_artifact_types()},
        "execution types": {kind.name: kind.base_type for kind in store.get_execution_types()},
        "contexts": sorted(
            (context.type, context.name) for context in store.get_contexts() if context.type in ("pipeline", "node")
        ),
    }
    for execution in store.get_executions():
        nodes = [one.name for one in store.get_contexts_by_execution(execution.id) if one.type == "node"]
        found = store.get_events_by_execution_ids([execution.id])
        tables[nodes[0]] = {
            "execution": (execution.type, state(execution), own(execution.custom_properties)),
            "events": sorted(
                (
                    event.type,
                    event.path.steps[0].key,
                    event.path.steps[1].index,
                    artifacts[event.artifact_id].type,
                    artifacts[event.artifact_id].state,
                    own(artifacts[event.artifact_id].properties),
                    own(artifacts[event.artifact_id].custom_properties),
                )
                for event in found
            ),
            "contexts of artifacts": sorted(
                (context.type, artifacts[event.artifact_id].type)
                for event in found
                for context in store.get_contexts_by_artifact(event.artifact_id)
                if context.type != "execution_cache"
            ),
        }
    return tables


def own(properties: Any) -> list[tuple[str, str]]:
    """Properties but those that Penstock alone writes, how TFX reads files that a component says nothing of, and where from."""
    others = ("payload_format", "file_format", "is_external")
    return sorted(
        (name, str(value)) for name, value in properties.items() if "penstock" not in name and name not in others
    )


def _seconds(time: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time).timestamp()


def _first(ran: Path) -> str:
    return min(path.name for path in (ran / "store-root/runs").iterdir())
