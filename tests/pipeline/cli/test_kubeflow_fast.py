"""`--fast` for Kubeflow: packages whose pods run ours in the place of TFX's, and what `compile` and `run` say of that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Command = Any
Api = Any

MODULE = """
from tfx import v1 as tfx


def create(sample: str = "all"):
    example_gen = tfx.components.CsvExampleGen(input_base="/mnt/penstock/data")
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    return tfx.dsl.Pipeline(pipeline_name="flowers", components=[example_gen, statistics_gen, schema_gen, validator])
"""
DEFINITION = """\
name: flowers
tfx: {pipeline: "flowers_pipeline:create", arguments: {sample: "${parameters.sample}"}}
parameters: {sample: all}
kubeflow:
  image: registry.example.com/team/flowers:1
  defaults: {volumes: [{claim: penstock, path: /mnt/penstock}]}
"""
OURS = "statistics_gen: ours for TFX's StatisticsGen"
THEIRS = "example_validator: TFX's own: --fast swaps nothing for ExampleValidator"


@pytest.fixture
def flowers(project: Path) -> Path:
    """The project's directory, with a TFX pipeline and its definition in YAML."""
    (project / "flowers_pipeline.py").write_text(MODULE)
    (project / "flowers.yaml").write_text(DEFINITION)
    return project


def test_a_package_says_what_was_swapped_in_it(command: Command, flowers: Path) -> None:
    said = command("kubeflow", "compile", "flowers.yaml", "--fast", "-o", "flowers-package.yaml")
    plain = command("kubeflow", "compile", "flowers.yaml", "-o", "plain.yaml", "--json")

    assert said.code == 0, said.err
    assert {OURS, THEIRS} <= {line.strip() for line in said.out.splitlines()}
    assert "tfx.fast=true" in (flowers / "flowers-package.yaml").read_text()
    assert "fast" not in plain.data
    assert "tfx.fast" not in (flowers / "plain.yaml").read_text()


def test_a_run_has_ours_in_its_package_and_says_so(command: Command, kfp_api: Api, flowers: Path) -> None:
    said = command("kubeflow", "run", "flowers.yaml", "--fast", "--set", "parameters.sample=some")

    assert said.code == 0, said.err
    assert {OURS, THEIRS} <= set(said.out.splitlines())
    (version,), (run,) = kfp_api.versions.items.values(), kfp_api.runs.items.values()
    assert "tfx.fast=true" in json.dumps(version)
    assert run["runtime_config"]["parameters"] == {"sample": "some"}  # of the run still, not of the package


def test_a_run_of_a_function_is_compiled_for_its_image_and_with_ours(
    command: Command, kfp_api: Api, flowers: Path
) -> None:
    volumes = "kubeflow.defaults.volumes=[{claim: penstock, path: /mnt/penstock}]"
    given = ("--image", "registry.example.com/team/flowers:2", "--set", volumes)

    said = command("kubeflow", "run", "flowers_pipeline:create", "--fast", *given, "--json")

    assert said.code == 0, said.err
    assert said.data["fast"]["statistics_gen"] == "ours for TFX's StatisticsGen"
    (version,) = kfp_api.versions.items.values()
    assert "registry.example.com/team/flowers:2" in json.dumps(version)
    assert "tfx.fast=true" in json.dumps(version)


def test_of_a_package_that_is_compiled_nothing_is_swapped(command: Command, kfp_api: Api, toy_package: Path) -> None:
    said = command("kubeflow", "run", str(toy_package), "--fast")

    assert said.code == 2
    assert "is compiled, with the image that it names and the steps that it has" in said.err
    assert "or leave --fast out" in said.err
    assert kfp_api.calls("POST") == []
