"""TFX's ExampleValidator: the anomalies that it writes are counted and named as ours are, and nothing ends for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.example_validator import ExampleValidator
from components.data.schema_gen import SchemaGen
from pipeline.contract import build_component, read_contract
from schemas.artifacts import Anomalies, FeatureSchema, Statistics
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve


@pytest.fixture
def validate(outputs_of: Callable[[type, Path], dict[str, Any]], tmp_path: Path) -> Callable[..., Anomalies]:
    """(dotted path, settings, statistics, schema) -> the anomalies."""

    def run(dotted: str, settings: dict[str, Any], statistics: Statistics, schema: FeatureSchema) -> Anomalies:
        kind = resolve(dotted)
        outputs = outputs_of(kind, tmp_path / "outputs")
        asked: dict[type, Any] = {BeamOptions: BeamOptions(), Scratch: Scratch(tmp_path), Lineage: Lineage()}
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}
        build_component(kind, settings).run(statistics=statistics, schema=schema, **outputs, **asks)
        found: Anomalies = outputs["anomalies"]
        return found

    return run


def test_what_TFX_finds_is_said_as_ours_says_it(small_statistics, schema_of, validate, tmp_path: Path) -> None:
    inferred = FeatureSchema(tmp_path / "inferred")
    inferred.path.mkdir()
    SchemaGen().run(small_statistics, inferred)
    schema = text_format.Parse(inferred.file.read_bytes(), schema_pb2.Schema())
    (hour,) = (feature for feature in schema.feature if feature.name == "trip_start_hour")
    hour.int_domain.max = 12
    narrow = schema_of(text_format.MessageToString(schema))

    found = validate("tfx.v1.components.ExampleValidator", {"exclude_splits": ["eval"]}, small_statistics, narrow)

    ours = Anomalies(tmp_path / "ours")
    ExampleValidator(on_anomaly="warn", skip_splits=("eval",)).run(small_statistics, narrow, ours)
    assert found.properties["anomalies"] == {"train": 1}
    assert found.properties["reasons"] == ours.properties["reasons"]
    assert found.properties["reasons"]["train"][0]["feature"] == "trip_start_hour"
    assert found.describe() == "train: 1 with anomalies"


OWN = """
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.components.base import base_executor, executor_spec


class OwnExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        for name, content in {files!r}.items():
            file = Path(output_dict["anomalies"][0].uri, name)
            file.parent.mkdir(parents=True)
            file.write_bytes(content)


class OwnValidator(tfx.components.ExampleValidator):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(OwnExecutor)
"""


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"Split-train/anomalies.json": b"{}"}, id="another name"),
        pytest.param({"Split-train/SchemaDiff.pb": b"<anomalies/>"}, id="another format"),
        pytest.param({"all/anomalies.json": b"{}"}, id="no splits"),
    ],
)
def test_what_a_validator_of_the_user_s_writes_otherwise_stays_as_it_is_and_nothing_is_said_of_it(
    small_statistics, schema_of, validate, user_module, files: dict[str, bytes]
) -> None:
    kind = user_module(OWN.replace("{files!r}", repr(files)), "OwnValidator")

    found = validate(kind, {}, small_statistics, schema_of('feature { name: "company" }'))

    assert {str(file.relative_to(found.path)) for file in found.path.rglob("*.*") if file.is_file()} == set(files)
    assert "anomalies" not in found.properties
    assert found.describe() == ""
