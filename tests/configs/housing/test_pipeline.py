"""Boston housing from files to a served model: reuse, pictures, and where the column B is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.data.example_validator import ExampleValidator
from components.data.schema_gen import ImportSchema
from components.data.statistics_gen import StatisticsGen
from schemas.artifacts import Anomalies, Examples, FeatureSchema, Model, Statistics
from schemas.component import BeamOptions, Progress
from schemas.errors import AnomaliesFound
from schemas.passport import Passport

COLUMNS = {"CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "LSTAT"}
TRACT = dict.fromkeys(COLUMNS, 1.0) | {"CHAS": 0, "RAD": 4, "TAX": 300, "RM": 6.5, "PTRATIO": 18.0}


@pytest.fixture(scope="module")
def ran(problem: Callable[..., Any]) -> Any:
    limits = "{mean_absolute_error: {max: 30}}"
    housing = problem("housing", "parameters.epochs=3", f"release.metrics={limits}", "release.latency={}")
    assert {step["action"] for step in housing.run().values()} == {"run"}
    return housing


@pytest.mark.slow
def test_an_unchanged_second_run_reuses_every_step(ran: Any) -> None:
    assert {step["action"] for step in ran.run().values()} == {"reuse"}


@pytest.mark.slow
def test_b_is_in_no_record_no_statistics_and_no_signature(ran: Any) -> None:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    from components.io import columns, saved_model

    examples, statistics = Examples(ran.made("example_gen", "examples")), ran.made("statistics_gen", "statistics")
    records = {name for split in ("train", "eval") for file in examples.columns(split) for name in columns.kinds(file)}
    (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(
        Statistics(statistics).file("train").read_bytes()
    ).datasets

    assert records == {feature.path.step[0] for feature in found.features} == COLUMNS | {"MEDV"}
    assert set(saved_model.signatures(ran.version)["serving_columns"].inputs) == COLUMNS
    passport = Passport.read(ran.version)
    assert passport is not None
    assert passport.steps["example_gen"]["settings"]["drop_columns"] == ["B"]


@pytest.mark.slow
def test_a_server_answers_a_row_of_typed_columns_as_the_model_does(ran: Any) -> None:
    import tensorflow as tf

    model = tf.saved_model.load(str(ran.version)).signatures["serving_columns"]
    kinds = {name: spec.dtype for name, spec in model.structured_input_signature[1].items()}
    (own,) = model(**{name: tf.constant([value], kinds[name]) for name, value in TRACT.items()}).values()

    with ran.served() as ask:
        predictions = ask({"signature_name": "serving_columns", "instances": [TRACT]})

    assert predictions == [[pytest.approx(float(own[0, 0]), rel=1e-6)]]


@pytest.mark.slow
def test_the_pictures_are_the_same_whoever_draws_them(ran: Any, tmp_path: Path) -> None:
    from configs.housing.pictures import DrawPictures, Pictures

    DrawPictures().run(
        Examples(ran.made("example_gen", "examples")), Model(ran.made("trainer", "model")), Pictures(tmp_path)
    )

    drawn = {file.name: file.read_bytes() for file in ran.made("pictures", "pictures").iterdir()}
    assert {"preparation.png", "correlation.png", "result.png"} <= drawn.keys()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == drawn


def test_a_column_b_that_comes_back_is_an_anomaly(tmp_path: Path) -> None:
    examples, statistics, schema, anomalies = (
        kind(tmp_path / kind.__name__) for kind in (Examples, Statistics, FeatureSchema, Anomalies)
    )
    for artifact in (examples, statistics, schema, anomalies):
        artifact.path.mkdir()
    source = "pkg://sklearn/datasets/data/boston_house_prices.csv"
    ExampleGen(source=source, skip_rows=1).run(BeamOptions(), Progress(), examples)
    StatisticsGen().run(examples, BeamOptions(), Progress(), statistics)
    ImportSchema(path="schemas/datasets/housing.pbtxt").run(schema)

    with pytest.raises(AnomaliesFound, match="B.*New column"):
        ExampleValidator(on_anomaly="fail").run(statistics, schema, anomalies)
