"""TFX's own components do their work as steps of ours: on TFX's artifacts and on ours, and what they make is read by ours."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from pipeline.contract import build_component, settings_of
from pipeline.fingerprint import code_closure
from schemas.artifacts import Blessing, Examples, FeatureSchema, Hyperparameters, Model, Statistics
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

MODULE = """
import json
import os

import tensorflow as tf
import tensorflow_transform as tft
from penguin_beside import FEATURES
from tensorflow import keras
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.utils import io_utils
from tfx_bsl.tfxio import dataset_options


def preprocessing_fn(inputs, custom_config):
    scaled = {f"{name}_xf": tft.scale_to_z_score(inputs[name]) for name in FEATURES[: custom_config["features"]]}
    return {**scaled, "species": inputs["species"]}


def run_fn(fn_args):
    schema = io_utils.parse_pbtxt_file(fn_args.schema_path, schema_pb2.Schema())
    options = dataset_options.TensorFlowDatasetOptions(batch_size=20, label_key="species")
    data = fn_args.data_accessor.tf_dataset_factory(fn_args.train_files, options, schema)
    values = (fn_args.hyperparameters or {}).get("values", {})
    inputs = {name: keras.layers.Input(shape=(1,), name=name) for name in FEATURES}
    hidden = keras.layers.concatenate(list(inputs.values()))
    for _ in range(values.get("num_layers", 1)):
        hidden = keras.layers.Dense(8, activation="relu")(hidden)
    model = keras.Model(inputs=inputs, outputs=keras.layers.Dense(3)(hidden))
    rate = values.get("learning_rate", 0.01)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data, steps_per_epoch=fn_args.train_steps, verbose=0)
    spec = {name: tf.io.FixedLenFeature([1], tf.float32) for name in FEATURES}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples):
        return {"logits": model(tf.io.parse_example(examples, spec))}

    model.save(fn_args.serving_model_dir, save_format="tf", signatures={"serving_default": serve})
    os.makedirs(fn_args.model_run_dir, exist_ok=True)
    with open(os.path.join(fn_args.model_run_dir, "said.json"), "w") as out:
        json.dump({"layers": len(model.layers), "rate": rate}, out)
"""
BESIDE = 'FEATURES = ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"]\n'
TUNER_MODULE = "tfx.components.testdata.module_file.tuner_module"


@pytest.fixture(scope="module")
def module(module_files: Callable[..., str]) -> str:
    """A module file of a user's of TFX, which imports a helper that lies beside it."""
    return module_files(penguin_module=MODULE, penguin_beside=BESIDE)


@pytest.fixture(scope="session")
def penguins(tfx_testdata: Path) -> Examples:
    """334 penguins in two splits, as TFX's ExampleGen left them."""
    return Examples(tfx_testdata / "penguin/data")


@pytest.fixture(scope="session")
def penguin_schema(tfx_testdata: Path) -> FeatureSchema:
    return FeatureSchema(tfx_testdata / "penguin/schema")


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory,
    run_in: Callable[..., Any],
    module: str,
    penguins: Examples,
    penguin_schema: FeatureSchema,
) -> Model:
    """What TFX's Trainer made without a transform graph."""
    made: Model = run_in(
        tmp_path_factory.mktemp("trainer") / "it",
        "tfx.v1.components.Trainer",
        {"module_file": module, "train_args": {"num_steps": 1}, "eval_args": {}},
        examples=penguins,
        schema=penguin_schema,
    )["model"]
    return made


def records(examples: Examples, split: str) -> int:
    return sum(1 for file in examples.files(split) for _ in tfrecord.read(file))


