"""What a user writes of a TFX component is kept as TFX's own constructor makes it, or refused by its name."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from pipeline.contract import build_component, read_contract, settings_of
from schemas.dotted_path import resolve
from schemas.errors import ConfigError


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


def test_the_function_of_a_DataViewProvider_is_the_user_s_code():
    kind = resolve("tfx.components.experimental.data_view.provider_component.TfGraphDataViewProvider")

    by_name = settings_of(build_component(kind, {"create_decoder_func": "my.graphs.create_decoder"}))
    by_file = settings_of(build_component(kind, {"create_decoder_func": "create_decoder", "module_file": "graphs.py"}))

    assert by_name["user_code"] == ["my.graphs.create_decoder"]
    assert by_file["user_code"] == ["graphs.py"]


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


def test_a_parameter_that_cannot_be_stored_is_named(parts):
    with pytest.raises(ConfigError, match="how: builtin_function_or_method cannot be stored .*dotted path"):
        build_component(resolve(f"{parts}.Unstorable"), {})
