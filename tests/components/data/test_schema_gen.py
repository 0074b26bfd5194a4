from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.example_validator import ExampleValidator
from components.data.schema_gen import ImportSchema, SchemaGen
from schemas.artifacts import Anomalies, FeatureSchema, Statistics
from schemas.errors import ConfigError, DataError, UnknownSplit

TAXI = Path(__file__).parents[3] / "schemas/datasets/taxi.pbtxt"


def read(schema: FeatureSchema) -> schema_pb2.Schema:
    return text_format.Parse(schema.file.read_bytes(), schema_pb2.Schema())


def infer(statistics: Statistics, to: Path, **settings: Any) -> FeatureSchema:
    to.mkdir(exist_ok=True)
    schema = FeatureSchema(to)
    SchemaGen(**settings).run(statistics, schema)
    return schema


@pytest.mark.parametrize("shape", [True, False])
def test_the_inferred_schema_is_tfxs(small_statistics, tfx, tmp_path, shape: bool) -> None:
    theirs = FeatureSchema(tmp_path / "theirs")
    tfx.do("schema_gen.executor", {"schema": theirs}, {"statistics": small_statistics}, infer_feature_shape=int(shape))

    ours = infer(small_statistics, tmp_path / "ours", infer_feature_shape=shape)

    assert ours.file.read_bytes() == theirs.file.read_bytes()
    assert ours.properties == {"features": 18, "origin": "inferred"}
    assert any(feature.HasField("shape") for feature in read(ours).feature) == shape


def test_all_trips_fit_the_schema_inferred_of_them(taxi_statistics, tmp_path) -> None:
    schema = infer(taxi_statistics, tmp_path / "schema")
    anomalies = Anomalies(tmp_path / "anomalies")

    ExampleValidator().run(taxi_statistics, schema, anomalies)

    assert anomalies.describe() == "no anomalies"


def test_a_split_that_is_skipped_adds_no_values(make_examples, tmp_path) -> None:
    from components.data.statistics_gen import StatisticsGen
    from schemas.component import BeamOptions, Progress

    (tmp_path / "x.csv").write_text("a\n" + "\n".join(f"value {n % 10}" for n in range(60)))
    examples = make_examples(source=str(tmp_path / "x.csv"))
    statistics = Statistics(tmp_path / "statistics")
    StatisticsGen().run(examples, BeamOptions(), Progress(), statistics)

    every, train = infer(statistics, tmp_path / "every"), infer(statistics, tmp_path / "train", skip_splits=("eval",))

    assert len(read(train).string_domain[0].value) < len(read(every).string_domain[0].value) == 10


def test_a_split_to_skip_that_is_not_there_is_refused(small_statistics, tmp_path) -> None:
    with pytest.raises(UnknownSplit, match="Did you mean 'eval'?"):
        infer(small_statistics, tmp_path, skip_splits=("evl",))


def test_a_curated_schema_is_taken_as_it_was_written(tmp_path) -> None:
    schema = FeatureSchema(tmp_path)

    ImportSchema(path=str(TAXI)).run(schema)

    assert schema.file.read_bytes() == TAXI.read_bytes()
    assert schema.describe() == f"18 features, {TAXI}"


def test_the_taxi_schema_describes_all_columns_and_fits_all_trips(taxi_csv, taxi_statistics, tmp_path) -> None:
    schema, anomalies = FeatureSchema(tmp_path / "schema"), Anomalies(tmp_path / "anomalies")
    schema.path.mkdir()

    ImportSchema(path=str(TAXI)).run(schema)
    ExampleValidator().run(taxi_statistics, schema, anomalies)

    columns = taxi_csv.read_text().split("\n", 1)[0].split(",")
    assert sorted(feature.name for feature in read(schema).feature) == sorted(columns)
    assert anomalies.properties["anomalies"] == {"train": 0, "eval": 0}


def test_tfx_imports_the_taxi_schema_too(tfx, tmp_path) -> None:
    theirs = FeatureSchema(tmp_path)

    tfx.do("schema_gen.import_schema_gen.executor", {"schema": theirs}, schema_file=str(TAXI))

    assert read(theirs) == text_format.Parse(TAXI.read_bytes(), schema_pb2.Schema())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"feature {\n  nam: 'x'\n}", 'line 2: .*no field named "nam"'),
        (b"feature {\n  name: 'x'\n  type: INTEGER\n}", "line 3: .*no value named INTEGER"),
        (b"feature {", "line 1: "),
        (b"\xff\xfe\x00", "not a schema"),
        (b"", "the schema has no features"),
        (b"feature { name: 'x' }\nfeature { name: 'x' }", "describes x more than once"),
    ],
)
def test_a_file_that_is_no_schema_is_told_with_its_line(tmp_path, text: bytes, message: str) -> None:
    (tmp_path / "bad.pbtxt").write_bytes(text)

    with pytest.raises(DataError, match=rf"bad\.pbtxt(: |, ).*{message}"):
        ImportSchema(path=str(tmp_path / "bad.pbtxt")).run(FeatureSchema(tmp_path))


def test_a_schema_is_one_file_that_is_there(tmp_path) -> None:
    with pytest.raises(DataError, match="there is no such file. Did you mean 'taxi.pbtxt'?"):
        ImportSchema(path=str(TAXI.with_name("taxy.pbtxt"))).run(FeatureSchema(tmp_path))
    (tmp_path / "a.pbtxt").write_text("")
    (tmp_path / "b.pbtxt").write_text("")
    with pytest.raises(DataError, match="2 files match"):
        ImportSchema(path=str(tmp_path / "*.pbtxt")).run(FeatureSchema(tmp_path))
    with pytest.raises(ConfigError, match="^path: "):
        ImportSchema(path="")
