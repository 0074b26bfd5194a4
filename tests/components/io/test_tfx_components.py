"""TFX's components, and ones that a user wrote for TFX, are components of ours: what they take, make and say, and what cannot run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract import artifact_class, build_component, read_contract, settings_of
from pipeline.fingerprint import key_of
from pipeline.plan import files_of
from schemas.artifact import Artifact
from schemas.artifacts import (
    Blessing,
    Examples,
    FeatureSchema,
    Hyperparameters,
    Model,
    Statistics,
    TransformedExamples,
    TransformStatistics,
)
from schemas.component import BeamOptions, InputFile, Lineage, PlannedFiles, Scratch
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, DataError, StepFailed

PARTS = """
import json
import os
from typing import TypedDict

import apache_beam as beam
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.dsl.components.base import base_component, base_driver, base_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact, component_spec, standard_artifacts

InputArtifact, OutputArtifact = tfx.dsl.components.InputArtifact, tfx.dsl.components.OutputArtifact


class Tally(artifact.Artifact):
    TYPE_NAME = "PartsTally"
    PROPERTIES = {"files": artifact.Property(type=artifact.PropertyType.INT)}


class Noted(artifact.Artifact):
    TYPE_NAME = "PartsNoted"
    PROPERTIES = {
        "source": artifact.Property(type=artifact.PropertyType.PROTO),
        "table": artifact.Property(type=artifact.PropertyType.JSON_VALUE),
    }


class MoreExamples(standard_artifacts.Examples):
    TYPE_NAME = "PartsExamples"


class AnotherTally(artifact.Artifact):
    TYPE_NAME = "PartsTally"


class OwnModel(artifact.Artifact):
    TYPE_NAME = "Model"


class Share(TypedDict):
    share: float


@tfx.dsl.components.component
def CountFiles(
    examples: InputArtifact[standard_artifacts.Examples],
    tally: OutputArtifact[Tally],
    factor: tfx.dsl.components.Parameter[int] = 1,
) -> Share:
    files = sum(len(os.listdir(examples.path(split=split))) for split in examples.splits)
    tally.files = files * factor
    tally.set_string_custom_property("made_by", "CountFiles")
    with open(os.path.join(tally.uri, "tally.json"), "w") as out:
        json.dump(examples.splits, out)
    return {"share": files / 4}


@tfx.dsl.components.component
def TakeShare(share: float, doubled: OutputArtifact[standard_artifacts.Float]):
    doubled.value = share * 2


@tfx.dsl.components.component(use_beam=True)
def CountRows(
    examples: InputArtifact[standard_artifacts.Examples],
    tally: OutputArtifact[Tally],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    with beam_pipeline as rows:
        (
            rows
            | beam.io.ReadFromTFRecord(examples.path(split="train") + "/*.gz")
            | beam.combiners.Count.Globally()
            | beam.Map(str)
            | beam.io.WriteToText(os.path.join(tally.uri, "rows"), shard_name_template="")
        )


class SayExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (tally,) = input_dict["tally"]
        said = [exec_properties["greeting"], tally.files, tally.type_name, tally.get_string_custom_property("made_by")]
        with open(os.path.join(output_dict["said"][0].uri, "said.json"), "w") as out:
            json.dump([*said, os.path.basename(os.path.normpath(self._get_tmp_dir()))], out)


class AstrayExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        output_dict["said"][0].uri = "/somewhere/else"


class WanderExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (tally,), (said,) = input_dict["tally"], output_dict["said"]
        where = exec_properties["greeting"]
        if where == "input":
            with open(os.path.join(tally.uri, "mine.json"), "w") as out:
                out.write("{}")
        elif where == "over the input":
            with open(os.path.join(tally.uri, "tally.json"), "w") as out:
                out.write("[]")
        elif where == "beside":
            with open(os.path.join(os.path.dirname(said.uri), "said.json"), "w") as out:
                out.write("{}")
        elif where == "here":
            with open("said.json", "w") as out:
                out.write("{}")
            return
        elif where == "a property":
            said.files = 0
            return
        elif where == "an empty split":
            os.mkdir(os.path.join(said.uri, "Split-eval"))
            return
        elif where == "fails":
            with open(os.path.join(tally.uri, "mine.json"), "w") as out:
                out.write("{}")
            raise ValueError("no more")
        with open(os.path.join(said.uri, "said.json"), "w") as out:
            out.write("{}")


class SaySpec(component_spec.ComponentSpec):
    PARAMETERS = {"greeting": component_spec.ExecutionParameter(type=str)}
    INPUTS = {"tally": component_spec.ChannelParameter(type=Tally)}
    OUTPUTS = {"said": component_spec.ChannelParameter(type=Tally)}


class Say(base_component.BaseComponent):
    SPEC_CLASS = SaySpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SayExecutor)

    def __init__(self, tally, greeting="hello"):
        super().__init__(SaySpec(tally=tally, greeting=greeting, said=tfx.dsl.Channel(type=Tally)))


