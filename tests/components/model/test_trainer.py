"""Trainer: the same weights whatever interrupts it, TFX's run_fn unchanged, and what it says of mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.features.transform import Transform
from components.io import saved_model, tfrecord
from components.io.keras import load_keras
from components.model.input_data import transformed_spec
from components.model.trainer import Trainer
from pipeline.contract import build_component
from schemas.artifacts import (
    Examples,
    Hyperparameters,
    Model,
    ModelRun,
    TransformedExamples,
    TransformGraph,
)
from schemas.component import Baseline, BeamOptions, Progress, Scratch, Seed
from schemas.errors import ConfigError, DataError, UnknownSplit, UserCodeError

TAXI = "configs.taxi.model.build_model"

# Takes two numbers; dropout draws from a generator whose state has to survive, too.
WITH_DROPOUT = """
import tf_keras

def build_model(hp):
    inputs = {name: tf_keras.layers.Input((1,), name=name) for name in ("fare_xf", "trip_miles_xf")}
    x = tf_keras.layers.Dense(hp.Int("units", 4, 16, default=8), activation="relu")(
        tf_keras.layers.concatenate(list(inputs.values()))
    )
    x = tf_keras.layers.Dropout(0.5)(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=[tf_keras.metrics.AUC(name="auc")])
    return model
"""


def train(
    tmp_path: Path,
    examples: Examples,
    graph: TransformGraph | None,
    *,
    seed: int | None = 13,
    inputs: Any = None,
    **settings: Any,
) -> Model:
    """A model in a new directory, trained for 20 steps where `settings` do not say otherwise."""
    number = len(list(tmp_path.glob("model*")))
    model, scratch = Model(tmp_path / f"model{number}"), Scratch(tmp_path / "scratch")
    model.path.mkdir()
    scratch.path.mkdir(exist_ok=True)
    if "run_fn" not in settings and "epochs" not in settings:
        settings.setdefault("steps", 20)
    if "run_fn" not in settings:
        settings.setdefault("label", "big_tip")
    Trainer(**settings).run(
        examples, graph, **(inputs or {}), seed=Seed(seed), scratch=scratch, progress=Progress(), model=model
    )
    return model


def weights(model: Model) -> list[bytes]:
    return [array.tobytes() for array in load_keras(model).get_weights()]


@pytest.fixture(scope="module")
def taxi_model(tmp_path_factory: pytest.TempPathFactory, xf_graph: TransformGraph, xf_transformed: Any) -> Model:
    return train(tmp_path_factory.mktemp("taxi"), xf_transformed, xf_graph, build_model=TAXI, label=None)


def test_a_model_has_its_two_forms_its_metrics_and_its_steps(taxi_model):
    assert sorted(p.name for p in taxi_model.path.iterdir()) == ["Format-Keras", "Format-Serving", "curves.csv"]
    assert saved_model.exists(taxi_model.serving)
    assert taxi_model.properties["steps"] == 20
    assert taxi_model.properties["label"] == "big_tip"
    assert taxi_model.properties["metrics"].keys() == {
        *("loss", "accuracy", "auc"),
        *("val_loss", "val_accuracy", "val_auc"),
    }
    assert taxi_model.properties["hyperparameters"] == {"layers": 2, "units": 32, "learning_rate": 0.001}


def test_the_metrics_are_those_of_the_saved_model(taxi_model, xf_graph, xf_transformed):
    import tensorflow as tf
    import tensorflow_transform as tft

    spec = tft.TFTransformOutput(str(xf_graph.path)).transformed_feature_spec()
    records = list(tfrecord.read(xf_transformed.files("eval")[0]))
    features = tf.io.parse_example(records, spec)
    label = features.pop("big_tip")

    found = load_keras(taxi_model).evaluate(features, label, batch_size=64, verbose=0, return_dict=True)

    assert {f"val_{name}": pytest.approx(value, rel=1e-5) for name, value in found.items()} == {
        name: value for name, value in taxi_model.properties["metrics"].items() if name.startswith("val_")
    }


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again_it_ends_in_the_same_weights(tmp_path, user_module, hours):
    function = user_module(WITH_DROPOUT.replace('"fare_xf", "trip_miles_xf"', '"x", "fare_again"'), "build_model")
    settings = {
        "build_model": function,
        "label": "late",
        "sample_weight": "heavy",
        "class_weights": {1: 0.5},
        "steps": 50,
        "learning_rate": {"schedule": "cosine", "initial_learning_rate": 0.1, "warmup_steps": 5},
        "early_stopping": {"monitor": "val_auc", "patience": 2},
        "checkpoint_steps": 5,
        "batch_size": 16,
    }
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
from components.model.trainer import Trainer
from schemas.artifacts import Model, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed

class KilledAt19(Progress):
    def __call__(self, done, total=None, unit="rows"):
        if done == 19:
            os.kill(os.getpid(), signal.SIGKILL)

model = Model(Path({str(killed)!r}) / "never")
model.path.mkdir()
scratch = Scratch(Path({str(killed)!r}) / "scratch")
scratch.path.mkdir()
Trainer(**{settings!r}).run(
    TransformedExamples(Path({str(hours[1].path)!r})), TransformGraph(Path({str(hours[0].path)!r})),
    seed=Seed(13), scratch=scratch, progress=KilledAt19(), model=model,
)
"""
    ended = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    kept = {file.name for file in (killed / "scratch" / "checkpoints").glob("*.index")}
    assert kept == {"ckpt-13.index", "ckpt-18.index"}  # an epoch's end, and the middle of the next

    resumed = train(killed, hours[1], hours[0], **settings)
    whole = train(undisturbed, hours[1], hours[0], **settings)

    assert weights(resumed) == weights(whole)
    assert resumed.curves.read_bytes() == whole.curves.read_bytes()
    assert resumed.properties == whole.properties


