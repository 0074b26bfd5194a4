"""The taxi pipeline in YAML and in Python."""

from __future__ import annotations

from pipeline.loading import load


def test_both_are_the_same_pipeline() -> None:
    in_yaml, in_python = load("configs/taxi/pipeline.yaml"), load("configs.taxi.definition:taxi")

    assert in_python.graph.as_json() == in_yaml.graph.as_json()
    assert in_python.graph.digest == in_yaml.graph.digest