class Astray(Say):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AstrayExecutor)


class Wander(Say):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(WanderExecutor)


class InContainer(Say):
    EXECUTOR_SPEC = executor_spec.ExecutorContainerSpec(image="registry/say:1", command=["say"])


class OwnDriver(base_driver.BaseDriver):
    pass


class Driven(Say):
    DRIVER_CLASS = OwnDriver


class Anything(component_spec.ComponentSpec):
    PARAMETERS = {"how": component_spec.ExecutionParameter(type=object)}
    INPUTS = {}
    OUTPUTS = {"said": component_spec.ChannelParameter(type=Tally)}


class Unstorable(base_component.BaseComponent):
    SPEC_CLASS = Anything
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SayExecutor)

    def __init__(self):
        super().__init__(Anything(how=print, said=tfx.dsl.Channel(type=Tally)))


class NotedSpec(component_spec.ComponentSpec):
    PARAMETERS = {
        "lookup_file": component_spec.ExecutionParameter(type=str),
        "log_file": component_spec.ExecutionParameter(type=str, optional=True),
        "script": component_spec.ExecutionParameter(type=str, optional=True),
        "loss_fn": component_spec.ExecutionParameter(type=str, optional=True),
        "parameters": component_spec.ExecutionParameter(type=str, optional=True),
        "execute": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {}
    OUTPUTS = {"noted": component_spec.ChannelParameter(type=Noted)}


class NoteExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (noted,) = output_dict["noted"]
        noted.source = example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name=exec_properties["parameters"])])
        noted.table = {"rows": [1, 2]}
        if exec_properties["execute"] == "twice":
            output_dict["noted"].append(Noted())
        if exec_properties["execute"] == "not":
            output_dict["noted"].clear()


class Note(base_component.BaseComponent):
    SPEC_CLASS = NotedSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(NoteExecutor)

    def __init__(self, lookup_file, log_file=None, script=None, loss_fn=None, parameters="all", execute="once"):
        super().__init__(
            NotedSpec(
                lookup_file=lookup_file, log_file=log_file, script=script, loss_fn=loss_fn, parameters=parameters,
                execute=execute, noted=tfx.dsl.Channel(type=Noted),
            )
        )


