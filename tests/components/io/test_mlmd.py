"""TFX's own code reads what is exported as what its own runner wrote: types, resolvers, notebooks, and the runner itself."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.io.mlmd import write
from schemas.run_lineage import MadeArtifact, RanStep, RunLineage

RATE = 1.2345678901234567e-7
BEGAN = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def made(directory: Path, kind: str, output: str, component: str, **properties: Any) -> MadeArtifact:
    directory.mkdir(parents=True, exist_ok=True)
    return MadeArtifact(
        path=directory,
        type=kind,
        digest=f"sha256:{directory.name}",
        output=output,
        component=component,
        properties=properties,
        made_at=BEGAN,
    )


def ran(
    step: str, component: str, reads: dict[str, MadeArtifact], makes: list[MadeArtifact], **settings: Any
) -> RanStep:
    return RanStep(
        step=step,
        state="complete",
        component=component,
        settings=settings,
        began_at=BEGAN,
        ended_at=BEGAN + timedelta(seconds=2),
        inputs=reads,
        outputs={artifact.output: artifact for artifact in makes},
    )


def lineage(store: Path, run: str, *, blessed: bool) -> RunLineage:
    """A run of examples, statistics, a model, its blessing and what was pushed, under a directory of its own."""
    examples = made(store / "examples", "Examples", "examples", "components.data.example_gen.ExampleGen")
    for split in ("train", "eval"):
        (examples.path / f"Split-{split}").mkdir(exist_ok=True)
    statistics = made(
        store / "statistics",
        "ExampleStatistics",
        "statistics",
        "tfx.components.statistics_gen.component.StatisticsGen",
        split_names='["train", "eval"]',
        custom_properties={"stats_dashboard_link": ""},
    )
    model = made(store / run / "model", "Model", "model", "components.model.trainer.Trainer", loss=RATE)
    blessing = made(store / run / "blessing", "ModelBlessing", "blessing", "components.model.evaluator.Evaluator")
    (blessing.path / ("BLESSED" if blessed else "NOT_BLESSED")).write_text("[]")
    pushed = made(
        store / run / "pushed", "PushedModel", "pushed_model", "components.release.pusher.Pusher",
        destination="serving/taxi", version=7, model_digest="sha256:model",
    )  # fmt: skip
    steps = [
        ran("example_gen", "components.data.example_gen.ExampleGen", {}, [examples], source="data/*.csv"),
        ran(
            "statistics_gen",
            "tfx.components.statistics_gen.component.StatisticsGen",
            {"examples": examples},
            [statistics],
            exclude_splits="[]",
            stats_options_json=None,
            executor="tfx.components.statistics_gen.executor.Executor",
            user_code=[],
            left_out=[],
        ),
        ran(
            "trainer",
            "components.model.trainer.Trainer",
            {"examples": examples},
            [model],
            steps=10,
            layers=[4, 2],
            rate=RATE,
        ),
        ran("evaluator", "components.model.evaluator.Evaluator", {"examples": examples, "model": model}, [blessing]),
    ]
    if blessed:
        steps.append(
            ran("pusher", "components.release.pusher.Pusher", {"model": model, "blessing": blessing}, [pushed])
        )
    return RunLineage(run=run, pipeline="taxi", began_at=BEGAN, ended_at=BEGAN, steps=tuple(steps))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two runs, of which the later model was not blessed."""
    directory = tmp_path_factory.mktemp("mlmd")
    file = directory / "lineage.db"
    write(
        file,
        [lineage(directory / "store", "run-1", blessed=True), lineage(directory / "store", "run-2", blessed=False)],
    )
    return file


@pytest.fixture
def handle(exported: Path) -> Iterator[Any]:
    """TFX's own handle on it."""
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    with Metadata(sqlite_metadata_connection_config(str(exported))) as opened:
        yield opened


def latest(handle: Any, node: str) -> Any:
    """What TFX's notebooks look up first: the newest execution of a node."""
    context = handle.store.get_context_by_type_and_name("node", f"taxi.{node}")
    return max(handle.store.get_executions_by_context(context.id), key=lambda found: found.id)