def test_another_seed_gives_other_weights(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module(WITH_DROPOUT, "build_model")
    first = train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=3)
    shutil.rmtree(tmp_path / "scratch")
    second = train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=3, seed=14)

    assert weights(first) != weights(second)


def test_a_run_without_a_seed_keeps_the_one_it_drew(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module(WITH_DROPOUT, "build_model")
    first = train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=3, seed=None)
    shutil.rmtree(tmp_path / "scratch" / "checkpoints")
    second = train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=3, seed=None)

    assert weights(first) == weights(second)


def test_what_TensorBoard_shows_and_the_speed_are_beside_the_model(tmp_path, user_module, hours):
    function = user_module(LINEAR.replace("INPUTS", "['x']"), "build_model")
    model_run = ModelRun(tmp_path / "model_run")
    model_run.path.mkdir()

    train(tmp_path, hours[1], hours[0], build_model=function, label="late", inputs={"model_run": model_run}, steps=2)

    assert sorted(file.parent.name for file in model_run.path.glob("*/events.out.tfevents.*")) == [
        "train",
        "validation",
    ]
    assert model_run.describe() == f"{model_run.properties['examples_per_s']:,.0f} examples/s"


def test_a_warm_start_takes_the_weights_of_what_is_served(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module(WITH_DROPOUT.replace('"adam"', "tf_keras.optimizers.SGD(0.0)"), "build_model")
    served = train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=1)
    baseline = Baseline(path=served.serving, digest="sha256:served", version=7)
    settings = {"build_model": function, "steps": 1, "seed": 14, "inputs": {"baseline": baseline}}
    shutil.rmtree(tmp_path / "scratch")

    warm = train(tmp_path, xf_transformed, xf_graph, warm_start=True, **settings)

    assert weights(warm) == weights(served)
    assert warm.properties["started_from"] == 7
    with pytest.raises(
        ConfigError, match=r"warm_start: .* dense_\d+/kernel is \[2, 5\] here and \[2, 8\] there; .*/kernel is"
    ):
        train(tmp_path, xf_transformed, xf_graph, warm_start=True, hyperparameters={"units": 5}, **settings)