@pytest.mark.slow
def test_what_TFX_s_Tuner_found_is_for_TFX_s_Trainer_and_for_ours(run, module, penguins, penguin_schema):
    inputs = {"examples": penguins, "schema": penguin_schema}
    steps = {"train_args": {"num_steps": 1}, "eval_args": {"num_steps": 1}}

    found = run("tfx.v1.components.Tuner", {"tuner_fn": f"{TUNER_MODULE}.tuner_fn", **steps}, **inputs)

    best, results = found["best_hyperparameters"], found["tuner_results"]
    assert isinstance(best, Hyperparameters)
    values = json.loads(best.file.read_text())["values"]
    trials = json.loads((results.path / "tuner_results.json").read_text())
    assert len(trials) == 3
    assert values in [{name: trial[name] for name in ("learning_rate", "num_layers")} for trial in trials]

    assert best.properties == {"values": values, "trials": 3, "score": trials[0]["score"]}
    assert best.describe().startswith("best of 3: ")

    both = {**inputs, "hyperparameters": best}
    theirs = run("tfx.v1.components.Trainer", {"module_file": module, **steps}, **both)
    ours = run("components.model.trainer.Trainer", {"run_fn": module, "steps": 1}, **both)

    expected = {"layers": 4 + 1 + values["num_layers"] + 1, "rate": values["learning_rate"]}
    assert [json.loads((made["model_run"].path / "said.json").read_text()) for made in (theirs, ours)] == [expected] * 2


def test_several_trials_at_once_are_not_for_TFX_s_Tuner():
    with pytest.raises(
        ConfigError, match=r"^tune_args: TFX's Tuner refuses them when it runs.* our Tuner .*parallel_trials"
    ):
        build_component(
            resolve("tfx.v1.components.Tuner"), {"module_file": "features.py", "tune_args": {"num_parallel_trials": 2}}
        )


def test_what_is_inferred_in_bulk_is_examples_for_our_steps(run, model, penguins):
    spec = {
        "output_columns_spec": [
            {"predict_output": {"output_columns": [{"output_key": "logits", "output_column": "logits"}]}}
        ]
    }
    settings = {"data_spec": {"example_splits": ["eval"]}, "output_example_spec": spec}

    made = run("tfx.v1.components.BulkInferrer", settings, examples=penguins, model=model)

    assert made["inference_result"].properties == {"absent": True}
    inferred = made["output_examples"]
    assert inferred.splits == ("eval",)
    assert records(inferred, "eval") == records(penguins, "eval")
    statistics = run("components.data.statistics_gen.StatisticsGen", examples=inferred)["statistics"]
    assert b"logits" in statistics.file("eval").read_bytes()


def test_a_model_that_is_not_blessed_infers_nothing_and_one_that_is_does(run, tmp_path, model, penguins):
    blessings = []
    for name, reasons in (("refused", ("accuracy 0.41 is below 0.60",)), ("blessed", ())):
        blessings.append(Blessing(tmp_path / name))
        blessings[-1].path.mkdir()
        blessings[-1].write(reasons)

    refused, blessed = (
        run(
            "tfx.v1.components.BulkInferrer",
            {"data_spec": {"example_splits": ["eval"]}},
            examples=penguins,
            model=model,
            model_blessing=blessing,
        )["inference_result"]
        for blessing in blessings
    )

    assert list(refused.path.iterdir()) == []
    (file,) = blessed.path.glob("*.gz")
    assert b"logits" in gzip.decompress(file.read_bytes())


def test_TFX_s_Trainer_goes_on_from_a_model_that_our_definition_wires_to_it(run, user_module, model, penguins):
    source = (
        "import tensorflow as tf\n"
        "def run_fn(fn_args):\n"
        "    old = tf.saved_model.load(fn_args.base_model)\n"
        "    tf.saved_model.save(old, fn_args.serving_model_dir, signatures=old.signatures)\n"
    )

    made = run(
        "tfx.v1.components.Trainer",
        {"run_fn": user_module(source, "run_fn"), "train_args": {}, "eval_args": {}},
        examples=penguins,
        base_model=model,
    )

    assert (made["model"].serving / "saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("kind", "settings", "split"),
    [
        ("tfx.v1.components.ImportExampleGen", {"pattern": "tfrecord/*"}, "train"),
        ("parquet_executor", {"pattern": "parquet/*.parquet"}, "eval"),
        ("avro_executor", {"pattern": "avro/*.avro"}, "eval"),
    ],
)
def test_files_of_other_formats_become_examples_that_our_steps_read(run, tfx_testdata, kind, settings, split):
    written: dict[str, Any] = {
        "input_base": str(tfx_testdata / "external"),
        "input_config": {"splits": [{"name": "all", **settings}]},
    }
    if kind.endswith("_executor"):
        written["custom_executor_spec"] = f"tfx.components.example_gen.custom_executors.{kind}.Executor"
        kind = "tfx.components.FileBasedExampleGen"

    examples = run(kind, written)["examples"]

    assert examples.splits == ("train", "eval")
    statistics = run("components.data.statistics_gen.StatisticsGen", {"sample_rate": 0.1}, examples=examples)[
        "statistics"
    ]
    assert b"trip_miles" in statistics.file(split).read_bytes()


