"""The signatures of a trained model: equal answers from either, and nothing of the label in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.features.transform import Transform
from components.io import saved_model, tfrecord
from components.model import signatures
from components.model.input_data import transformed_spec
from schemas.artifacts import Examples, FeatureSchema, TransformedExamples, TransformGraph
from schemas.component import BeamOptions, Progress
from schemas.errors import ConfigError


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, xf_graph: TransformGraph) -> Any:
    """The taxi model with random weights, saved and loaded again."""
    import keras_tuner

    from configs.taxi.model import build_model

    return reloaded(tmp_path_factory.mktemp("served"), build_model(keras_tuner.HyperParameters()), xf_graph)


def reloaded(path: Path, model: Any, graph: TransformGraph) -> Any:
    features = signatures.model_features(model, tuple(sorted(transformed_spec(graph))))
    assert features is not None
    exported = signatures.build(model, features, graph)
    saved_model.save(exported.module, path, exported.signatures)
    return saved_model.load(path)


@pytest.fixture(scope="module")
def records(xf_examples: Examples) -> list[bytes]:
    return list(tfrecord.read(xf_examples.files("eval")[0]))


def without(record: bytes, *names: str) -> bytes:
    import tensorflow as tf

    example = tf.train.Example.FromString(record)
    for name in names:
        del example.features.feature[name]
    return example.SerializeToString()


def with_tips(record: bytes, tips: float) -> bytes:
    import tensorflow as tf

    example = tf.train.Example.FromString(record)
    example.features.feature["tips"].float_list.value[:] = [tips]
    return example.SerializeToString()


def as_columns(signature: Any, records: list[bytes], width: int | None = None) -> dict[str, Any]:
    """The records as typed columns: [batch], or [batch, width] for a feature with several values."""
    import tensorflow as tf

    missing = {tf.float32: float("nan"), tf.string: b"", tf.int64: signatures.MISSING_INTEGER}
    columns = {}
    for name, spec in signature.structured_input_signature[1].items():
        cells = []
        for record in records:
            feature = tf.train.Example.FromString(record).features.feature[name]
            kind = feature.WhichOneof("kind")
            values = list(getattr(feature, kind).value) if kind else []
            size = 1 if spec.shape.rank == 1 else width or 1
            values += [missing[spec.dtype]] * (size - len(values))
            cells.append(values[0] if spec.shape.rank == 1 else values)
        columns[name] = tf.constant(cells, spec.dtype)
    return columns


def test_three_signatures_with_their_inputs_and_outputs(served):
    found = served.signatures
    assert set(found) == {"serving_default", "serving_columns", "transform_features"}
    assert list(found["serving_default"].structured_outputs) == ["probabilities"]
    assert list(found["serving_columns"].structured_outputs) == ["probabilities"]
    assert found["serving_default"].structured_outputs["probabilities"].shape.as_list() == [None, 1]
    columns = found["serving_columns"].structured_input_signature[1]
    assert columns["fare"].shape.as_list() == [None]
    assert {columns[name].dtype.name for name in ("fare", "company", "trip_start_hour")} == {
        *("float32", "string", "int64")
    }


def test_neither_serving_signature_takes_what_only_the_label_needs(served):
    columns = served.signatures["serving_columns"].structured_input_signature[1]

    assert "tips" not in columns
    assert "trip_start_timestamp" not in columns  # no transformed feature needs it
    assert "fare" in columns  # the label needs it, too


def test_answers_do_not_depend_on_the_label_s_features(served, records):
    import tensorflow as tf

    serve = served.signatures["serving_default"]
    answers = serve(examples=tf.constant(records))["probabilities"].numpy()

    for tips in (0.0, 1e6, float("nan")):
        changed = serve(examples=tf.constant([with_tips(record, tips) for record in records]))
        assert changed["probabilities"].numpy().tobytes() == answers.tobytes()
    absent = serve(examples=tf.constant([without(record, "tips") for record in records]))
    assert absent["probabilities"].numpy().tobytes() == answers.tobytes()
    assert answers.std() > 0


def test_examples_and_columns_give_identical_answers(served, records):
    import tensorflow as tf

    columns = as_columns(served.signatures["serving_columns"], records)
    by_columns = served.signatures["serving_columns"](**columns)["probabilities"].numpy()
    by_examples = served.signatures["serving_default"](examples=tf.constant(records))["probabilities"].numpy()

    assert by_columns.tobytes() == by_examples.tobytes()


def test_missing_columns_are_what_missing_features_are(served, records):
    import tensorflow as tf

    optional = ("company", "pickup_latitude", "pickup_community_area", "trip_seconds")
    columns = served.signatures["serving_columns"].structured_input_signature[1]
    kinds = {columns[name].dtype.name for name in optional}
    assert kinds == {"string", "float32", "int64"}
    stripped = [without(record, *optional) for record in records[:1]] + records[1:8]

    by_columns = served.signatures["serving_columns"](**as_columns(served.signatures["serving_columns"], stripped))
    by_examples = served.signatures["serving_default"](examples=tf.constant(stripped))

    assert by_columns["probabilities"].numpy().tobytes() == by_examples["probabilities"].numpy().tobytes()


@pytest.mark.parametrize("values", [[None, 2.5, None], [1.5, 2.5], [None, None], []])
def test_a_column_of_single_values_becomes_what_parsing_gives(values):
    import tensorflow as tf

    feature = tf.io.VarLenFeature(tf.float32)
    records = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[] if value is None else [value]))}
            )
        ).SerializeToString()
        for value in values
    ]
    parsed = tf.io.parse_example(tf.constant(records, tf.string), {"x": feature})["x"]
    column = signatures.Column.of("x", feature, {"x"})
    assert column is not None

    found = column.raw(tf.constant([float("nan") if value is None else value for value in values], tf.float32))

    assert found.indices.numpy().tolist() == parsed.indices.numpy().tolist()
    assert found.values.numpy().tolist() == parsed.values.numpy().tolist()
    assert found.dense_shape.numpy().tolist() == parsed.dense_shape.numpy().tolist()


def test_one_row_answers_as_it_does_among_others(served, records):
    import numpy as np
    import tensorflow as tf

    serve = served.signatures["serving_default"]
    together = serve(examples=tf.constant(records[:5]))["probabilities"].numpy()
    alone = [serve(examples=tf.constant([record]))["probabilities"].numpy()[0] for record in records[:5]]

    np.testing.assert_allclose(alone, together, rtol=1e-6)


def test_transform_features_gives_what_Transform_materialised_label_included(served, records, xf_graph, xf_transformed):
    import numpy as np
    import tensorflow as tf

    stored = list(tfrecord.read(xf_transformed.files("eval")[0]))
    expected = tf.io.parse_example(stored, transformed_spec(xf_graph))

    found = served.signatures["transform_features"](examples=tf.constant(records))

    assert "big_tip" in found
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), values.numpy())


def test_an_input_that_is_not_a_transformed_feature_is_named(xf_graph):
    import tf_keras

    layer = tf_keras.layers.Input((1,), name="fair_xf")
    model = tf_keras.Model(layer, tf_keras.layers.Dense(1)(layer))

    with pytest.raises(ConfigError, match=r"input 'fair_xf' is not a transformed feature. Did you mean 'fare_xf'\?"):
        signatures.model_features(model, tuple(transformed_spec(xf_graph)))


@pytest.fixture(scope="module")
def several(
    tmp_path_factory: pytest.TempPathFactory,
    outputs_of: Callable[[type, Path], dict[str, Any]],
    xf_examples: Examples,
) -> tuple[TransformGraph, TransformedExamples]:
    """Of a schema that allows several words per trip, and lists of fares; the function needs no analysis."""
    tmp_path = tmp_path_factory.mktemp("several")
    schema = FeatureSchema(tmp_path / "schema")
    schema.path.mkdir()
    schema.file.write_text(
        """
        feature { name: "company" type: BYTES }
        feature { name: "fare" type: FLOAT }
        feature { name: "tips" type: FLOAT value_count { max: 1 } }
        tensor_representation_group { key: "" value {
          tensor_representation { key: "fare" value { ragged_tensor {
            feature_path { step: "fare" } row_partition_dtype: INT64 } } } } }
        """,
        encoding="utf-8",
    )
    (tmp_path / "user_several.py").write_text(
        "import tensorflow as tf\n"
        "def preprocessing_fn(inputs):\n"
        "    words = tf.sparse.to_dense(inputs['company'], default_value='')\n"
        "    count = tf.reduce_sum(tf.cast(words != '', tf.float32), axis=1)\n"
        "    return {'words': count, 'fares': tf.reduce_sum(inputs['fare'], axis=1),\n"
        "            'label': tf.reshape(tf.sparse.to_dense(inputs['tips']), [-1])}\n",
        encoding="utf-8",
    )
    outputs = outputs_of(Transform, tmp_path / "transform")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        Transform(preprocessing_fn="user_several.preprocessing_fn").run(
            xf_examples, schema, BeamOptions(), Progress(), **outputs
        )
    return outputs["transform_graph"], outputs["transformed_examples"]


def test_features_with_several_values_are_columns_padded_at_the_end(tmp_path, several):
    import tensorflow as tf
    import tf_keras

    inputs = {name: tf_keras.layers.Input((1,), name=name) for name in ("words", "fares")}
    model = tf_keras.Model(inputs, tf_keras.layers.concatenate(list(inputs.values())))
    loaded = reloaded(tmp_path, model, several[0])
    values = [([b"a", b"b", b"c"], [1.5]), ([], [2.0, 3.0]), ([b"d"], [])]
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    "company": tf.train.Feature(bytes_list=tf.train.BytesList(value=words)),
                    "fare": tf.train.Feature(float_list=tf.train.FloatList(value=fares)),
                }
            )
        ).SerializeToString()
        for words, fares in values
    ]
    columns = as_columns(loaded.signatures["serving_columns"], examples, width=4)

    by_columns = loaded.signatures["serving_columns"](**columns)["outputs"].numpy()
    by_examples = loaded.signatures["serving_default"](examples=tf.constant(examples))["outputs"].numpy()

    assert by_columns.tolist() == by_examples.tolist() == [[3.0, 1.5], [0.0, 5.0], [1.0, 0.0]]


def test_a_model_with_a_lookup_layer_keeps_its_vocabulary(tmp_path, several):
    import tensorflow as tf
    import tf_keras

    inputs = {name: tf_keras.layers.Input((1,), name=name) for name in ("words", "fares")}
    as_text = tf_keras.layers.Lambda(lambda x: tf.strings.as_string(tf.cast(x, tf.int64)))(inputs["words"])
    looked_up = tf_keras.layers.StringLookup(vocabulary=["7", "1", "2"])(as_text)
    model = tf_keras.Model(inputs, {"where": looked_up})

    loaded = reloaded(tmp_path, model, several[0])

    answer = loaded.signatures["serving_columns"](
        company=tf.constant([["a", "b"], ["c", ""], ["", ""]]), fare=tf.constant([[1.0], [1.0], [1.0]])
    )
    assert answer["where"].numpy().ravel().tolist() == [3, 2, 0]
