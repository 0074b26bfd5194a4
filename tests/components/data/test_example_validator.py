from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from components.data.example_validator import ExampleValidator, expectation
from components.data.schema_gen import SchemaGen
from components.data.statistics_gen import StatisticsGen
from schemas.artifacts import Anomalies, FeatureSchema, Statistics
from schemas.component import BeamOptions, Progress
from schemas.errors import AnomaliesFound, ConfigError, UnknownSplit


@pytest.fixture
def narrow_schema(small_statistics, schema_of, tmp_path) -> FeatureSchema:
    """What was inferred of 300 trips, but for paying by credit card and hours after noon; and without company."""
    inferred = FeatureSchema(tmp_path)
    SchemaGen().run(small_statistics, inferred)
    schema = text_format.Parse(inferred.file.read_bytes(), schema_pb2.Schema())
    (payment,) = (domain for domain in schema.string_domain if domain.name == "payment_type")
    payment.value.remove("Credit Card")
    (hour,) = (feature for feature in schema.feature if feature.name == "trip_start_hour")
    hour.int_domain.max = 12
    (company,) = (feature for feature in schema.feature if feature.name == "company")
    schema.feature.remove(company)
    return schema_of(text_format.MessageToString(schema))


def read(file: Path) -> anomalies_pb2.Anomalies:
    return anomalies_pb2.Anomalies.FromString(file.read_bytes())


def test_anomalies_are_tfxs(small_statistics, narrow_schema, tfx, tmp_path) -> None:
    ours, theirs = Anomalies(tmp_path / "ours"), Anomalies(tmp_path / "theirs")
    tfx.do(
        "example_validator.executor", {"anomalies": theirs}, {"statistics": small_statistics, "schema": narrow_schema}
    )

    ExampleValidator(on_anomaly="warn").run(small_statistics, narrow_schema, ours)

    for split in ("train", "eval"):
        assert read(ours.file(split)) == read(theirs.file(split))
        assert set(read(ours.file(split)).anomaly_info) == {"payment_type", "trip_start_hour", "company"}


def test_an_anomaly_fails_with_split_feature_what_was_found_and_expected(
    small_statistics, narrow_schema, tmp_path
) -> None:
    anomalies = Anomalies(tmp_path / "anomalies")

    with pytest.raises(AnomaliesFound) as caught:
        ExampleValidator().run(small_statistics, narrow_schema, anomalies)

    message = str(caught.value)
    assert "does not fit the schema in 6 places" in message
    assert "eval: payment_type: Examples contain values missing from the schema: Credit Card" in message
    assert "Expected: BYTES, in every record, one value each, one of Cash, " in message
    assert "train: trip_start_hour: Unexpectedly large value: 23" in message
    assert "Expected: INT, in every record, one value each, to 12." in message
    assert "train: company: New column" in message
    assert "on_anomaly: warn" in message
    assert anomalies.splits == ("train", "eval")  # all were written before


def test_a_warning_lets_the_run_go_on_and_keeps_the_reasons(small_statistics, narrow_schema, tmp_path) -> None:
    anomalies = Anomalies(tmp_path / "anomalies")

    ExampleValidator(on_anomaly="warn").run(small_statistics, narrow_schema, anomalies)

    assert anomalies.properties["anomalies"] == {"train": 3, "eval": 3}
    assert [reason["feature"] for reason in anomalies.properties["reasons"]["train"]] == [
        "company",
        "payment_type",
        "trip_start_hour",
    ]
    assert anomalies.describe() == "train: 3 with anomalies, eval: 3 with anomalies"


def test_a_split_that_is_skipped_is_not_validated(small_statistics, narrow_schema, tmp_path) -> None:
    anomalies = Anomalies(tmp_path / "anomalies")

    ExampleValidator(on_anomaly="warn", skip_splits=("train",)).run(small_statistics, narrow_schema, anomalies)

    assert anomalies.splits == ("eval",)
    with pytest.raises(UnknownSplit, match="no split 'test'"):
        ExampleValidator(skip_splits=("test",)).run(small_statistics, narrow_schema, anomalies)


def test_a_split_without_records_does_not_pass_for_valid(make_examples, schema_of, tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    examples = make_examples(source=str(tmp_path / "x.csv"), splits={"none": 1, "train": 10**9})
    statistics = Statistics(tmp_path / "statistics")
    StatisticsGen().run(examples, BeamOptions(), Progress(), statistics)

    with pytest.raises(AnomaliesFound, match=r"none: the whole split: There are no records\."):
        ExampleValidator().run(
            statistics, schema_of('feature { name: "a" type: INT }'), Anomalies(tmp_path / "anomalies")
        )


def test_a_long_list_of_findings_is_cut_short(make_examples, schema_of, tmp_path) -> None:
    (tmp_path / "x.csv").write_text(",".join(f"c{n}" for n in range(50)) + "\n" + "1," * 49 + "1\n")
    examples = make_examples(source=str(tmp_path / "x.csv"), splits={"train": 1})
    statistics, anomalies = Statistics(tmp_path / "statistics"), Anomalies(tmp_path / "anomalies")
    StatisticsGen().run(examples, BeamOptions(), Progress(), statistics)

    with pytest.raises(AnomaliesFound) as caught:
        ExampleValidator().run(statistics, schema_of('feature { name: "c0" type: INT }'), anomalies)

    assert "in 49 places" in str(caught.value)
    assert "and 29 more" in str(caught.value)
    assert len(anomalies.properties["reasons"]["train"]) == 49


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("type: INT int_domain { min: 1 max: 12 }", "INT, from 1 to 12"),
        ("type: FLOAT float_domain { min: 0.5 disallow_nan: true }", "FLOAT, from 0.5, never NaN"),
        ("type: BYTES domain: 'colour' presence { min_fraction: 1 }", "BYTES, in every record, one of red, blue"),
        (
            "presence { min_fraction: 0.25 } value_count { max: 3 }",
            "in at least 0.25 of the records, 0 to 3 values each",
        ),
        ("presence { min_count: 2 } value_count { min: 1 }", "in at least 2 records, 1 or more values each"),
        ("shape { dim { size: 2 } dim { size: 3 } }", "of shape [2, 3]"),
        ("", "anything"),
    ],
)
def test_a_schema_in_words(feature: str, words: str) -> None:
    parsed = text_format.Parse(feature, schema_pb2.Feature())

    assert expectation(parsed, {"colour": ["red", "blue"]}) == words


def test_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ExampleValidator(on_anomaly="fial", skip_splits=("a", "a"))

    assert "Did you mean 'fail'?" in caught.value.problems[0]
    assert caught.value.problems[1].startswith("skip_splits: ")