def test_an_ExampleGen_without_an_executor_of_its_own_says_how_to_name_one(tmp_path):
    with pytest.raises(
        ConfigError, match="has no executor that does the work. Name one: custom_executor_spec: my_module"
    ):
        build_component(resolve("tfx.components.FileBasedExampleGen"), {"input_base": str(tmp_path)})


def test_StatisticsGen_takes_options_as_a_mapping_and_leaves_splits_out(run, penguins, penguin_schema):
    settings = {"stats_options": {"num_top_values": 1, "feature_allowlist": ["species"]}, "exclude_splits": ["eval"]}

    statistics = run("tfx.v1.components.StatisticsGen", settings, examples=penguins, schema=penguin_schema)[
        "statistics"
    ]

    from tensorflow_metadata.proto.v0 import statistics_pb2

    assert statistics.splits == ("train",)
    (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(statistics.file("train").read_bytes()).datasets
    assert [feature.path.step[0] for feature in found.features] == ["species"]
    with pytest.raises(ConfigError, match="stats_options: .* unexpected keyword argument 'num_topp_values'"):
        build_component(resolve("tfx.v1.components.StatisticsGen"), {"stats_options": {"num_topp_values": 1}})


def test_statistics_and_schemas_of_TFX_s_validators_and_importers(run, tfx_testdata, penguins):
    statistics = Statistics(tfx_testdata / "statistics_gen")

    imported = run("tfx.v1.components.ImportSchemaGen", {"schema_file": str(tfx_testdata / "schema_gen/schema.pbtxt")})
    inferred = run("tfx.v1.components.SchemaGen", {"infer_feature_shape": False}, statistics=statistics)
    compared = run(
        "tfx.components.DistributionValidator",
        {"config": {"default_slice_config": {}}, "include_split_pairs": [["train", "eval"]]},
        statistics=statistics,
        baseline_statistics=statistics,
    )["anomalies"]
    differing = run(
        "tfx.v1.components.ExampleDiff",
        {
            "config": {"paired_example_skew": {"identifier_features": ["body_mass_g"], "skew_sample_size": 1}},
            "include_split_pairs": [["train", "eval"]],
        },
        examples=penguins,
        baseline_examples=penguins,
    )["example_diff_result"]

    assert imported["schema"].file.read_bytes() == (tfx_testdata / "schema_gen/schema.pbtxt").read_bytes()
    assert 'name: "trip_miles"' in inferred["schema"].file.read_text()
    assert [path.name for path in compared.path.iterdir()] == ["SplitPair-train_eval"]
    assert {path.parent.name for path in differing.path.rglob("*stats*")} == {"SplitPair-train_eval"}


DECODER = """
import tensorflow as tf
from tfx_bsl.coders import tf_graph_record_decoder


class Lengths(tf_graph_record_decoder.TFGraphRecordDecoder):
    def decode_record(self, record):
        row = tf.range(tf.size(record), dtype=tf.int64)
        indices = tf.stack([row, tf.zeros_like(row)], axis=1)
        shape = [tf.size(record, out_type=tf.int64), 1]
        return {"bytes": tf.SparseTensor(indices, tf.cast(tf.strings.length(record), tf.int64), shape)}


def create_decoder():
    return Lengths()
"""


def test_examples_that_a_data_view_is_bound_to_are_read_through_it(run, tmp_path):
    (tmp_path / "decoding.py").write_text(DECODER)
    (tmp_path / "records").mkdir()
    tfrecord.write(tmp_path / "records/some.tfrecord", [b"one", b"three", b"eleven"])
    protos = {"payload_format": 11, "output_config": ONE_SPLIT}  # FORMAT_PROTO
    examples = run("tfx.v1.components.ImportExampleGen", {"input_base": str(tmp_path / "records"), **protos})[
        "examples"
    ]
    where = "tfx.components.experimental.data_view"

    view = run(
        f"{where}.provider_component.TfGraphDataViewProvider",
        {"module_file": str(tmp_path / "decoding.py"), "create_decoder_func": "create_decoder"},
    )["data_view"]
    bound = run(f"{where}.binder_component.DataViewBinder", input_examples=examples, data_view=view)["output_examples"]
    statistics = run("tfx.v1.components.StatisticsGen", examples=bound)["statistics"]

    from tensorflow_metadata.proto.v0 import statistics_pb2

    assert [file.stat().st_nlink for file in bound.files("all")] == [2]
    found = statistics_pb2.DatasetFeatureStatisticsList.FromString(statistics.file("all").read_bytes())
    (feature,) = found.datasets[0].features
    assert (feature.path.step, feature.num_stats.min, feature.num_stats.max) == (["bytes"], 3, 6)


@pytest.mark.slow
def test_Transform_makes_what_it_is_asked_for_and_takes_the_cache_of_the_last_time(
    run, module, penguins, penguin_schema
):
    inputs = {"examples": penguins, "schema": penguin_schema}
    settings = {"module_file": module, "custom_config": {"features": 2}, "disable_statistics": True}
    one = {"splits_config": {"analyze": ["train"], "transform": ["eval"]}}

    first = run("tfx.v1.components.Transform", {**settings, **one}, **inputs)
    none = run(
        "tfx.v1.components.Transform",
        {**settings, "materialize": False},
        **inputs,
        analyzer_cache=first["updated_analyzer_cache"],
    )

    assert first["transformed_examples"].splits == ("eval",)
    assert records(first["transformed_examples"], "eval") == records(penguins, "eval")
    schema = (first["transform_graph"].path / "transformed_metadata/schema.pbtxt").read_text()
    assert schema.count("_xf") == 2
    absent = {name for name, made in none.items() if made.properties == {"absent": True}}
    assert absent == {
        "transformed_examples",
        *("pre_transform_schema", "pre_transform_stats"),
        *("post_transform_schema", "post_transform_stats", "post_transform_anomalies"),
    }
    caches = [
        {
            path.relative_to(made["updated_analyzer_cache"].path)
            for path in made["updated_analyzer_cache"].path.rglob("*.gz")
        }
        for made in (first, none)
    ]
    assert caches[0] == caches[1] != set()


ONE_SPLIT = {"split_config": {"splits": [{"name": "all", "hash_buckets": 1}]}}
EVAL_CONFIG = {
    "model_specs": [{"label_key": "species", "signature_name": "serving_default"}],
    "slicing_specs": [{}],
    "metrics_specs": [
        {
            "metrics": [
                {
                    "class_name": "SparseCategoricalAccuracy",
                    "threshold": {"value_threshold": {"lower_bound": 0.0}},
                }
            ]
        }
    ],
}


@pytest.mark.parametrize("code", ["module_file", "module_path"])
def test_Evaluator_has_functions_of_the_user_s_by_file_and_by_name(
    run, code, tfx_testdata, model, penguins, penguin_schema
):
    named = {
        "module_file": str(tfx_testdata / "module_file/evaluator_module.py"),
        "module_path": "tfx.components.testdata.module_file.evaluator_module",
    }
    settings = {"eval_config": EVAL_CONFIG, "fairness_indicator_thresholds": [0.5], code: named[code]}

    made = run("tfx.v1.components.Evaluator", settings, examples=penguins, model=model, schema=penguin_schema)

    assert made["blessing"].blessed


def test_a_module_that_is_named_by_its_path_is_part_of_the_key(user_module):
    dotted = user_module("import json\n\n\ndef custom_extractors(): ...\n", "custom_extractors").rpartition(".")[0]

    settings = settings_of(
        build_component(resolve("tfx.v1.components.Evaluator"), {"eval_config": EVAL_CONFIG, "module_path": dotted})
    )

    assert settings["user_code"] == [f"{dotted}.__name__"]
    assert set(code_closure(settings["user_code"]).modules) == {dotted}
