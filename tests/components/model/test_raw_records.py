"""Raw records transformed while they are read: to the bits that materialised ones have, batch for batch and weight for weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.features.transform import Transform
from components.io import tfrecord
from components.model.exporter import Exporter
from components.model.input_data import InputData, transformed_spec
from components.model.optimizer import Optimizer
from components.model.raw_records import RawRecords
from components.model.trainer import Trainer
from components.model.training_data import TrainingData, open_splits
from components.model.tuner import Tuner
from schemas.artifacts import (
    Examples,
    ExportedModels,
    FeatureSchema,
    Hyperparameters,
    Model,
    TransformedExamples,
    TransformGraph,
)
from schemas.component import BeamOptions, Lineage, Progress, Scratch, Seed
from schemas.errors import ConfigError

BUILD_MODEL = "configs.taxi.model.build_model"
SCHEMA = """
feature { name: "x" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "pair" type: FLOAT shape { dim { size: 2 } } presence { min_fraction: 1 } }
feature { name: "words" type: BYTES }
feature { name: "text" type: BYTES }
feature { name: "not_taken" type: INT }
"""
FUNCTION = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    words = inputs["words"]
    index = tft.compute_and_apply_vocabulary(words, num_oov_buckets=2, top_k=2)
    return {
        "z": tft.scale_to_z_score(inputs["x"]),
        "scalar": tf.squeeze(inputs["x"] / tft.max(inputs["x"]), axis=1),
        "pca": tf.matmul(inputs["pair"], tft.pca(inputs["pair"], 1, tf.float32)),
        "bucket": tft.bucketize(inputs["x"], 4),
        "index": index,
        "bag": tft.bag_of_words(words, (1, 2), " "),
        "words": words,
        "cube": tf.sparse.from_dense(tf.reshape(inputs["pair"], [-1, 2, 1])),
        "ragged": tf.RaggedTensor.from_sparse(words),
        "text": inputs["text"],
    }
"""


