"""Small real artifacts for the evaluation: 300 trips, and models whose answers follow from their few weights."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.features.transform import Transform
from components.io import tfrecord
from components.model.trainer import Trainer
from schemas.artifacts import Examples, FeatureSchema, Model, TransformedExamples, TransformGraph
from schemas.component import Baseline, BeamOptions, Progress, Scratch, Seed

FLOATS = ("fare", "tips", "trip_miles")
INTS = ("trip_start_hour",)
TEXTS = ("payment_type", "company")

# Layers of every kind: an embedding, which TFMOT prunes and clusters but cannot quantise, one with few weights, one that it
# does not know.
SMALL_MODEL = """
import tf_keras

@tf_keras.saving.register_keras_serializable("tests")
class Scale(tf_keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight("factor", (shape[-1],), initializer="ones")
        super().build(shape)

    def call(self, inputs):
        return inputs * self.factor

def build_model(hp):
    layers = tf_keras.layers
    inputs = {name: layers.Input((1,), name=name) for name in ("fare_xf", "trip_miles_xf")}
    inputs["payment_type_xf"] = layers.Input((1,), name="payment_type_xf", dtype="int64")
    words = layers.Flatten(name="flat")(layers.Embedding(205, 4, name="words")(inputs["payment_type_xf"]))
    x = layers.concatenate([inputs["fare_xf"], inputs["trip_miles_xf"], words], name="joined")
    x = layers.Dense(20, activation="relu", name="hidden")(x)
    x = Scale(name="scale")(x)
    model = tf_keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="big_tip")(x))
    model.compile(tf_keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=[tf_keras.metrics.AUC(name="auc")])
    return model
"""


# A class and three yes or no of the same number, each with a metric object, whose name Keras changes.
TWO_OUTPUTS = """
import tf_keras

def build_model(hp):
    layers = tf_keras.layers
    x = layers.Input((1,), name="x")
    seen = layers.Dense(16, activation="relu", name="hidden")(x)
    hour = layers.Dense(24, activation="softmax", name="hour")(seen)
    parts = layers.Dense(3, activation="sigmoid", name="parts")(seen)
    model = tf_keras.Model({"x": x}, {"hour": hour, "parts": parts})
    model.compile(
        tf_keras.optimizers.Adam(0.01),
        {"hour": "sparse_categorical_crossentropy", "parts": "binary_crossentropy"},
        metrics={"hour": ["accuracy"]},
        weighted_metrics={"parts": [tf_keras.metrics.AUC(name="auc", multi_label=True)]},
    )
    return model
"""


@pytest.fixture(scope="session")
def trips(small_taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Raw examples: `eval` has 300 trips, `untipped` those without a tip, `empty` none."""
    with small_taxi_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    examples = Examples(tmp_path_factory.mktemp("trips"))
    splits = {"eval": rows, "untipped": [row for row in rows if float(row["tips"]) == 0], "empty": []}
    for split, kept in splits.items():
        directory = examples.split_path(split)
        directory.mkdir()
        half = len(kept) // 2
        for shard, part in enumerate((kept[:half], kept[half:])):
            tfrecord.write(directory / f"data_tfrecord-0000{shard}-of-00002.gz", [_example(row) for row in part])
    examples.properties.update(records={split: len(kept) for split, kept in splits.items()})
    return examples


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """Save a model that answers sigmoid(bias + by_card * paid_by_card + per_mile * trip_miles)."""

    def make(
        by_card: float, per_mile: float = 0.0, bias: float = 0.0, *, transforms: bool = True, compiled: bool = False
    ) -> Model:
        model = Model(tmp_path_factory.mktemp("model"))
        save_model(model.serving, by_card, per_mile, bias, transforms=transforms, compiled=compiled)
        return model

    return make


@pytest.fixture(scope="session")
def good(make_model: Callable[..., Model]) -> Model:
    """Knows that only tips paid by card are recorded: its AUC on the 300 trips is about 0.9."""
    return make_model(2.0, 0.05, -1.0)


@pytest.fixture(scope="session")
def poor(make_model: Callable[..., Model]) -> Model:
    """Goes by the distance alone."""
    return make_model(0.0, 0.05, -1.0)


HOURS = """
import tensorflow as tf

def preprocessing_fn(inputs):
    fare, hour = tf.reshape(inputs["fare"], [-1]), tf.reshape(inputs["trip_start_hour"], [-1])
    late = tf.cast(hour > 12, tf.int64)
    return {
        "x": fare, "nan": fare * float("nan"), "one": tf.ones_like(late), "late": late, "hour": hour, "fare_again": fare,
        "parts": tf.stack([late, 1 - late, tf.zeros_like(late)], axis=1),
        "heavy": 1.0 + tf.cast(late, tf.float32), "below_zero": -fare, "nothing": tf.zeros_like(fare),
    }
"""


@pytest.fixture(scope="session")
def hours(
    tmp_path_factory: pytest.TempPathFactory,
    outputs_of: Callable[[type, Path], dict[str, Any]],
    xf_examples: Examples,
    xf_schema: FeatureSchema,
) -> tuple[TransformGraph, TransformedExamples]:
    """One number `x`, one that is `nan`, and labels of every kind.

    `late` tells two classes and `hour` 24, `parts` has three yes or no of which the last is always no, `fare_again` is a
    number, `one` is always 1. `heavy`, 1 or 2, may weigh the records; `below_zero` and `nothing` may not.
    """
    tmp_path = tmp_path_factory.mktemp("hours")
    (tmp_path / "user_hours.py").write_text(HOURS, encoding="utf-8")
    outputs = outputs_of(Transform, tmp_path / "transform")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        Transform(preprocessing_fn="user_hours.preprocessing_fn").run(
            xf_examples, xf_schema, BeamOptions(), Progress(), **outputs
        )
    return outputs["transform_graph"], outputs["transformed_examples"]