def test_epochs_are_passes_over_the_train_split(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module(WITH_DROPOUT, "build_model")
    rows = xf_transformed.properties["records"]["train"]

    model = train(tmp_path, xf_transformed, xf_graph, build_model=function, epochs=2, batch_size=50)

    assert model.properties["steps"] == 2 * -(-rows // 50)


def test_tuned_hyperparameters_are_used_and_settings_stand_above_them(tmp_path, user_module, xf_graph, xf_transformed):
    import keras_tuner

    tuned = Hyperparameters(tmp_path / "tuned")
    tuned.path.mkdir()
    values = keras_tuner.HyperParameters()
    values.Int("units", 4, 16, default=5)
    tuned.file.write_text(json.dumps(values.get_config()), encoding="utf-8")
    function = user_module(WITH_DROPOUT, "build_model")

    as_tuned = train(
        tmp_path, xf_transformed, xf_graph, build_model=function, steps=1, inputs={"hyperparameters": tuned}
    )
    shutil.rmtree(tmp_path / "scratch")
    by_hand = train(
        tmp_path,
        xf_transformed,
        xf_graph,
        build_model=function,
        steps=1,
        inputs={"hyperparameters": tuned},
        hyperparameters={"units": 7},
    )

    assert load_keras(as_tuned).layers[3].units == 5
    assert not {"unused_hyperparameters", "untuned_hyperparameters"} & as_tuned.properties.keys()
    assert "untuned_hyperparameters" not in by_hand.properties
    assert load_keras(by_hand).layers[3].units == 7


RENAMED = """
import tf_keras

def build_model(hp):
    x = tf_keras.layers.Input((1,), name="fare_xf")
    seen = tf_keras.layers.Dense(hp.Int("width", 4, 16, default=8))(x)
    if hp.get("deep"):
        seen = tf_keras.layers.Dense(4)(seen)
    model = tf_keras.Model({"fare_xf": x}, tf_keras.layers.Dense(1, activation="sigmoid")(seen))
    model.compile("adam", "binary_crossentropy")
    return model
"""


def renamed(tmp_path: Path) -> Hyperparameters:
    """What was tuned, as a search with `tuner/epochs` writes it, for a build_model with `units` in place of `width`."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Int("units", 4, 16, default=5)
    space.Boolean("deep", default=True)
    space.values["tuner/epochs"] = 3
    tuned = Hyperparameters(tmp_path / "tuned")
    tuned.path.mkdir()
    tuned.file.write_text(json.dumps(space.get_config()), encoding="utf-8")
    return tuned


def test_tuned_values_that_nobody_asks_for_are_named_and_are_no_hyperparameters_of_the_model(
    tmp_path, user_module, xf_transformed, xf_graph, capfd
):
    function = user_module(RENAMED, "build_model")
    inputs = {"hyperparameters": renamed(tmp_path)}

    model = train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=1, inputs=inputs)

    said = capfd.readouterr().err
    assert f"{function} does not ask for these tuned values, which are not used: units 5\n" in said
    assert f"{function} asks for what was not tuned, and gets its defaults: width 8. Search again" in said
    assert model.properties["hyperparameters"] == {"width": 8, "deep": True}
    assert model.properties["unused_hyperparameters"] == {"units": 5}
    assert model.properties["untuned_hyperparameters"] == {"width": 8}
    assert model.describe().startswith("1 steps, width not tuned, loss ")


def test_an_override_of_a_tuned_value_that_nobody_asks_for_is_refused(tmp_path, user_module, xf_transformed, xf_graph):
    settings = {
        "build_model": user_module(RENAMED, "build_model"),
        "inputs": {"hyperparameters": renamed(tmp_path)},
        "hyperparameters": {"units": 7},
    }

    with pytest.raises(ConfigError, match=r"hyperparameters\.units: build_model asks for no such .* deep, width"):
        train(tmp_path, xf_transformed, xf_graph, **settings)


def test_a_build_model_with_a_second_parameter_gets_the_transform_output(
    tmp_path, user_module, xf_graph, xf_transformed
):
    function = user_module(
        WITH_DROPOUT.replace(
            "(hp):", "(hp, transform_output):\n    assert transform_output.transformed_feature_spec()"
        ),
        "build_model",
    )

    assert train(tmp_path, xf_transformed, xf_graph, build_model=function, steps=1).properties["steps"] == 1


@pytest.mark.parametrize(
    ("changes", "settings", "error", "message"),
    [
        (
            {'"fare_xf"': '"fair_xf"'},
            {},
            ConfigError,
            r"input 'fair_xf' is not a transformed feature. Did you mean 'fare_xf'",
        ),
        ({}, {"label": "bigtip"}, DataError, r"no transformed feature 'bigtip'. Did you mean 'big_tip'\?"),
        ({}, {"profile": (2, 9)}, ConfigError, "profile: step 9 is asked for, and the training has 3"),
        ({}, {"sample_weight": "fare_xf"}, ConfigError, "sample_weight: 'fare_xf' is an input of the model too"),
        ({}, {"early_stopping": {"monitor": "val_acu"}}, ConfigError, r"no metric 'val_acu'. Did you mean 'val_auc'\?"),
        ({}, {"label": "fare_xf"}, ConfigError, "'fare_xf' is an input of the model too"),
        ({}, {"label": None}, ConfigError, "label: not set, .* does not take several .*: big_tip, company_xf"),
        ({}, {"hyperparameters": {"unit": 3}}, ConfigError, r"hyperparameters.unit: .* Did you mean 'units'\?"),
        ({"model.compile(": "(lambda *a, **k: 0)("}, {}, UserCodeError, "a model that is not compiled"),
        ({"return model": "return"}, {}, UserCodeError, "returned nothing: it must return a compiled tf_keras.Model"),
        ({}, {"train_split": "trian"}, UnknownSplit, r"Did you mean 'train'\?"),
        ({'"adam"': 'tf_keras.optimizers.SGD(float("inf"))'}, {}, UserCodeError, "the loss is not a number at step 2"),
    ],
)
def test_a_mistake_is_named_with_what_there_is(
    tmp_path, user_module, xf_graph, xf_transformed, changes, settings, error, message
):
    source = WITH_DROPOUT
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    with pytest.raises(error, match=message):
        train(tmp_path, xf_transformed, xf_graph, build_model=user_module(source, "build_model"), steps=3, **settings)


LINEAR = """
import tf_keras

def build_model(hp):
    inputs = {name: tf_keras.layers.Input((1,), name=name) for name in INPUTS}
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1)(tf_keras.layers.concatenate([*inputs.values(), *inputs.values()])))
    model.compile("sgd", "mse")
    return model
