"""TFX's components, and ones that a user wrote for TFX, are components of ours: what they take and make, and which files they read."""

from __future__ import annotations

import pytest

from pipeline.contract import build_component, read_contract, settings_of
from pipeline.fingerprint import key_of
from pipeline.plan import files_of
from schemas.artifacts import Blessing, Examples, Model, TransformedExamples, TransformStatistics
from schemas.component import InputFile, PlannedFiles
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, DataError, StepFailed


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

    examples = run("tfx.v1.components.CsvExampleGen", settings, asked_files=planned)["examples"]

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


def test_an_execution_parameter_of_a_name_that_every_step_has_is_refused(parts):
    with pytest.raises(
        ConfigError,
        match="Reserved has an execution parameter called 'run', which every step has for itself. Give it another",
    ):
        read_contract(resolve(f"{parts}.Reserved"))
