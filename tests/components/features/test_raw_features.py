"""Raw features from the columns that ExampleGen kept and from the records: the same, also where the data is awkward."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.features.raw_features import (
    BATCH_ROWS,
    RawShard,
    ReadBatches,
    ReadFeatures,
    projection,
    raw_shards,
    read_schema,
    type_specs,
)
from components.io import tfrecord
from components.io.beam import RowCount
from schemas.artifacts import Examples
from schemas.component import BeamOptions, Progress
from schemas.errors import DataError

SCHEMA = """
feature { name: "one" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "pair" type: INT shape { dim { size: 2 } } presence { min_fraction: 1 } }
feature { name: "word" type: BYTES shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "several" type: BYTES }
feature { name: "seldom" type: INT }
feature { name: "late" type: FLOAT }
feature { name: "never" type: FLOAT }
feature { name: "empty" type: INT }
feature { name: "without_kind" type: BYTES }
feature { name: "rows" type: FLOAT }
tensor_representation_group { key: "" value {
  tensor_representation { key: "rows" value { ragged_tensor {
    feature_path { step: "rows" } row_partition_dtype: INT64 } } }
  tensor_representation { key: "seldom" value { dense_tensor {
    column_name: "seldom" shape { dim { size: 1 } } default_value { int_value: -3 } } } } } }
"""
RECORDS = BATCH_ROWS + 500


def record(number: int) -> bytes:
    import tensorflow as tf

    kinds = {int: "int64_list", float: "float_list", bytes: "bytes_list"}
    example = tf.train.Example()

    def put(name: str, kind: type, values: list[Any]) -> None:
        feature = getattr(example.features.feature[name], kinds[kind])
        feature.SetInParent()
        feature.value.extend(values)

    put("one", float, [number / 7])
    put("pair", int, [2**53 + number, -number])
    put("word", bytes, [["ü", "漢字", "", "new\nline"][number % 4].encode()])
    put("several", bytes, [b"\xff\xfe"] * (number % 4))
    put("rows", float, [float(number)] * (number % 3))
    put("empty", int, [])
    example.features.feature["without_kind"].SetInParent()
    if number % 5 == 0:
        put("seldom", int, [number])
    if number > BATCH_ROWS:
        put("late", float, [1.5, 2.5])
    return example.SerializeToString()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """More records than a batch has, with their columns."""
    directory = tmp_path_factory.mktemp("examples")
    tfrecord.write(directory / "x.tfrecord", map(record, range(RECORDS)))
    examples = Examples(directory / "made")
    examples.path.mkdir()
    ExampleGen(source=str(directory / "x.tfrecord"), splits={"all": 1}).run(BeamOptions(), Progress(), examples)
    assert examples.properties["columns"]
    return examples


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("schema") / "schema.pbtxt"
    file.write_text(SCHEMA, encoding="utf-8")
    return read_schema(file)


def test_batches_from_columns_are_those_that_records_are_decoded_to(examples, raw):
    (shard,) = raw_shards(examples, "all")
    config, projected = projection(raw, sorted(type_specs(raw)))

    with RowCount(Progress()) as count:
        read = ReadBatches(projected, config.arrow_schema, count)
        found, expected = list(read(shard)), list(read(RawShard(shard.records)))

    assert shard.columns is not None
    assert [batch.num_rows for batch in found] == [BATCH_ROWS, 500]
    assert found == expected
    assert count.done == 2 * RECORDS


@pytest.mark.parametrize("parsed", [True, False], ids=["plain features", "every feature"])
def test_tensors_from_columns_are_those_from_records(examples, raw, parsed):
    import tensorflow as tf

    (shard,) = raw_shards(examples, "all")
    # TensorFlow parses only what is dense without a default value, or a plain list.
    features = [name for name in sorted(type_specs(raw)) if not parsed or name not in ("rows", "seldom")]

    with RowCount(Progress()) as count:
        read = ReadFeatures(raw, features, count)
        assert bool(read._parsed) == parsed
        batches = list(zip(read(shard), read(RawShard(shard.records)), strict=True))

    assert len(batches) == 2
    for found, expected in batches:
        assert found.keys() == expected.keys() == set(features)
        for name in features:
            assert found[name].dtype == expected[name].dtype
            flat = [tf.nest.flatten(one[name], expand_composites=True) for one in (found, expected)]
            for mine, theirs in zip(*flat, strict=True):
                tf.debugging.assert_equal(mine, theirs, name)


def test_only_the_columns_that_are_asked_for_are_read(examples, raw):
    (shard,) = raw_shards(examples, "all")

    with RowCount(Progress()) as count:
        first, _ = ReadFeatures(raw, ["one", "never"], count)(shard)

    assert first.keys() == {"one", "never"}
    assert first["one"].shape == (BATCH_ROWS, 1)


def test_features_that_no_record_has_are_read_too(examples, raw):
    (shard,) = raw_shards(examples, "all")

    with RowCount(Progress()) as count:
        batches = list(ReadFeatures(raw, ["never"], count)(shard))

    assert [batch["never"].dense_shape[0] for batch in batches] == [BATCH_ROWS, 500]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name: "one" type: FLOAT', 'name: "one" type: BYTES', "its records do not fit the schema: .*'?one"),
        ("dim { size: 2 }", "dim { size: 3 }", "feature 'pair' has 2 values in 8,192 of 8,192 records"),
    ],
)
def test_what_does_not_fit_the_schema_is_said_in_one_way(examples, tmp_path, old, new, message):
    file = tmp_path / "schema.pbtxt"
    file.write_text(SCHEMA.replace(old, new), encoding="utf-8")
    (shard,) = raw_shards(examples, "all")
    said = []
    for one in (shard, RawShard(shard.records)):
        with RowCount(Progress()) as count, pytest.raises(DataError, match=message) as caught:
            list(ReadFeatures(read_schema(file), ["one", "pair"], count)(one))
        said.append(str(caught.value))

    assert said[0] == said[1]
    assert said[0].startswith(shard.records)


def test_a_damaged_file_of_columns_is_named(examples, raw, tmp_path):
    damaged = tmp_path / "x.parquet"
    (shard,) = raw_shards(examples, "all")
    damaged.write_bytes(Path(shard.columns).read_bytes()[:-30])

    with RowCount(Progress()) as count, pytest.raises(DataError, match=f"^{damaged}: cannot be read"):
        list(ReadFeatures(raw, ["one"], count)(RawShard(shard.records, str(damaged))))


def test_examples_without_columns_are_shards_of_records_only(examples, tmp_path):
    shutil.copytree(examples.split("all"), tmp_path / "Split-all")

    (shard,) = raw_shards(Examples(tmp_path), "all")

    assert shard.columns is None
