"""Statistics before and after the transformation, against TFDV's own in memory, on awkward data in several shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.features.raw_features import read_schema
from components.features.transform import Transform
from components.features.transform_statistics import Count, options_after, options_before
from components.io import tfrecord
from components.io.feature_statistics import Generators
from schemas.artifacts import Examples
from schemas.component import BeamOptions, Progress

SCHEMA = """
feature { name: "x" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "code" type: INT int_domain { is_categorical: true } }
feature { name: "words" type: BYTES }
feature { name: "never" type: BYTES }
feature { name: "not_taken" type: FLOAT }
"""
FUNCTION = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    return {
        "z": tft.scale_to_z_score(inputs["x"]),
        "index": tft.compute_and_apply_vocabulary(inputs["words"], top_k=2),
        "ragged": tf.RaggedTensor.from_sparse(inputs["words"]),
        "never": inputs["never"],
        "code": inputs["code"],
    }
"""


def record(number: int) -> bytes:
    import tensorflow as tf

    words = [["ü", "漢字", "", "\nline"][i % 4].encode() for i in range(number % 5)]
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[float("nan") if number == 7 else number**2])),
        "words": tf.train.Feature(bytes_list=tf.train.BytesList(value=words)),
        "not_taken": tf.train.Feature(float_list=tf.train.FloatList(value=[1])),
    }
    if number % 3:
        features["code"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 4] * (number % 3)))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Two splits; the first in three shards, one of them without records."""
    examples = Examples(tmp_path_factory.mktemp("examples"))
    for split, sizes in {"train": (60, 0, 41), "eval": (30,)}.items():
        examples.split_path(split).mkdir()
        for shard, size in enumerate(sizes):
            file = examples.split(split) / f"data_tfrecord-{shard:05d}-of-{len(sizes):05d}.gz"
            tfrecord.write(file, [record(number + 100 * shard) for number in range(size)])
    return examples


@pytest.fixture(scope="module")
def run(examples, schema, outputs_of, tmp_path_factory) -> Any:
    """Settings -> what Transform makes, in new directories."""
    directory = tmp_path_factory.mktemp("module")
    (directory / "user_awkward.py").write_text(FUNCTION, encoding="utf-8")

    def make(**settings: Any) -> dict[str, Any]:
        outputs = outputs_of(Transform, tmp_path_factory.mktemp("made") / "outputs")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(directory))
            step = Transform(preprocessing_fn="user_awkward.preprocessing_fn", **settings)
            step.run(examples, schema, BeamOptions(), Progress(), **outputs)
        return outputs

    return make


@pytest.fixture(scope="module")
def outputs(run) -> dict[str, Any]:
    return run()


def records(examples: Examples, *splits: str) -> list[bytes]:
    return [record for split in splits for file in examples.files(split) for record in tfrecord.read(file)]


def theirs(batch: Any, options: Any, to: Path) -> Path:
    from tensorflow_data_validation.statistics import stats_impl

    to.write_bytes(stats_impl.generate_statistics_in_memory(batch, options).SerializeToString())
    return to


def test_before_are_the_features_that_the_function_takes_in_the_split_that_is_analysed(
    outputs, examples, schema, assert_equal_statistics, tmp_path
):
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    raw, options = read_schema(schema.file), options_before(read_schema(schema.file))
    taken = type(raw)(feature=[feature for feature in raw.feature if feature.name != "not_taken"])
    batch = ExamplesToRecordBatchDecoder(taken.SerializeToString()).DecodeBatch(records(examples, "train"))

    assert_equal_statistics(outputs["pre_transform_stats"].file, theirs(batch, options, tmp_path / "theirs"))
    assert read_schema(outputs["pre_transform_schema"].file) == raw


def test_after_are_the_transformed_features_of_all_splits(outputs, examples, schema, assert_equal_statistics, tmp_path):
    import tensorflow as tf
    import tensorflow_transform as tft
    from tensorflow_transform import impl_helper
    from tensorflow_transform.tf_metadata import schema_utils

    spec = schema_utils.schema_as_feature_spec(read_schema(schema.file)).feature_spec
    parsed = tf.io.parse_example(records(examples, "train", "eval"), spec)
    output = tft.TFTransformOutput(str(outputs["transform_graph"].path))
    converter = impl_helper.make_tensor_to_arrow_converter(output.transformed_metadata.schema)
    del parsed["not_taken"]
    batch = converter.convert(output.transform_features_layer()(parsed))

    expected = theirs(batch, options_after(outputs["transform_graph"]), tmp_path / "theirs")
    assert_equal_statistics(outputs["post_transform_stats"].file, expected, absolute=1e-6)


def test_the_schema_after_has_neither_ranges_nor_annotations(outputs):
    files = outputs["transform_graph"].transformed_schema, outputs["post_transform_schema"].file
    full, found = [{feature.name: feature for feature in read_schema(file).feature} for file in files]

    assert full["index"].int_domain.max == 1
    assert found["index"].int_domain.is_categorical
    assert not found["index"].int_domain.HasField("max")


def test_equal_input_gives_equal_files(outputs, run):
    again = run()

    for name in [name for name in again if name.startswith(("pre_", "post_"))]:
        assert again[name].file.read_bytes() == outputs[name].file.read_bytes(), name


def test_switched_off_they_are_not_made_and_the_rest_is_the_same(outputs, run):
    without = run(statistics=False)

    for name in [name for name in without if name.startswith(("pre_", "post_"))]:
        assert list(without[name].path.iterdir()) == [], name
    for split in ("train", "eval"):
        files = [made["transformed_examples"].files(split) for made in (outputs, without)]
        assert [one.read_bytes() for one in files[0]] == [one.read_bytes() for one in files[1]]


def test_what_is_kept_of_a_shard_does_not_grow_with_its_values(tmp_path):
    import pyarrow as pa
    from tensorflow_metadata.proto.v0 import schema_pb2

    sizes = []
    for rows in (20_000, 80_000):
        count = Count(Generators(options_before(schema_pb2.Schema())))
        lists = pa.array([[b"%d" % number] for number in range(rows)], pa.large_list(pa.large_binary()))
        count.add(pa.RecordBatch.from_arrays([lists], ["word"]))
        sizes.append(Path(count.keep(tmp_path)).stat().st_size)

    assert sizes[1] < 1.2 * sizes[0]