class ReservedSpec(component_spec.ComponentSpec):
    PARAMETERS = {"run": component_spec.ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {"noted": component_spec.ChannelParameter(type=Noted)}


class Reserved(base_component.BaseComponent):
    SPEC_CLASS = ReservedSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(NoteExecutor)


class TwoOfAName(base_component.BaseComponent):
    SPEC_CLASS = type(
        "TwoOfANameSpec",
        (component_spec.ComponentSpec,),
        {
            "PARAMETERS": {},
            "INPUTS": {"tally": component_spec.ChannelParameter(type=Tally)},
            "OUTPUTS": {"other": component_spec.ChannelParameter(type=AnotherTally)},
        },
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SayExecutor)
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dotted path of a user's module with components of every kind."""
    directory = tmp_path_factory.mktemp("parts")
    (directory / "tfx_parts.py").write_text(PARTS)
    sys.path.append(str(directory))
    yield "tfx_parts"
    sys.path.remove(str(directory))
    del sys.modules["tfx_parts"]


@pytest.fixture
def run(tmp_path: Path, outputs_of: Callable[[type, Path], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """(dotted path, settings, inputs) -> the outputs that the component made, by name."""

    def run_(
        dotted: str, settings: dict[str, Any] | None = None, planned: PlannedFiles | None = None, **inputs: Artifact
    ) -> dict[str, Any]:
        kind = resolve(dotted)
        component = build_component(kind, settings or {})
        place = tmp_path / dotted.rpartition(".")[2]
        outputs = outputs_of(kind, place / "outputs")
        (place / "scratch").mkdir()
        asked: dict[type, Any] = {
            BeamOptions: BeamOptions(),
            Scratch: Scratch(place / "scratch"),
            Lineage: Lineage(),
            PlannedFiles: planned or PlannedFiles(),
        }
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}
        component.run(**inputs, **outputs, **asks)
        return outputs

    return run_


def test_a_component_of_TFX_s_has_its_inputs_and_outputs_as_ours_have_them():
    contract = read_contract(resolve("tfx.v1.components.BulkInferrer"))

    assert {name: (port.types, port.optional) for name, port in contract.inputs.items()} == {
        "examples": ((Examples,), False),
        "model": ((Model,), True),
        "model_blessing": ((Blessing,), True),
    }
    assert contract.inputs["model"].explicit
    assert {name: kind.TYPE_NAME for name, kind in contract.outputs.items()} == {
        "inference_result": "InferenceResult",
        "output_examples": "Examples",
    }
    assert f"{contract.component.__module__}.{contract.component.__qualname__}" == (
        "tfx.components.bulk_inferrer.component.BulkInferrer"
    )


def test_what_Transform_says_of_the_data_is_not_taken_for_the_data():
    outputs = read_contract(resolve("tfx.v1.components.Transform")).outputs

    assert outputs["transformed_examples"] is TransformedExamples
    assert outputs["pre_transform_stats"] is TransformStatistics


def test_settings_are_what_TFX_s_own_constructor_makes_of_them(tmp_path):
    kind = resolve("tfx.v1.components.CsvExampleGen")

    settings = settings_of(build_component(kind, {"input_base": str(tmp_path)}))

    splits = json.loads(settings["output_config"])["split_config"]["splits"]
    assert [(split["name"], split["hash_buckets"]) for split in splits] == [("train", 2), ("eval", 1)]
    assert settings == settings_of(build_component(kind, settings))


def test_a_message_is_written_as_a_mapping_or_as_JSON_and_outputs_that_are_not_made_are_named():
    kind = resolve("tfx.v1.components.BulkInferrer")
    written = {"data_spec": {"example_splits": ["eval"]}, "model_spec": '{"model_signature_name": ["serving_default"]}'}

    settings = settings_of(build_component(kind, written))

    assert json.loads(settings["data_spec"]) == {"example_splits": ["eval"]}
    assert json.loads(settings["model_spec"]) == {"model_signature_name": ["serving_default"]}
    assert settings["left_out"] == ["output_examples"]


def test_wrong_settings_are_all_named_with_what_was_meant():
    with pytest.raises(ConfigError) as caught:
        build_component(
            resolve("tfx.v1.components.BulkInferrer"),
            {"dataspec": {}, "model_spec": {"signature": ["serving_default"]}},
        )

    unknown, message = caught.value.problems
    assert unknown == "dataspec: no such setting. Did you mean 'data_spec'?"
    assert message.startswith("model_spec: {'signature': ['serving_default']} is not valid here: ")
    assert 'no field named "signature"' in message


def test_what_the_constructor_refuses_is_a_mistake_in_the_definition():
    with pytest.raises(ConfigError, match="Transform refuses its settings: Exactly one of 'module_file' or"):
        build_component(resolve("tfx.v1.components.Transform"), {})


def test_the_user_s_code_is_the_module_file_or_the_functions_that_settings_name(tmp_path):
    kind = resolve("tfx.v1.components.Transform")

    by_file = settings_of(build_component(kind, {"module_file": "features.py"}))
    by_name = settings_of(
        build_component(
            kind, {"preprocessing_fn": "my.features.fn", "stats_options_updater_fn": "my.statistics.updater"}
        )
    )

    assert by_file["user_code"] == ["features.py"]
    assert by_name["user_code"] == ["my.features.fn", "my.statistics.updater"]


def test_what_a_component_of_the_user_s_is_told_the_names_of_counts_where_it_is_there(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "lookup.csv").write_text("a,1\n")
    (tmp_path / "my_losses.py").write_text("def loss(): ...\n")
    kind = resolve(f"{parts}.Note")

    def kept(**settings: str) -> dict[str, Any]:
        return settings_of(build_component(kind, {"lookup_file": "lookup.csv", **settings}))

    settings = kept(log_file="log.txt", script="made.py", loss_fn="tf.nn.loss")
    contract = read_contract(kind)

    assert {name: [file.path.name for file in files] for name, files in contract.files(settings).items()} == {
        "named_files": ["lookup.csv"]
    }
    assert (settings["log_file"], settings["user_code"]) == ("log.txt", [])
    assert kept(loss_fn="my_losses.loss")["user_code"] == ["my_losses.loss"]
    assert kept(loss_fn="json.dumps")["user_code"] == []
    (tmp_path / "made.py").write_text("")
    assert kept(script="made.py")["user_code"] == ["made.py"]


def test_what_a_definition_says_of_the_executor_is_no_way_around_the_constructor():
    with pytest.raises(ConfigError, match="executor: no such setting"):
        build_component(resolve("tfx.v1.components.BulkInferrer"), {"executor": "my.module.Executor"})


def test_parameters_that_are_called_like_methods_of_ours_reach_the_executor_and_messages_are_kept_as_properties(
    parts, run, tmp_path
):
    from components.io.tfx_artifacts import to_tfx

    noted = run(f"{parts}.Note", {"lookup_file": "none", "parameters": "half"})["noted"]

    written = json.loads(json.dumps(noted.properties))  # as a manifest keeps it
    theirs = to_tfx(resolve(f"{parts}.Noted"), type(noted)(noted.path, written))
    assert [split.name for split in theirs.source.splits] == ["half"]
    assert theirs.table == {"rows": [1, 2]}


def test_an_output_of_several_artifacts_is_an_error(parts, run):
    with pytest.raises(ArtifactError, match="output 'noted' is 2 artifacts, and a step makes one"):
        run(f"{parts}.Note", {"lookup_file": "none", "execute": "twice"})


def test_an_output_that_its_executor_takes_out_is_one_that_nobody_made(parts, run):
    noted = run(f"{parts}.Note", {"lookup_file": "none", "execute": "not"})["noted"]

    assert noted.properties == {"absent": True}


def test_a_model_that_is_blessed_anyway_is_blessed_to_TFX(tmp_path):
    from tfx.components.util.model_utils import is_model_blessed
    from tfx.types import standard_artifacts

    from components.io.tfx_artifacts import to_tfx

    blessing = Blessing(tmp_path, {"custom_properties": {"blessed": 0}})
    blessing.write(("accuracy 0.41 is below 0.60",))
    assert not is_model_blessed(to_tfx(standard_artifacts.ModelBlessing, blessing))

    blessing.bless_anyway(by="ada", at="2026-11-22T10:00:00Z", reason="the gate is wrong")

    assert is_model_blessed(to_tfx(standard_artifacts.ModelBlessing, blessing))


def test_a_function_component_reads_ours_and_what_it_says_is_kept(parts, run, xf_examples):
    made = run(f"{parts}.CountFiles", {"factor": 3}, examples=xf_examples)

    files = sum(len(xf_examples.files(split)) for split in xf_examples.splits)
    assert made["tally"].properties == {"files": 3 * files, "custom_properties": {"made_by": "CountFiles"}}
    assert json.loads((made["tally"].path / "tally.json").read_text()) == ["train", "eval"]
    assert (made["share"].path / "value").read_text() == str(files / 4)


def test_a_value_that_one_component_returns_is_an_argument_of_the_next(parts, run, xf_examples):
    share = run(f"{parts}.CountFiles", examples=xf_examples)["share"]

    doubled = run(f"{parts}.TakeShare", share=share)["doubled"]

    assert float((doubled.path / "value").read_text()) == 2 * float((share.path / "value").read_text())


def test_a_class_with_an_executor_gets_the_artifact_with_all_its_properties(parts, run, xf_examples):
    tally = run(f"{parts}.CountFiles", examples=xf_examples)["tally"]

    said = run(f"{parts}.Say", {"greeting": "good day"}, tally=tally)["said"]

    files = tally.properties["files"]
    assert json.loads((said.path / "said.json").read_text()) == ["good day", files, "PartsTally", "CountFiles", "tmp"]


def test_a_Beam_component_gets_a_pipeline_that_runs(parts, run, xf_examples):
    tally = run(f"{parts}.CountRows", examples=xf_examples)["tally"]

    assert int((tally.path / "rows").read_text()) == xf_examples.properties["records"]["train"]


def test_TFX_s_statistics_of_our_examples_and_its_schema_of_them_are_read_by_ours(run, xf_examples):
    statistics = run("tfx.v1.components.StatisticsGen", examples=xf_examples)["statistics"]

    schema = run("tfx.v1.components.SchemaGen", statistics=statistics)["schema"]

    assert isinstance(statistics, Statistics)
    assert statistics.splits == ("train", "eval")
    assert statistics.file("train").is_file()
    assert json.loads(statistics.properties["split_names"]) == ["train", "eval"]
    assert isinstance(schema, FeatureSchema)
    assert 'name: "trip_miles"' in schema.file.read_text()


def test_the_newest_span_is_read_and_its_files_count_by_their_content(tmp_path, run):
    for span in (1, 2):
        (tmp_path / f"day-{span}").mkdir()
        (tmp_path / f"day-{span}" / "data.csv").write_text(f"a,b\n{span},x\n{span},y\n{span},z\n")
    settings = {
        "input_base": str(tmp_path),
        "input_config": {"splits": [{"name": "all", "pattern": "day-{SPAN}/*.csv"}]},
    }
    kind = resolve("tfx.v1.components.CsvExampleGen")
    kept = settings_of(build_component(kind, settings))

    found = read_contract(kind).files(kept)
    examples = run("tfx.v1.components.CsvExampleGen", settings)["examples"]

    assert {name: [(file.path, file.span, file.name) for file in files] for name, files in found.items()} == {
        "input_base": [(tmp_path / "day-2" / "data.csv", 2, "day-2/data.csv")]
    }
    assert examples.splits == ("train", "eval")
    assert examples.properties["custom_properties"]["span"] == 2


def test_a_hidden_file_counts_as_TFX_s_executor_reads_it(tmp_path):
    from apache_beam.io.filesystems import FileSystems

    for name in ("rows.csv", ".more.csv"):
        (tmp_path / name).write_text("trip,fare\n1,2.5\n")
    generate = build_component(resolve("tfx.v1.components.CsvExampleGen"), {"input_base": str(tmp_path)})

    (found,) = FileSystems.match([f"{tmp_path}/*"])
    counted = {str(file.path) for file in generate.select_files()["input_base"]}
    assert counted == {file.path for file in found.metadata_list} == {f"{tmp_path}/.more.csv", f"{tmp_path}/rows.csv"}


def test_a_file_that_nobody_planned_is_not_read_unseen(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a\n1\n")
    component = build_component(resolve("tfx.v1.components.CsvExampleGen"), {"input_base": str(tmp_path)})
    planned = PlannedFiles({"input_base": (InputFile(tmp_path / "a.csv", "sha256:0", 4),)})

    with pytest.raises(StepFailed, match=r"b\.csv appeared after this step was planned"):
        component.run(asked_files=planned)


def test_a_span_that_appears_after_the_plan_is_left_for_the_next_run(tmp_path, run):
    days = tmp_path / "days"
    for span in (1, 2):
        (days / f"day-{span}").mkdir(parents=True)
        (days / f"day-{span}" / "data.csv").write_text(f"a,b\n{span},x\n{span},y\n{span},z\n")
    settings = {
        "input_base": str(days),
        "input_config": {"splits": [{"name": "all", "pattern": "day-{SPAN}/*.csv"}]},
    }
    planned = PlannedFiles({"input_base": (InputFile(days / "day-1" / "data.csv", "sha256:0", 14, span=1),)})

    examples = run("tfx.v1.components.CsvExampleGen", settings, planned=planned)["examples"]

    assert examples.properties["custom_properties"]["span"] == 1


def test_no_input_files_are_an_error_that_names_the_place(tmp_path):
    kind = resolve("tfx.v1.components.CsvExampleGen")
    kept = settings_of(build_component(kind, {"input_base": str(tmp_path / "nothing")}))

    with pytest.raises(DataError, match="nothing"):
        read_contract(kind).files(kept)


def test_what_an_executor_is_told_of_an_artifact_counts_but_for_the_place_and_time_it_was_made_at(parts):
    say, pusher = (read_contract(resolve(name)) for name in (f"{parts}.Say", "tfx.v1.components.Pusher"))
    blessed = {"blessed": 1, "current_model": "/here/store", "current_model_id": 7}
    read = pusher.properties_read(
        {"model": {"seconds": 3}, "model_blessing": {"blessed": True, "custom_properties": blessed}}
    )

    assert say.properties_read({"tally": {"files": 3, "custom_properties": {"by": "me"}, "bytes": 2}}) == {
        "tally": {"files": 3, "custom_properties": {"by": "me"}}
    }
    assert say.properties_read({"tally": {"absent": True}}) != say.properties_read({"tally": {}})
    assert read == {"model_blessing": {"custom_properties": {"blessed": 1}}}
    assert read_contract(resolve("tfx.v1.components.StatisticsGen")).properties_read(
        {"examples": {"spans": [{"span": 7, "version": None}], "custom_properties": {"input_fingerprint": "a time"}}}
    ) == {"examples": {"span": 7}}


def test_a_custom_type_keeps_its_name_and_one_derived_from_TFX_s_is_taken_for_that(parts):
    tally = artifact_class(f"{parts}.Tally")
    more = artifact_class(f"{parts}.MoreExamples")

    assert (tally.TYPE_NAME, tally.__bases__) == ("PartsTally", (Artifact,))
    assert f"{tally.__module__}.{tally.__qualname__}" == f"{parts}.Tally"
    assert tally is artifact_class(f"{parts}.Tally")
    assert issubclass(more, Examples)
    assert more.TYPE_NAME == "PartsExamples"


def test_our_hyperparameters_are_alone_in_what_TFX_looks_into(tmp_path):
    from tfx.types import standard_artifacts
    from tfx.utils import io_utils

    from components.io.tfx_artifacts import to_tfx

    found = Hyperparameters(tmp_path / "tuned")
    found.path.mkdir()
    for file in (found.file, found.trials_file, found.table_file):
        file.write_text(file.name)

    theirs = to_tfx(standard_artifacts.HyperParameters, found, tmp_path / "scratch")

    assert Path(io_utils.get_only_uri_in_dir(theirs.uri)).read_text() == found.file.name


def test_an_artifact_is_imported_with_its_properties(tmp_path, run, xf_schema):
    copied = run(
        "tfx.types.standard_artifacts.Schema",
        {"source_uri": str(xf_schema.path), "custom_properties": {"by": "hand"}},
    )["result"]

    assert isinstance(copied, FeatureSchema)
    assert copied.file.read_bytes() == xf_schema.file.read_bytes()
    assert copied.properties == {"custom_properties": {"by": "hand"}}


def test_where_a_file_lies_in_what_is_imported_is_part_of_the_key(tmp_path):
    kind = resolve("tfx.types.standard_artifacts.Examples")
    (tmp_path / "Split-eval").mkdir()
    (tmp_path / "Split-eval/data.gz").write_bytes(b"records")

    def key() -> str:
        files = files_of(read_contract(kind), {"source_uri": str(tmp_path)})
        return key_of({"files": files})

    before = key()
    (tmp_path / "Split-eval").rename(tmp_path / "Split-test")

    assert key() != before


def test_a_file_that_goes_over_to_another_split_is_another_input(tmp_path):
    for name in ("train/a.csv", "train/b.csv", "eval/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    kind = resolve("tfx.v1.components.CsvExampleGen")
    splits = [{"name": name, "pattern": f"{name}/*"} for name in ("train", "eval")]
    settings = settings_of(build_component(kind, {"input_base": str(tmp_path), "input_config": {"splits": splits}}))

    def key() -> str:
        return key_of({"files": files_of(read_contract(kind), settings)})

    before = key()
    (tmp_path / "train/b.csv").rename(tmp_path / "eval/b.csv")

    assert key() != before


def test_a_value_that_is_a_file_is_imported_as_a_value(tmp_path, run):
    (tmp_path / "share.txt").write_text("0.5")

    share = run("tfx.types.standard_artifacts.Float", {"source_uri": str(tmp_path / "share.txt")})["result"]

    assert (share.path / "value").read_text() == "0.5"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "InContainer",
            r"InContainer runs in a container of its own \(image registry/say:1\).*Have a function component",
        ),
        (
            "Reserved",
            "Reserved has an execution parameter called 'run', which every step has for itself. Give it another",
        ),
        ("Driven", r"Driven has a driver of its own, tfx_parts.OwnDriver, .*Do what it does in the executor"),
        (
            "TwoOfAName",
            "two artifact types are called 'PartsTally': tfx_parts.AnotherTally and tfx_parts.Tally. Give one",
        ),
    ],
)
def test_a_component_that_cannot_run_here_says_what_to_do_instead(parts, name, said):
    artifact_class(f"{parts}.Tally")

    with pytest.raises(ConfigError, match=said):
        read_contract(resolve(f"{parts}.{name}"))


def test_a_type_of_the_user_s_with_the_name_of_one_of_TFX_s_is_named(parts):
    with pytest.raises(
        ConfigError, match="are called 'Model': tfx_parts.OwnModel and tfx.types.standard_artifacts.Model"
    ):
        artifact_class(f"{parts}.OwnModel")


def test_an_executor_for_a_cloud_service_is_named_with_what_does_the_same_here():
    kind = resolve("tfx.extensions.google_cloud_ai_platform.trainer.component.Trainer")

    with pytest.raises(ConfigError, match="cloud service .*Use tfx.v1.components.Trainer"):
        read_contract(kind)


def test_a_parameter_that_cannot_be_stored_is_named(parts):
    with pytest.raises(ConfigError, match="how: builtin_function_or_method cannot be stored .*dotted path"):
        build_component(resolve(f"{parts}.Unstorable"), {})


def test_an_output_that_lies_elsewhere_is_an_error_that_says_where(parts, run, xf_examples):
    tally = run(f"{parts}.CountFiles", examples=xf_examples)["tally"]

    with pytest.raises(ArtifactError, match="output 'said' was written to /somewhere/else, outside the step's own"):
        run(f"{parts}.Astray", tally=tally)


@pytest.fixture
def tally(parts, tmp_path: Path) -> Artifact:
    """An artifact that an earlier step published."""
    found = artifact_class(f"{parts}.Tally")(tmp_path / "tally", {"files": 2})
    found.path.mkdir()
    (found.path / "tally.json").write_text('["train"]')
    return found


def test_what_an_executor_writes_into_an_input_is_taken_out_and_named(parts, run, tally):
    with pytest.raises(
        ArtifactError,
        match=r"input 'tally' belongs to an earlier step, and \S*tally/mine\.json appeared in it .*removed again",
    ):
        run(f"{parts}.Wander", {"greeting": "input"}, tally=tally)

    assert [file.name for file in tally.path.iterdir()] == ["tally.json"]


def test_what_a_failed_executor_wrote_into_an_input_is_taken_out(parts, run, tally):
    with pytest.raises(ValueError, match="no more"):
        run(f"{parts}.Wander", {"greeting": "fails"}, tally=tally)

    assert [file.name for file in tally.path.iterdir()] == ["tally.json"]


def test_an_input_s_file_that_an_executor_writes_over_is_named(parts, run, tally):
    with pytest.raises(
        ArtifactError, match=r"\S*tally/tally\.json was changed or removed .* run the earlier step again"
    ):
        run(f"{parts}.Wander", {"greeting": "over the input"}, tally=tally)


def test_a_file_beside_the_outputs_is_named(parts, run, tally):
    with pytest.raises(ArtifactError, match=r"outputs/said\.json was written beside the outputs.*below the uri"):
        run(f"{parts}.Wander", {"greeting": "beside"}, tally=tally)


def test_an_output_that_stays_empty_is_named_with_what_appeared_where_the_executor_runs(
    parts, run, tally, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    with pytest.raises(
        ArtifactError, match=r"output 'said' is empty: .*; said\.json appeared in the working directory"
    ):
        run(f"{parts}.Wander", {"greeting": "here"}, tally=tally)


@pytest.mark.parametrize("made", ["a property", "an empty split"])
def test_an_output_may_be_a_property_or_an_empty_split(parts, run, tally, made):
    assert run(f"{parts}.Wander", {"greeting": made}, tally=tally)["said"].path.is_dir()


def test_another_TFX_than_the_lock_s_is_refused(monkeypatch):
    from components.io import tfx_components

    monkeypatch.setattr(tfx_components, "VERSION", "1.21")

    with pytest.raises(ConfigError, match=r"TFX 1\.16\.0 is installed, and its components run here with TFX 1\.21"):
        tfx_components.component_of.__wrapped__(resolve("tfx.v1.components.SchemaGen"))
