"""Exporter: every form of a model answers as the model does, as far as its precision goes, and says what to do first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import saved_model, tfrecord
from components.model import converter_process, scores, signatures
from components.model.exporter import Exporter
from schemas.artifacts import Examples, ExportedModels, Model, TransformedExamples, TransformGraph
from schemas.component import Lineage
from schemas.errors import ArtifactError, ConfigError, TooMuchLost

LITE = ("tflite_float", "tflite_dynamic", "tflite_float16", "tflite_int8")


@pytest.fixture(scope="module")
def export(
    tmp_path_factory: pytest.TempPathFactory,
    small_model: Model,
    xf_graph: TransformGraph,
    xf_transformed: TransformedExamples,
) -> Callable[..., ExportedModels]:
    """Settings -> what was exported."""

    def run(
        model: Model = small_model, lineage: Lineage | None = None, to: Path | None = None, **settings: Any
    ) -> ExportedModels:
        exported = ExportedModels(to or tmp_path_factory.mktemp("exported"))
        Exporter(**settings).run(
            model, xf_graph, xf_transformed, lineage=lineage or Lineage(), exported_models=exported
        )
        return exported

    return run


@pytest.fixture(scope="module")
def exported(export: Callable[..., ExportedModels]) -> ExportedModels:
    return export()


@pytest.fixture(scope="module")
def records(xf_examples: Examples) -> Any:
    import tensorflow as tf

    return tf.constant(list(tfrecord.read(xf_examples.files("eval")[0])))


@pytest.fixture(scope="module")
def answers(exported: ExportedModels, records: Any) -> Any:
    """The combined model's predictions, [records, 1]."""
    served = saved_model.load(exported.export("combined")).signatures["serving_default"]
    return served(records)["probabilities"].numpy()


@pytest.fixture(scope="module")
def transformed(exported: ExportedModels, records: Any) -> dict[str, Any]:
    """What the preprocessing model gives for the raw records."""
    return saved_model.load(exported.export("preprocessing")).signatures["serving_default"](records)


def test_network_after_preprocessing_gives_exactly_what_the_combined_model_gives(exported, transformed, answers):
    network = saved_model.load(exported.export("network")).signatures["serving_default"]

    assert network(**transformed)["probabilities"].numpy().tobytes() == answers.tobytes()
    assert answers.std() > 0


def test_preprocessing_takes_typed_columns_as_well(exported, transformed, records):
    import tensorflow as tf

    columns = saved_model.load(exported.export("preprocessing")).signatures["serving_columns"]
    example = tf.train.Example.FromString(records[0].numpy()).features.feature
    given = {
        "fare": tf.constant([example["fare"].float_list.value[0]]),
        "trip_miles": tf.constant([example["trip_miles"].float_list.value[0]]),
        "payment_type": tf.constant([example["payment_type"].bytes_list.value[0]]),
    }

    found = columns(**given)

    assert found.keys() == transformed.keys() == {"fare_xf", "trip_miles_xf", "payment_type_xf"}
    assert all((found[name][0] == transformed[name][0]).numpy().all() for name in found)


def test_the_combined_model_is_the_one_that_is_evaluated_and_pushed(exported, small_model):
    copied = exported.export("combined")

    for file in small_model.serving.rglob("*"):
        if file.is_file():
            assert (copied / file.relative_to(small_model.serving)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("name", "tolerance"), [(LITE[0], 1e-5), (LITE[1], 0.02), (LITE[2], 1e-3), (LITE[3], 0.1)])
def test_tensorflow_lite_answers_as_the_model_does(exported, transformed, answers, name, tolerance):
    import numpy as np
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(exported.export(name) / "tflite"))
    found = interpreter.get_signature_runner()(**{name: value.numpy() for name, value in transformed.items()})

    assert np.abs(found["probabilities"] - answers).max() < tolerance


@pytest.mark.parametrize("variant", ["float", "dynamic"])
def test_tensorflow_lite_models_are_the_converter_s_own_byte_for_byte(exported, variant):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(exported.export("network")))
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if variant == "dynamic" else []

    assert (exported.export(f"tflite_{variant}") / "tflite").read_bytes() == converter.convert()


