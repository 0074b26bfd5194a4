"""300 taxi trips through the taxi features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.data.schema_gen import ImportSchema
from components.features.transform import Transform
from schemas.artifacts import Examples, FeatureSchema, TransformedExamples, TransformGraph
from schemas.component import BeamOptions, Progress


@pytest.fixture(scope="session")
def taxi_transformed(
    small_taxi_csv: Path,
    outputs_of: Callable[[type, Path], dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TransformGraph, TransformedExamples]:
    examples, schema = Examples(tmp_path_factory.mktemp("examples")), FeatureSchema(tmp_path_factory.mktemp("schema"))
    outputs = outputs_of(Transform, tmp_path_factory.mktemp("transform"))
    ExampleGen(source=str(small_taxi_csv)).run(BeamOptions(), Progress(), examples)
    ImportSchema(path="schemas/datasets/taxi.pbtxt").run(schema)
    Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
        examples, schema, BeamOptions(), Progress(), **outputs
    )
    return outputs["transform_graph"], outputs["transformed_examples"]
