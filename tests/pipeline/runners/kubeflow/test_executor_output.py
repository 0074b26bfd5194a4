"""What is written for Kubeflow's launcher is what its strict reader accepts, and nothing that was not declared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.runners.kubeflow import executor_output
from pipeline.runners.kubeflow.executor_input import ExecutorInput
from schemas.errors import StoreError


@pytest.fixture
def given(tmp_path: Path) -> ExecutorInput:
    """Two parameters and one artifact, in a directory that is not there yet."""
    return ExecutorInput.from_json(
        json.dumps(
            {
                "outputs": {
                    "parameters": {"outcome": {"outputFile": "/o"}, "blessed": {"outputFile": "/b"}},
                    "artifacts": {"model": {"artifacts": [{"name": "model", "uri": "minio://b/model"}]}},
                    "outputFile": str(tmp_path / "outputs" / "output_metadata.json"),
                }
            }
        )
    )


def test_is_an_executor_output_to_protobufs_own_parser(given: ExecutorInput) -> None:
    metadata = {"model": {"digest": "sha256:1", "auc": 0.75, "blessed": True, "curve": [{"x": 1, "y": 0.5}]}}

    executor_output.write(given, {"outcome": "done", "blessed": True}, metadata)

    parsed = json_format.Parse(given.output_file.read_text(), pipeline_spec_pb2.ExecutorOutput())
    assert parsed.parameter_values["outcome"].string_value == "done"
    assert parsed.parameter_values["blessed"].bool_value is True
    (artifact,) = parsed.artifacts["model"].artifacts
    assert artifact.uri == "minio://b/model"
    assert json_format.MessageToDict(artifact.metadata) == metadata["model"]


def test_has_no_null_no_number_that_is_not_finite_and_no_half_of_a_character(given: ExecutorInput) -> None:
    metadata = {"model": {"a": None, "b": math.nan, "c": [1.0, math.inf, None], "d": {"e": None}, "f": "x\udc80"}}

    executor_output.write(given, {"outcome": "done"}, metadata)

    (artifact,) = json.loads(given.output_file.read_text())["artifacts"]["model"]["artifacts"]
    assert artifact["metadata"] == {"c": [1.0], "d": {}, "f": "x?"}


def test_mentions_nothing_that_the_package_does_not_declare(given: ExecutorInput) -> None:
    executor_output.write(given, {"outcome": "done", "other": "x"}, {"model": {}, "roc": {"a": 1}})

    said = json.loads(given.output_file.read_text())
    assert list(said["parameterValues"]) == ["outcome"]
    assert list(said["artifacts"]) == ["model"]


def test_cuts_long_text_of_metadata_and_never_a_parameter(given: ExecutorInput) -> None:
    executor_output.write(given, {"outcome": "x" * 9000}, {"model": {"why": "y" * 9000}})

    said = json.loads(given.output_file.read_text())
    assert said["parameterValues"]["outcome"] == "x" * 9000
    assert len(said["artifacts"]["model"]["artifacts"][0]["metadata"]["why"]) == 4000


def test_replaces_what_an_earlier_attempt_wrote_and_leaves_nothing_beside_it(given: ExecutorInput) -> None:
    for outcome in ("reused", "done"):
        executor_output.write(given, {"outcome": outcome})

    assert json.loads(given.output_file.read_text())["parameterValues"] == {"outcome": "done"}
    assert [file.name for file in given.output_file.parent.iterdir()] == ["output_metadata.json"]


def test_a_place_that_cannot_be_written_is_named(given: ExecutorInput) -> None:
    given.output_file.parent.write_text("a file")

    with pytest.raises(StoreError, match="what Kubeflow is to be told cannot be written there"):
        executor_output.write(given, {"outcome": "done"})