"""


SEVERAL_OUTPUTS = """
import tf_keras

def build_model(hp):
    x = tf_keras.layers.Input((1,), name="x")
    hour = tf_keras.layers.Dense(24, activation="softmax", name="hour")(x)
    parts = tf_keras.layers.Dense(3, activation="sigmoid", name="parts")(x)
    fare = tf_keras.layers.Dense(1, name="fare")(x)
    model = tf_keras.Model({"x": x}, [hour, parts, fare])
    model.compile(
        "sgd",
        {"hour": "sparse_categorical_crossentropy", "parts": "binary_crossentropy", "fare": "mse"},
        weighted_metrics={"hour": ["accuracy"], "parts": [tf_keras.metrics.AUC(name="auc", multi_label=True)]},
        loss_weights={"fare": 0.001},
    )
    return model
"""
LABELS = {"hour": "hour", "parts": "parts", "fare": "fare_again"}


def test_several_outputs_are_trained_and_served_under_their_names(tmp_path, user_module, hours, xf_examples):
    import tensorflow as tf

    function = user_module(SEVERAL_OUTPUTS, "build_model")
    model = train(tmp_path, hours[1], hours[0], build_model=function, label=LABELS, sample_weight="heavy")

    assert model.properties["label"] == LABELS
    assert model.properties["sample_weight"] == "heavy"
    assert {"val_hour_accuracy", "val_parts_auc", "val_fare_loss"} <= model.properties["metrics"].keys()
    served = saved_model.load(model.serving).signatures["serving_default"]
    records = list(tfrecord.read(xf_examples.files("eval")[0]))
    answers = served(examples=tf.constant(records[:5]))
    assert {name: tensor.shape.as_list() for name, tensor in answers.items()} == {
        "hour": [5, 24], "parts": [5, 3], "fare": [5, 1]
    }  # fmt: skip


def test_sample_weights_weigh_as_keras_weighs_them(tmp_path, user_module, hours):
    import tensorflow as tf

    function = user_module(SEVERAL_OUTPUTS, "build_model")
    settings = {"build_model": function, "label": LABELS, "sample_weight": "heavy", "steps": 1}
    model = train(tmp_path, hours[1], hours[0], **settings)

    parsed = tf.io.parse_example(list(tfrecord.read(hours[1].files("eval")[0])), transformed_spec(hours[0]))
    found = load_keras(model).evaluate(
        {"x": parsed["x"]},
        {output: parsed[name] for output, name in LABELS.items()},
        sample_weight=parsed["heavy"],
        verbose=0,
        return_dict=True,
        batch_size=64,
    )
    assert {f"val_{name}": pytest.approx(value, rel=1e-5) for name, value in found.items()} == {
        name: value for name, value in model.properties["metrics"].items() if name.startswith("val_")
    }


def test_a_label_with_a_single_class_is_refused_with_its_value_and_count(tmp_path, user_module, hours, xf_examples):
    rows = xf_examples.properties["records"]["train"]
    function = user_module(LINEAR.replace("INPUTS", "['x']"), "build_model")

    with pytest.raises(
        DataError, match=f"label 'one' has a single class in split 'train': all {rows} records .* value 1"
    ):
        train(tmp_path, hours[1], hours[0], build_model=function, label="one")


def test_a_loss_that_is_not_a_number_is_traced_to_the_feature(tmp_path, user_module, hours, xf_examples):
    rows = xf_examples.properties["records"]["train"]
    function = user_module(LINEAR.replace("INPUTS", "['x', 'nan']"), "build_model")

    with pytest.raises(DataError, match=f"not a number at step 1: .* 'nan' in {rows} records"):
        train(tmp_path, hours[1], hours[0], build_model=function, label="late")


def test_a_train_split_without_records_is_refused(tmp_path, xf_graph, xf_transformed):
    examples = TransformedExamples(tmp_path / "examples")
    shutil.copytree(xf_transformed.split("eval"), examples.split_path("eval"))
    examples.split_path("train").mkdir()
    tfrecord.write(examples.split("train") / "transformed_examples-00000-of-00001.gz", [])

    with pytest.raises(DataError, match="split 'train' has no records to train on"):
        train(tmp_path, examples, xf_graph, build_model=TAXI)


def test_an_empty_eval_split_only_takes_the_validation_away(tmp_path, user_module, xf_graph, xf_transformed):
    examples = TransformedExamples(tmp_path / "examples")
    shutil.copytree(xf_transformed.split("train"), examples.split_path("train"))
    examples.split_path("eval").mkdir()
    tfrecord.write(examples.split("eval") / "transformed_examples-00000-of-00001.gz", [])

    model = train(tmp_path, examples, xf_graph, build_model=user_module(WITH_DROPOUT, "build_model"), label="big_tip")

    assert model.properties["metrics"].keys() == {"loss", "auc"}


def test_without_a_transform_graph_build_model_says_what_it_needs(tmp_path, xf_examples):
    with pytest.raises(ConfigError, match="build_model: needs the transform graph"):
        train(tmp_path, xf_examples, None, build_model=TAXI)


def test_what_only_build_model_hears_of_is_refused_for_run_fn():
    with pytest.raises(ConfigError) as caught:
        Trainer(
            run_fn="a.b", steps=1, class_weights={1: 2.0}, learning_rate=0.1, mixed_precision="mixed_float16", jit=True
        )

    assert [problem.split(" chooses")[0] for problem in caught.value.problems] == [
        "class_weights: run_fn", "learning_rate: run_fn", "mixed_precision: run_fn", "jit: run_fn"
    ]  # fmt: skip


def test_settings_arrive_from_a_definition():
    settings = {"build_model": "a.b", "steps": 1, "class_weights": {"1": 2}, "profile": [1, 2], "label": {"one": "a"}}

    trainer = build_component(Trainer, settings)

    assert (trainer.class_weights, trainer.profile, trainer.label) == ({1: 2.0}, (1, 2), {"one": "a"})


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        Trainer(
            build_model="a.b",
            run_fn="a.c",
            batch_size=0,
            eval_steps=-1,
            label="x",
            sample_weight="x",
            class_weights={-1: 1.0, 0: -2.0},
            early_stopping={"patience": 0},
            mixed_precision="float16",
            profile=(3, 2),
        )

    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        *("build_model", "batch_size", "eval_steps", "label", "sample_weight", "class_weights", "class_weights.-1"),
        *("class_weights.0", "early_stopping", "early_stopping.patience", "mixed_precision", "profile"),
    }


# Uses both factories of the data accessor and every path, and writes a model that answers with what it was told.
RUN_FN = """
import json, os
import tensorflow as tf
from tfx_bsl.tfxio import dataset_options
import tensorflow_transform as tft