def test_TFX_finds_the_outputs_of_a_node_as_its_notebooks_do(handle: Any) -> None:
    from tfx.orchestration.portable.mlmd import execution_lib
    from tfx.types.standard_artifacts import ExampleStatistics

    execution = latest(handle, "statistics_gen")
    outputs = execution_lib.get_output_artifacts(handle, execution.id)

    (statistics,) = outputs["statistics"]
    assert isinstance(statistics, ExampleStatistics)
    assert statistics.split_names == '["train", "eval"]'
    assert execution_lib.is_execution_successful(execution)
    assert execution.type == "tfx.components.statistics_gen.component.StatisticsGen"
    settings = execution_lib.remove_internal_keys(execution.custom_properties)
    assert {name: value.string_value for name, value in settings.items()} == {"exclude_splits": "[]"}


def test_types_have_what_TFX_declares_of_them(handle: Any) -> None:
    from ml_metadata.proto import metadata_store_pb2 as pb
    from tfx.types import standard_artifacts

    for kind in ("Examples", "ExampleStatistics", "Model", "ModelBlessing", "PushedModel"):
        found = handle.store.get_artifact_type(kind)
        declared = getattr(standard_artifacts, kind)()._get_artifact_type()
        assert (dict(found.properties), found.base_type) == (dict(declared.properties), declared.base_type)
    trains = handle.store.get_execution_type("tfx.components.statistics_gen.component.StatisticsGen")
    assert trains.base_type == pb.ExecutionType.PROCESS


def test_the_latest_blessed_model_is_the_blessed_one_and_not_the_later(handle: Any) -> None:
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy

    artifacts = {
        "model": of_type(handle, "Model"),
        "model_blessing": of_type(handle, "ModelBlessing"),
    }
    found = LatestBlessedModelStrategy().resolve_artifacts(handle.store, artifacts)

    assert found is not None
    assert Path(found["model"][0].uri).parts[-2:] == ("run-1", "model")
    assert found["model_blessing"][0].get_string_custom_property("current_model") == found["model"][0].uri


def test_the_latest_model_is_that_of_the_later_run(handle: Any) -> None:
    from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy

    found = LatestArtifactStrategy().resolve_artifacts(handle.store, {"model": of_type(handle, "Model")})

    assert found is not None
    assert Path(found["model"][0].uri).parts[-2:] == ("run-2", "model")


def of_type(handle: Any, name: str) -> list[Any]:
    from tfx.orchestration.portable.mlmd import artifact_lib

    ids = [found.id for found in handle.store.get_artifacts_by_type(name)]
    return list(artifact_lib.get_artifacts_by_ids(handle, ids))


def test_a_pushed_model_says_where_as_TFX_s_pusher_does(handle: Any) -> None:
    (pushed,) = of_type(handle, "PushedModel")

    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == "serving/taxi/7"
    assert pushed.get_string_custom_property("pushed_version") == "7"


def test_the_lineage_of_the_pushed_model_leads_to_the_examples(handle: Any) -> None:
    from ml_metadata.proto import metadata_store_pb2 as pb

    (pushed,) = handle.store.get_artifacts_by_type("PushedModel")
    options = pb.LineageSubgraphQueryOptions(
        starting_artifacts=pb.LineageSubgraphQueryOptions.StartingNodes(filter_query=f"id = {pushed.id}"),
        max_num_hops=20,
        direction=pb.LineageSubgraphQueryOptions.Direction.UPSTREAM,
    )

    graph = handle.store.get_lineage_subgraph(options)

    assert {artifact.type for artifact in graph.artifacts} == {"PushedModel", "Model", "ModelBlessing", "Examples"}
    assert {execution.name for execution in graph.executions} == {
        f"run-1.{step}" for step in ("example_gen", "trainer", "evaluator", "pusher")
    } | {"run-2.example_gen"}


def test_settings_of_ours_are_numbers_and_text(handle: Any) -> None:
    trainer = latest(handle, "trainer")

    assert trainer.custom_properties["steps"].int_value == 10
    assert trainer.custom_properties["layers"].string_value == "[4, 2]"
    assert trainer.custom_properties["rate"].double_value == pytest.approx(
        RATE, rel=1e-14
    )  # ML Metadata's client would have made a zero of it


def test_floats_are_the_same_again(exported: Path) -> None:
    content = exported.read_bytes()
    store = exported.parent / "store"

    again = write(exported, [lineage(store, "run-1", blessed=True), lineage(store, "run-2", blessed=False)])

    assert (again["executions"], again["artifacts"]) == (0, 0)
    assert exported.read_bytes() == content