def record(number: int) -> bytes:
    import tensorflow as tf

    words = [["a", "ü", "b", "new\nline", ""][(number + i) % 5].encode() for i in range(number % 4)]
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[(number * 37 % 101) / 7])),
        "pair": tf.train.Feature(float_list=tf.train.FloatList(value=[number % 11, number % 7 - 3.5])),
        "words": tf.train.Feature(bytes_list=tf.train.BytesList(value=words)),
        "not_taken": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
    }
    if number % 3:
        features["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"t%d" % number]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture(scope="module")
def awkward(outputs_of, tmp_path_factory) -> tuple[Examples, dict[str, Any]]:
    """Raw examples in two shards, and what Transform makes of them: dense, sparse and ragged features of every type."""
    directory = tmp_path_factory.mktemp("awkward")
    examples, schema = Examples(directory / "examples"), FeatureSchema(directory)
    schema.file.write_text(SCHEMA, encoding="utf-8")
    examples.split_path("train").mkdir(parents=True)
    for shard, size in enumerate((80, 21)):
        file = examples.split("train") / f"data_tfrecord-{shard:05d}-of-00002.gz"
        tfrecord.write(file, [record(number + 80 * shard) for number in range(size)])
    (directory / "user_raw_records.py").write_text(FUNCTION, encoding="utf-8")
    outputs = outputs_of(Transform, directory / "outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        Transform(preprocessing_fn="user_raw_records.preprocessing_fn").run(
            examples, schema, BeamOptions(), Progress(), **outputs
        )
    return examples, outputs


def batches(data: InputData) -> list[Any]:
    """Shuffled ones of two epochs and a bit, and those in order, as arrays."""
    import tensorflow as tf

    every = [*data.shuffled(3, 2, 2 * data.steps + 1), *data.in_order()]
    return [[one.numpy() for one in tf.nest.flatten(batch, expand_composites=True)] for batch in every]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch_size", [7, 101])
def test_every_kind_of_feature_comes_out_as_from_its_materialised_record(awkward, batch_size):
    raw, outputs = awkward
    graph = outputs["transform_graph"]
    spec = transformed_spec(graph)
    kinds = {type(one).__name__ for one in spec.values()}
    assert kinds == {"FixedLenFeature", "VarLenFeature", "SparseFeature", "RaggedFeature"}

    def data(examples: Examples, **settings: Any) -> InputData:
        return InputData(tuple(map(str, examples.files("train"))), spec, None, batch_size, 101, **settings)

    found = data(raw, read=RawRecords(graph).read(spec))

    assert_equal(batches(found), batches(data(outputs["transformed_examples"])))


def test_only_the_raw_features_that_are_needed_are_read(awkward):
    import tensorflow as tf

    graph = awkward[1]["transform_graph"]
    spec = {name: one for name, one in transformed_spec(graph).items() if name in ("z", "scalar")}
    read = RawRecords(graph).read(spec)
    x = tf.train.Feature(float_list=tf.train.FloatList(value=[1.5]))
    alone = tf.train.Example(features=tf.train.Features(feature={"x": x})).SerializeToString()

    assert read(tf.constant([alone, alone]))["z"].shape == (2, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="pair"):
        RawRecords(graph).read({"pca": transformed_spec(graph)["pca"]})(tf.constant([alone]))


@pytest.fixture
def opened(xf_examples, xf_transformed, xf_graph) -> Callable[[Examples], TrainingData]:
    """The trips as the taxi model is trained on them."""
    from components.model import hyperparameters as hp

    def open_(examples: Examples) -> TrainingData:
        model = hp.build(BUILD_MODEL, hp.read(None, {}), xf_graph)
        return open_splits(model, examples, xf_graph, "big_tip", 32, "train", "eval")

    return open_


@pytest.mark.parametrize("kept", [True, False], ids=["in memory", "read anew"])
def test_trips_are_the_same_batches_kept_in_memory_or_not(opened, xf_examples, xf_transformed, kept):
    found, expected = opened(xf_examples), opened(xf_transformed)

    assert (found.features, found.label, found.classes) == (expected.features, expected.label, expected.classes)
    for one, other in ((found.train, expected.train), (found.evaluation, expected.evaluation)):
        assert (one.rows, one.spec) == (other.rows, other.spec)
        if kept:
            assert (one.kept is None) == (other.kept is None)
        assert_equal(
            batches(one if kept else replace(one, kept=None)), batches(other if kept else replace(other, kept=None))
        )


@pytest.fixture
def train(xf_graph, tmp_path) -> Callable[..., Model]:
    """(examples, settings) -> the model trained on them."""

    def make(examples: Examples, **settings: Any) -> Model:
        place = tmp_path / f"model-{len(list(tmp_path.glob('model-*')))}"
        model, scratch = Model(place), Scratch(place / "scratch")
        scratch.path.mkdir(parents=True)
        Trainer(**({"build_model": BUILD_MODEL, "steps": 5} | settings)).run(
            examples, xf_graph, seed=Seed(7), scratch=scratch, progress=Progress(), model=model
        )
        return model

    return make


def weights(model: Model) -> list[Any]:
    from components.io.keras import load_keras

    return load_keras(model).get_weights()


@pytest.mark.parametrize("settings", [{}, {"strategy": "mirrored"}], ids=["plain", "mirrored"])
def test_a_model_has_the_same_weights_whichever_examples_it_is_trained_on(
    train, small_model, xf_examples, xf_transformed, settings
):
    settings = {"build_model": "small_model.build_model", "label": "big_tip", **settings}
    on_raw, on_transformed = train(xf_examples, **settings), train(xf_transformed, **settings)

    for one, other in zip(weights(on_raw), weights(on_transformed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert on_raw.curves.read_text() == on_transformed.curves.read_text()


@pytest.mark.slow
def test_a_model_is_optimized_and_exported_alike_on_raw_examples(
    small_model, xf_graph, xf_examples, xf_transformed, tmp_path
):
    def made(name: str, examples: Examples) -> tuple[Model, dict[str, Any]]:
        optimized, exported = Model(tmp_path / name / "optimized"), ExportedModels(tmp_path / name / "exported")
        scratch = Scratch(tmp_path / name / "scratch")
        for directory in (optimized.path, exported.path, scratch.path):
            directory.mkdir(parents=True)
        Optimizer(prune={"steps": 3, "final_sparsity": 0.5, "frequency": 1}).run(
            small_model,
            examples,
            xf_graph,
            seed=Seed(7),
            scratch=scratch,
            progress=Progress(),
            lineage=Lineage(),
            optimized_model=optimized,
        )
        Exporter(tflite=("int8",), tfjs=()).run(
            small_model, xf_graph, examples, lineage=Lineage(), exported_models=exported
        )
        return optimized, {name: found["metrics"] for name, found in exported.properties["exports"].items()}

    on_raw, on_transformed = made("raw", xf_examples), made("transformed", xf_transformed)

    for one, other in zip(weights(on_raw[0]), weights(on_transformed[0]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert on_raw[1] == on_transformed[1]
    assert on_raw[1]["tflite_int8"]


@pytest.mark.parametrize("component", [Trainer, Tuner])
def test_examples_that_were_not_materialised_are_refused_with_what_to_wire(component, xf_graph, tmp_path):
    nothing = TransformedExamples(tmp_path, {"materialized": False})
    outputs = {"model": Model(tmp_path)} if component is Trainer else {"hyperparameters": Hyperparameters(tmp_path)}

    with pytest.raises(ConfigError, match=r"inputs: \{examples: example_gen.examples\}.*materialize to true"):
        component(build_model=BUILD_MODEL, steps=1).run(
            nothing, xf_graph, seed=Seed(1), scratch=Scratch(tmp_path), progress=Progress(), **outputs
        )


def test_parameter_servers_need_transformed_examples(train, xf_examples):
    with pytest.raises(ConfigError, match=r"strategy: parameter_server .* these are raw. Set materialize to true"):
        train(xf_examples, strategy="parameter_server", workers=2)


def test_a_feature_that_only_Transform_can_read_is_named(awkward, tmp_path):
    import shutil

    graph = TransformGraph(tmp_path / "graph")
    shutil.copytree(awkward[1]["transform_graph"].path, graph.path)
    schema = graph.raw_schema.read_text().replace('name: "pair"', 'name: "other"')
    graph.raw_schema.write_text(schema)
    spec = transformed_spec(graph)

    with pytest.raises(ConfigError, match="since pair can only be read by Transform. Set its materialize to true"):
        RawRecords(graph).read(spec)


RUN_FN = """
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio


def run_fn(fn_args):
    graph = tft.TFTransformOutput(fn_args.transform_graph_path)
    options = tfxio.TensorFlowDatasetOptions(batch_size=1000, num_epochs=1, shuffle=False)
    raw = fn_args.data_accessor.tf_dataset_factory(fn_args.train_files, options, graph.raw_metadata.schema)
    layer = graph.transform_features_layer()
    (batch,) = raw.map(layer)
    module = tf.Module()
    module.tips = tf.Variable(tf.reduce_sum(batch["big_tip"]))
    tf.saved_model.save(module, fn_args.serving_model_dir)
"""


def test_a_run_fn_is_given_raw_files_and_the_graph_as_TFX_gives_them(train, user_module, xf_examples, xf_transformed):
    import tensorflow as tf

    model = train(xf_examples, build_model=None, run_fn=user_module(RUN_FN, "run_fn"))

    tips = [
        tf.train.Example.FromString(one).features.feature["big_tip"].int64_list.value[0]
        for file in xf_transformed.files("train")
        for one in tfrecord.read(file)
    ]
    assert int(tf.saved_model.load(str(model.serving)).tips) == sum(tips) > 0