def test_smaller_numbers_make_smaller_files_and_the_report_says_so(exported):
    report = json.loads(exported.report.read_text(encoding="utf-8"))["exports"]

    size = {name: found["bytes"]["size"] for name, found in report.items()}
    assert size["tflite_int8"] < size["tflite_float16"] < size["tflite_float"] < size["network"]
    assert size["tflite_float"] == (exported.export("tflite_float") / "tflite").stat().st_size
    assert all(report[name]["latency_ms"] > 0 for name in (*LITE, "network"))
    assert report["tflite_float"]["metrics"]["auc"] == pytest.approx(report["network"]["metrics"]["auc"], abs=1e-4)
    assert {found["bytes"]["size"] for found in exported.properties["exports"].values()} == set(size.values())
    table = (exported.path / "report.txt").read_text(encoding="utf-8")
    assert table.splitlines()[0].split() == ["bytes", "compressed", "auc", "loss", "ms", "a", "call"]
    assert "TensorFlow Lite on one thread" in table


def test_the_metrics_are_those_that_keras_computes(exported, small_model):
    report = json.loads(exported.report.read_text(encoding="utf-8"))["exports"]

    for name, value in report["network"]["metrics"].items():
        assert value == pytest.approx(small_model.properties["metrics"][f"val_{name}"], rel=1e-5)


def test_every_export_says_what_the_caller_must_do_first(exported):
    for name in (*LITE, "network"):
        said = (exported.export(name) / "README.txt").read_text(encoding="utf-8")
        assert (
            "First: Preprocess: give it what the SavedModel in `preprocessing` gives, which takes raw features." in said
        )
        assert "payment_type_xf: type int64" in said
    for name in ("preprocessing", "combined"):
        assert "First: Nothing: this takes raw features" in (exported.export(name) / "README.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def refused(
    export: Callable[..., ExportedModels], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TooMuchLost]:
    """What was exported with 8-bit inputs, and what was said of it."""
    directory = tmp_path_factory.mktemp("refused")
    with pytest.raises(TooMuchLost) as error:
        export(
            to=directory,
            tflite=("float", "int8"),
            int8_io=True,
            thresholds={"tflite": {"auc": {"min": 0.9999}}, "tflite_int8": {"size": {"max_kb": 1}}},
        )
    return directory, error.value


def test_an_export_that_misses_its_thresholds_is_refused_with_the_figures_and_kept(refused):
    directory, error = refused

    message = str(error)
    assert "tflite_float: auc 0." in message
    assert "tflite_int8: auc 0." in message
    assert "tflite_int8: size" in message
    assert "tflite_float: size" not in message
    assert (directory / "report.txt").is_file()
    assert error.keep_outputs


def test_with_8_bit_inputs_the_report_says_how_to_scale_them(refused):
    report = json.loads(ExportedModels(refused[0]).report.read_text(encoding="utf-8"))["exports"]["tflite_int8"]

    inputs = {found["name"]: found for found in report["inputs"]}
    assert inputs["fare_xf"]["type"] == "int8"
    assert inputs["fare_xf"]["scale"] > 0
    assert inputs["payment_type_xf"]["type"] == "int64"
    assert report["outputs"][0]["scale"] == pytest.approx(1 / 256)
    assert report["metrics"]["auc"] > 0.5


def test_scores_are_keras_own_whatever_the_outputs_and_weights():
    import numpy as np
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    inputs = layers.Input((2,), name="numbers")
    network = tf_keras.Model(
        {"numbers": inputs},
        [layers.Dense(1, name="price")(inputs), layers.Dense(3, activation="softmax", name="kind")(inputs)],
    )
    network.compile(
        "sgd",
        {"price": "mse", "kind": "sparse_categorical_crossentropy"},
        metrics={"price": ["mae"], "kind": ["accuracy"]},
        loss_weights={"price": 0.5, "kind": 2.0},
    )
    random = np.random.default_rng(1)
    features = {"numbers": random.normal(size=(50, 2)).astype("float32")}
    label = {"price": random.normal(size=(50, 1)).astype("float32"), "kind": random.integers(0, 3, size=50)}
    batches = tf.data.Dataset.from_tensor_slices((features, label, random.random(50).astype("float32"))).batch(16)

    found = scores.of(network, batches, signatures.network_function(network))

    assert found == pytest.approx(network.evaluate(batches, verbose=0, return_dict=True), rel=1e-5)