def run_fn(fn_args):
    output = tft.TFTransformOutput(fn_args.transform_output)
    schema = output.transformed_metadata.schema
    accessor = fn_args.data_accessor
    batches = accessor.tf_dataset_factory(
        fn_args.train_files, dataset_options.TensorFlowDatasetOptions(batch_size=16, num_epochs=1, label_key="big_tip"), schema
    )
    rows = sum(int(label.shape[0]) for _, label in batches)
    arrow = accessor.record_batch_factory(
        fn_args.eval_files, dataset_options.RecordBatchesOptions(batch_size=16, num_epochs=1), schema
    )
    told = {
        "rows": rows, "eval_rows": sum(batch.num_rows for batch in arrow),
        **{name: getattr(fn_args, name) for name in (
            "working_dir", "train_files", "eval_files", "train_steps", "eval_steps", "schema_path", "schema_file",
            "transform_graph_path", "transform_output", "serving_model_dir", "eval_model_dir", "model_run_dir", "base_model",
            "hyperparameters", "custom_config")},
        "data_view_decode_fn": accessor.data_view_decode_fn,
    }
    module = tf.Module()
    module.answer = tf.function(lambda: tf.constant(json.dumps(told)), input_signature=[])
    tf.saved_model.save(module, fn_args.serving_model_dir)
