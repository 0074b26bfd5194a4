"""TFX's ExampleValidator: the anomalies that it writes are counted and named as ours are, and nothing ends for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.example_validator import ExampleValidator
from components.data.schema_gen import SchemaGen
from pipeline.contract import build_component, read_contract
from schemas.artifacts import Anomalies, FeatureSchema
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve


def test_what_TFX_finds_is_said_as_ours_says_it(small_statistics, schema_of, outputs_of, tmp_path: Path) -> None:
    inferred = FeatureSchema(tmp_path / "inferred")
    inferred.path.mkdir()
    SchemaGen().run(small_statistics, inferred)
    schema = text_format.Parse(inferred.file.read_bytes(), schema_pb2.Schema())
    (hour,) = (feature for feature in schema.feature if feature.name == "trip_start_hour")
    hour.int_domain.max = 12
    narrow = schema_of(text_format.MessageToString(schema))
    kind = resolve("tfx.v1.components.ExampleValidator")
    outputs = outputs_of(kind, tmp_path / "outputs")
    asked: dict[type, Any] = {BeamOptions: BeamOptions(), Scratch: Scratch(tmp_path), Lineage: Lineage()}
    asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}

    build_component(kind, {"exclude_splits": ["eval"]}).run(
        statistics=small_statistics, schema=narrow, **outputs, **asks
    )

    found: Anomalies = outputs["anomalies"]
    ours = Anomalies(tmp_path / "ours")
    ExampleValidator(on_anomaly="warn", skip_splits=("eval",)).run(small_statistics, narrow, ours)
    assert found.properties["anomalies"] == {"train": 1}
    assert found.properties["reasons"] == ours.properties["reasons"]
    assert found.properties["reasons"]["train"][0]["feature"] == "trip_start_hour"
    assert found.describe() == "train: 1 with anomalies"