@pytest.fixture(scope="module")
def of_two_outputs(two_outputs: Model, hours: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportedModels:
    """A model of several outputs, exported without a word about its labels and weights."""
    exported = ExportedModels(tmp_path_factory.mktemp("two_outputs_exported"))
    Exporter(tflite=("float", "int8")).run(two_outputs, hours[0], hours[1], lineage=Lineage(), exported_models=exported)
    return exported


def test_several_outputs_are_measured_with_the_labels_and_weights_of_the_training(of_two_outputs, two_outputs):
    report = json.loads(of_two_outputs.report.read_text(encoding="utf-8"))["exports"]
    trained = two_outputs.properties["metrics"]

    for name in ("network", "tflite_float"):
        assert report[name]["metrics"] == {
            found.removeprefix("val_"): pytest.approx(value, rel=1e-4)
            for found, value in trained.items()
            if found.startswith("val_")
        }
    assert {"hour_accuracy", "parts_auc"} <= report["tflite_int8"]["metrics"].keys()


@pytest.mark.parametrize(("name", "tolerance"), [("tflite_float", 1e-5), ("tflite_int8", 0.1)])
def test_tensorflow_lite_gives_every_output_under_its_name(of_two_outputs, two_outputs, hours, name, tolerance):
    import numpy as np
    import tensorflow as tf

    from components.io.keras import load_keras

    x = np.linspace(4, 40, 16, dtype=np.float32)[:, None]
    expected = load_keras(two_outputs)({"x": x})

    found = tf.lite.Interpreter(str(of_two_outputs.export(name) / "tflite")).get_signature_runner()(x=x.ravel())

    assert found.keys() == {"hour", "parts"}
    for output, values in found.items():
        assert np.abs(values - expected[output]).max() < tolerance


UNCONVERTIBLE = """
import tensorflow as tf
import tf_keras

@tf_keras.saving.register_keras_serializable("tests")
class Spectrum(tf_keras.layers.Layer):
    def call(self, inputs):
        return tf.linalg.svd(tf.reshape(inputs, [-1, 1, 1]), compute_uv=False)

def build_model():
    inputs = {"fare_xf": tf_keras.Input((1,), name="fare_xf")}
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1, name="last")(Spectrum(name="spectrum")(inputs["fare_xf"])))
    model.compile("sgd", "mse")
    return model
"""


def test_an_operation_that_tensorflow_lite_does_not_have_is_named_with_its_layer(tmp_path, user_module, export):
    from components.io.keras import save_keras
    from schemas.dotted_path import resolve

    build = resolve(user_module(UNCONVERTIBLE, "build_model"))
    model = Model(tmp_path / "model", {"label": "big_tip"})
    save_keras(build(), model)
    model.serving.mkdir()

    with pytest.raises(ConfigError) as error:
        export(model=model, tflite=("float",))

    assert str(error.value).startswith(
        "tflite: tflite_float cannot be made, since it has no operation for Svd in layer 'spectrum' (the converter refused it)"
    )


def test_a_converter_that_crashes_ends_nothing_but_itself(tmp_path, monkeypatch, user_module):
    source = "import os, sys\nprint('tflite_int8', flush=True)\nsys.stderr.write('fatal: unknown')\nsys.stderr.flush()\nos.abort()\n"
    module = user_module(source, "main").removesuffix(".main")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(ConfigError) as error:
        converter_process.convert("tflite", module, {}, ())

    assert str(error.value) == (
        "tflite: tflite_int8 cannot be made: the converter crashed (SIGABRT). It said last:\n  fatal: unknown"
    )


def test_a_model_without_its_trainable_form_is_refused_by_the_step_and_setting_that_made_it(export, tmp_path):
    lineage = Lineage(
        steps={"trainer": {"settings": {"run_fn": "my.module.run_fn"}}}, inputs={"model": {"step": "trainer"}}
    )

    with pytest.raises(ArtifactError, match=r"step 'trainer' made it with run_fn: my\.module\.run_fn"):
        export(model=Model(tmp_path), lineage=lineage)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tflite": ("float", "float")}, "tflite: float, float names a variant twice"),
        ({"tflite": ("float",), "int8_io": True}, "int8_io: no int8 variant is made"),
        ({"representative_rows": 0}, "representative_rows: 0 is not at least 1"),
        (
            {"thresholds": {"tflite_int4": {}}},
            "thresholds.tflite_int4: no such export is made. Did you mean 'tflite_int8'?",
        ),
        (
            {"thresholds": {"tflite": {"weights": {"max_kb": 1}}}},
            "thresholds.tflite.weights: is not measured here. There are: size, latency, and the model's metrics",
        ),
        ({"thresholds": {"tflite": {"auc": {"min": True}}}}, "thresholds.tflite.auc.min: True is not a number"),
        ({"thresholds": {"tflite": {"auc": {}}}}, "thresholds.tflite.auc: {} bounds nothing"),
    ],
)
def test_settings_say_what_is_wrong_with_them(settings, message):
    with pytest.raises(ConfigError, match=message):
        Exporter(**settings)