"""


def test_run_fn_gets_every_field_of_fn_args(tmp_path, user_module, xf_graph, xf_schema, xf_transformed):
    model = train(
        tmp_path,
        xf_transformed,
        xf_graph,
        run_fn=user_module(RUN_FN, "run_fn"),
        inputs={"schema": xf_schema},
        steps=7,
        eval_steps=3,
        custom_config={"a": [1, "b"]},
        hyperparameters={"units": 3},
    )

    told = json.loads(saved_model.load(model.serving).answer().numpy())
    records = xf_transformed.properties["records"]
    hyperparameters = told.pop("hyperparameters")
    assert told == {
        "rows": records["train"],
        "eval_rows": records["eval"],
        "working_dir": str(tmp_path / "scratch"),
        "train_files": [str(xf_transformed.split("train") / "*")],
        "eval_files": [str(xf_transformed.split("eval") / "*")],
        "train_steps": 7,
        "eval_steps": 3,
        "schema_path": str(xf_schema.file),
        "schema_file": str(xf_schema.file),
        "transform_graph_path": str(xf_graph.path),
        "transform_output": str(xf_graph.path),
        "serving_model_dir": str(model.serving),
        "eval_model_dir": str(model.path / "Format-TFMA"),
        "model_run_dir": str(tmp_path / "scratch" / "model_run"),
        "base_model": None,
        "custom_config": {"a": [1, "b"]},
        "data_view_decode_fn": None,
    }
    assert hyperparameters["values"] == {"units": 3}


def test_a_run_fn_that_writes_no_model_is_told_where_to(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module("def run_fn(fn_args):\n    pass\n", "run_fn")

    with pytest.raises(UserCodeError, match="wrote no model: .* fn_args.serving_model_dir"):
        train(tmp_path, xf_transformed, xf_graph, run_fn=function)


@pytest.mark.slow
def test_the_run_fn_of_TFX_s_own_taxi_example_runs_unchanged(tmp_path, outputs_of, xf_examples, xf_schema):
    module = "tfx.examples.chicago_taxi_pipeline.taxi_utils_native_keras"
    outputs = outputs_of(Transform, tmp_path / "transform")
    Transform(preprocessing_fn=f"{module}.preprocessing_fn").run(
        xf_examples, xf_schema, BeamOptions(), Progress(), **outputs
    )

    transformed, graph = outputs["transformed_examples"], outputs["transform_graph"]
    model = train(tmp_path, transformed, graph, run_fn=f"{module}.run_fn", steps=2, eval_steps=1)

    assert saved_model.signatures(model.serving).keys() == {"serving_default", "transform_features"}
    assert not model.keras.exists()