@pytest.fixture(scope="session")
def two_outputs(tmp_path_factory: pytest.TempPathFactory, hours: tuple[TransformGraph, TransformedExamples]) -> Model:
    """A model of `hours` with the outputs `hour` and `parts`, trained with the weights `heavy`."""
    directory = tmp_path_factory.mktemp("two_outputs")
    (directory / "two_outputs_model.py").write_text(TWO_OUTPUTS, encoding="utf-8")
    model = Model(directory / "model")
    model.path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        Trainer(
            build_model="two_outputs_model.build_model",
            steps=20,
            label={"hour": "hour", "parts": "parts"},
            sample_weight="heavy",
        ).run(
            hours[1],
            hours[0],
            seed=Seed(13),
            scratch=Scratch(directory / "scratch"),
            progress=Progress(),
            model=model,
        )
    return model


class StepProcess:
    """Steps in another process, one after the other in the same one, until it is killed; see step_process.py."""

    def __init__(self) -> None:
        program = str(Path(__file__).with_name("step_process.py"))
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # A session of its own, so that all of it can be killed at once.
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        self.process = subprocess.Popen([sys.executable, program], env=environment, start_new_session=True, **pipes)

    def send(
        self, step: str, settings: dict[str, Any], examples: Examples, graph: TransformGraph, **others: Any
    ) -> None:
        """Begin a step. `others` are `to`, `scratch`, `modules` (where the user's are), `seed`, `end_at` and `kill_at`."""
        paths = {"examples": examples.path, "graph": graph.path, **others}
        request = {"step": step, "settings": settings, "raw": not isinstance(examples, TransformedExamples), **paths}
        assert self.process.stdin is not None
        print(json.dumps(request, default=str), file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """What the step that was begun says when it has ended."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="session")
def start_step_process() -> type[StepProcess]:
    """() -> a process that runs steps."""
    return StepProcess


@pytest.fixture(scope="module")
def step_process() -> Iterator[StepProcess]:
    """One for all steps of a module of tests."""
    made = StepProcess()
    yield made
    made.process.communicate()


def served(model: Model, version: int = 7) -> Baseline:
    """The model as a serving directory's newest version."""
    return Baseline(path=model.serving, digest="sha256:served", version=version)


def save_model(
    path: Path, by_card: float, per_mile: float, bias: float, *, transforms: bool = True, compiled: bool = False
) -> None:
    """A tf_keras model with the signatures of a trained one; `big_tip` is a transformed feature and not a raw one.

    A `compiled` one is saved so that Keras can load it, with a metric inside.
    """
    import numpy as np
    import tensorflow as tf

    network = tf.keras.Sequential([tf.keras.layers.Dense(1, activation="sigmoid", name="big_tip")])
    network.build((None, 2))
    network.layers[0].set_weights([np.array([[by_card], [per_mile]]), np.array([bias])])
    spec = {
        "fare": tf.io.FixedLenFeature([1], tf.float32, 0.0),
        "tips": tf.io.FixedLenFeature([1], tf.float32, 0.0),
        "trip_miles": tf.io.FixedLenFeature([1], tf.float32, 0.0),
        "payment_type": tf.io.FixedLenFeature([1], tf.string, ""),
    }

    def transformed(examples: Any) -> dict[str, Any]:
        raw = tf.io.parse_example(examples, spec)
        return {
            "by_card_xf": tf.cast(raw["payment_type"] == "Credit Card", tf.float32),
            "miles_xf": raw["trip_miles"],
            "big_tip": tf.cast(raw["tips"] > 0.2 * raw["fare"], tf.int64),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> dict[str, Any]:
        features = transformed(examples)
        return {"outputs": network(tf.concat([features["by_card_xf"], features["miles_xf"]], axis=1))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(examples: Any) -> dict[str, Any]:
        return transformed(examples)

    signatures = {"serving_default": serve, **({"transform_features": transform_features} if transforms else {})}
    if compiled:
        network.compile(loss="binary_crossentropy", metrics=["mae"])
        network.save(str(path), save_format="tf", signatures=signatures)
    else:
        tf.saved_model.save(network, str(path), signatures=signatures)


def _example(row: dict[str, str]) -> bytes:
    import numpy as np
    import tensorflow as tf

    features: dict[str, Any] = {}
    for names, kind, convert in (
        (FLOATS, "float_list", float),
        (INTS, "int64_list", int),
        (TEXTS, "bytes_list", str.encode),
    ):
        for name in names:
            values: Sequence[Any] = [convert(row[name])] if row[name] else []  # type: ignore[operator]
            features[name] = tf.train.Feature(**{kind: {"value": values}})
    # In 32 bits, as the model compares.
    tipped = int(np.float32(row["tips"]) > np.float32(0.2) * np.float32(row["fare"]))
    features["tipped"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[tipped]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


@pytest.fixture(scope="session")
def small_model(
    tmp_path_factory: pytest.TempPathFactory, xf_graph: TransformGraph, xf_transformed: TransformedExamples
) -> Iterator[Model]:
    """A model of two numbers and a word, with its trainable form; its module can be imported."""
    directory = tmp_path_factory.mktemp("small")
    (directory / "small_model.py").write_text(SMALL_MODEL, encoding="utf-8")
    sys.path.append(str(directory))
    model = Model(directory / "model")
    model.path.mkdir()
    Trainer(build_model="small_model.build_model", steps=60, label="big_tip").run(
        xf_transformed,
        xf_graph,
        seed=Seed(13),
        scratch=Scratch(directory / "scratch"),
        progress=Progress(),
        model=model,
    )
    yield model
    sys.path.remove(str(directory))