@pytest.mark.slow
def test_the_runner_of_TFX_goes_on_from_what_was_exported(exported: Path, tmp_path: Path) -> None:
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.orchestration.pipeline import Pipeline
    from tfx.types import Channel
    from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

    file = Path(shutil.copy(exported, tmp_path))
    data = Resolver(strategy_class=LatestArtifactStrategy, examples=Channel(type=Examples)).with_id("data")
    model = Resolver(
        strategy_class=LatestBlessedModelStrategy, model=Channel(type=Model), model_blessing=Channel(type=ModelBlessing)
    ).with_id("model")
    steps = module_of(tmp_path / "counting_of_mlmd.py", COUNT)
    count = steps.Count(
        examples=data.outputs["examples"], model=model.outputs["model"], answer=str(tmp_path / "answer")
    )
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="taxi",
            pipeline_root=str(tmp_path / "root"),
            components=[data, model, count],
            metadata_connection_config=sqlite_metadata_connection_config(str(file)),
        )
    )

    store = exported.parent / "store"
    assert (tmp_path / "answer").read_text() == f'{store}/examples ["train", "eval"] {store}/run-1/model'


def module_of(file: Path, text: str) -> Any:
    """A module of a user's, in a file of its own."""
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


COUNT = """
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model


@component
def Count(examples: InputArtifact[Examples], model: InputArtifact[Model], answer: Parameter[str]):
    Path(answer).write_text(" ".join([examples.uri, examples.split_names, model.uri]))
"""


TALLY = """
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact, Property, PropertyType


class Tally(Artifact):
    TYPE_NAME = "MlmdTally"
    PROPERTIES = {"files": Property(type=PropertyType.INT)}


@component
def CountFiles(tally: OutputArtifact[Tally]):
    tally.files = 3
"""


def tallied(directory: Path, run: str, component: str | None, **properties: Any) -> RunLineage:
    tally = made(directory / run / "tally", "MlmdTally", "tally", component or "", **properties)
    steps = (ran("count", "tally_of_mlmd.CountFiles", {}, [replace(tally, component=component)]),)
    return RunLineage(run=run, pipeline="tally", began_at=BEGAN, ended_at=BEGAN, steps=steps)


def properties_of_tallies(file: Path) -> list[tuple[Any, Any]]:
    """Of each tally what its type declares, and what it does not."""
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    with Metadata(sqlite_metadata_connection_config(str(file))) as opened:
        return [
            (
                {name: value.int_value for name, value in found.properties.items()},
                {name: value.string_value for name, value in found.custom_properties.items() if name == "files"},
            )
            for found in opened.store.get_artifacts_by_type("MlmdTally")
        ]


def test_a_type_of_which_one_artifact_is_gone_has_the_properties_of_one_that_is_there(tmp_path: Path) -> None:
    module_of(tmp_path / "tally_of_mlmd.py", TALLY)

    write(
        tmp_path / "lineage.db",
        [tallied(tmp_path, "run-1", None), tallied(tmp_path, "run-2", "tally_of_mlmd.CountFiles", files=3)],
    )

    assert properties_of_tallies(tmp_path / "lineage.db") == [({}, {}), ({"files": 3}, {})]


def test_what_a_changed_type_does_not_take_is_a_custom_property_and_is_said(tmp_path: Path) -> None:
    module_of(tmp_path / "tally_of_mlmd.py", TALLY)
    file = tmp_path / "lineage.db"
    before = tallied(tmp_path, "run-1", "tally_of_mlmd.CountFiles", files="three")
    now = tallied(tmp_path, "run-2", "tally_of_mlmd.CountFiles", files=3)

    notes = write(file, [before, now])["notes"]
    assert properties_of_tallies(file) == [({}, {"files": "three"}), ({"files": 3}, {})]
    assert "MlmdTally: the properties" in notes[0]

    module_of(tmp_path / "tally_of_mlmd.py", TALLY.replace("INT", "STRING").replace("= 3", "= 'four'"))
    notes = write(file, [tallied(tmp_path, "run-3", "tally_of_mlmd.CountFiles", files="four")])["notes"]
    assert properties_of_tallies(file)[2] == ({}, {"files": "four"})
    assert "has a type of this name with other properties" in notes[0]
