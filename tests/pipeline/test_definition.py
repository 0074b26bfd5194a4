"""A pipeline in Python takes components by class as well, TFX's among them, and is the graph that pipeline.yaml gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.check import check_pipeline
from pipeline.definition import Pipeline
from pipeline.loading import load
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

WRITTEN = """
name: mixed
seed: 3
steps:
  example_gen: {uses: tfx.v1.components.CsvExampleGen, with: {input_base: data}}
  statistics_gen: {uses: tfx.v1.components.StatisticsGen, with: {exclude_splits: [eval]}}
  schema_gen: {uses: SchemaGen}
"""


@pytest.fixture(scope="module")
def components() -> Any:
    """tfx.v1.components."""
    return resolve("tfx.v1.components")


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That of the graph in YAML."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed.yaml").write_text(WRITTEN)
    return load("mixed.yaml").graph.digest


def ended(pipeline: Pipeline, statistics: Any) -> str:
    from components.data.schema_gen import SchemaGen

    pipeline.step("schema_gen", SchemaGen(), statistics=statistics.statistics)
    return pipeline.definition().graph.digest


def test_a_class_of_TFX_s_with_settings_is_the_step_that_YAML_has(components: Any, digest: str) -> None:
    mixed = Pipeline(name="mixed", seed=3)

    example_gen = mixed.step("example_gen", components.CsvExampleGen, with_={"input_base": "data"})
    statistics = mixed.step(
        "statistics_gen", components.StatisticsGen, with_={"exclude_splits": ["eval"]}, examples=example_gen.examples
    )

    assert ended(mixed, statistics) == digest


def test_an_object_of_TFX_s_is_wired_by_its_channels_or_by_hand(components: Any, digest: str) -> None:
    mixed, by_hand = Pipeline(name="mixed", seed=3), Pipeline(name="mixed", seed=3)
    reads = components.CsvExampleGen(input_base="data")
    counts = components.StatisticsGen(examples=reads.outputs["examples"], exclude_splits=["eval"])

    mixed.step("example_gen", reads)
    statistics = mixed.step("statistics_gen", counts)
    example_gen = by_hand.step("example_gen", components.CsvExampleGen, with_={"input_base": "data"})

    assert ended(mixed, statistics) == digest
    assert ended(by_hand, by_hand.step("statistics_gen", counts, examples=example_gen.examples)) == digest


def test_what_cannot_be_a_step_is_named_with_what_to_do(components: Any) -> None:
    mixed = Pipeline(name="mixed")
    reads = components.CsvExampleGen(input_base="data")
    counts = components.StatisticsGen(examples=reads.outputs["examples"])

    with pytest.raises(ConfigError, match=r"steps.counts.with.examples: comes from a CsvExampleGen that is no step"):
        mixed.step("counts", counts)
    with pytest.raises(ConfigError, match=r"steps.reads.with.input_bas: no such setting. Did you mean 'input_base'"):
        mixed.step("reads", components.CsvExampleGen, with_={"input_bas": "data"})
    with pytest.raises(ConfigError, match=r"steps.reads.with.settings: belong to a class"):
        mixed.step("reads", reads, with_={"input_base": "data"})


def test_an_output_that_the_settings_leave_out_is_wired_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features.py").write_text("def preprocessing_fn(inputs):\n    return inputs\n")
    (tmp_path / "left_out.yaml").write_text(
        WRITTEN
        + "  transform: {uses: tfx.v1.components.Transform, with: {module_file: features.py, materialize: false}}\n"
        "  statistics_after:\n    uses: tfx.v1.components.StatisticsGen\n"
        "    inputs: {examples: transform.transformed_examples}\n"
    )

    errors = check_pipeline("left_out.yaml").errors

    assert (
        "left_out.yaml:11: steps.statistics_after.inputs.examples: transform.transformed_examples is not made with the settings "
        "that transform has. Change them, or wire 'examples' to something else"
    ) in errors, errors
