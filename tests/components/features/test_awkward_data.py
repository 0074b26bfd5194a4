"""Awkward CSV files through ExampleGen and Transform: what TFT's own Beam pipeline makes of the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from schemas.artifacts import Examples, FeatureSchema
from schemas.component import BeamOptions, Progress

SCHEMA = """
feature { name: "key" type: INT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "big" type: INT }
feature { name: "mixed" type: BYTES }
feature { name: "never" type: BYTES }
feature { name: "näme" type: BYTES }
feature { name: "said" type: BYTES }
feature { name: "word" type: BYTES }
"""

FUNCTION = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    names = ("mixed", "never", "näme", "said", "word")
    codes = {
        name: tft.compute_and_apply_vocabulary(inputs[name], num_oov_buckets=1, vocab_filename=f"words_{at}")
        for at, name in enumerate(names)
    }
    return {
        "row": inputs["key"],
        "unit": tft.scale_to_0_1(inputs["key"]),
        "big": inputs["big"],
        "big_code": tft.compute_and_apply_vocabulary(inputs["big"], vocab_filename="big"),
        "big_bucket": tft.bucketize(inputs["big"], 3),
        "said_again": inputs["said"],
        **codes,
    }
"""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> FeatureSchema:
    schema = FeatureSchema(tmp_path_factory.mktemp("schema"))
    schema.file.write_text(SCHEMA, encoding="utf-8")
    return schema


@pytest.mark.slow
def test_every_kind_of_cell_is_transformed_as_TFT_does(
    awkward_csv: Path,
    schema: FeatureSchema,
    user_module: Any,
    transforms: Any,
    tft_transforms: Any,
    assert_same_transform: Any,
    tmp_path: Path,
) -> None:
    examples = Examples(tmp_path / "examples")
    examples.path.mkdir()
    ExampleGen(source=f"{awkward_csv}/*.csv", splits={"train": 1}).run(BeamOptions(), Progress(), examples)
    dotted = user_module(FUNCTION, "preprocessing_fn")

    found = transforms(examples, schema, dotted)

    assert "analyzed_by" not in found[0].properties
    assert_same_transform(found, tft_transforms(examples, schema, dotted))
