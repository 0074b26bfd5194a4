"""What Kubeflow's launcher puts in the place of {{$}} is read from whatever version wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.kubeflow.executor_input import ExecutorInput
from schemas.errors import ConfigError

# As launcher_v2.go of 2.5.0 writes it, with protojson's spaces.
OF_2_5 = """{"inputs":{"artifacts":{"examples":{"artifacts":[{"name":"17", "type":{}, "uri":"minio://mlpipeline/v2/artifacts/taxi/1/a/examples",
"metadata":{"digest":"sha256:1", "blessed":1}}]}}, "parameterValues":{"train_steps":1000, "rate":0.5, "note":"a", "on":true}},
"outputs":{"parameters":{"outcome":{"outputFile":"/tmp/kfp/outputs/outcome"}},
"artifacts":{"model":{"artifacts":[{"type":{"schemaTitle":"system.Model", "schemaVersion":"0.0.1"},
"uri":"minio://mlpipeline/v2/artifacts/taxi/1/trainer/model"}]}}, "outputFile":"/tmp/kfp_outputs/output_metadata.json"}}"""


def given(**parameters: Any) -> ExecutorInput:
    outputs = {"outputFile": "/tmp/kfp_outputs/output_metadata.json"}
    return ExecutorInput.from_json(json.dumps({"inputs": {"parameterValues": parameters}, "outputs": outputs}))


def test_of_the_oldest_backend() -> None:
    found = ExecutorInput.from_json(OF_2_5)

    assert found.parameters == {"train_steps": 1000, "rate": 0.5, "note": "a", "on": True}
    assert found.inputs["examples"].metadata == {"digest": "sha256:1", "blessed": 1}
    assert found.output_parameters == {"outcome"}
    assert found.outputs["model"].uri == "minio://mlpipeline/v2/artifacts/taxi/1/trainer/model"
    assert found.outputs["model"].path == Path("/minio/mlpipeline/v2/artifacts/taxi/1/trainer/model")
    assert found.output_file == Path("/tmp/kfp_outputs/output_metadata.json")


def test_of_a_newer_one_has_names_and_places_of_its_own() -> None:
    text = json.dumps(
        {
            "outputs": {
                "artifacts": {
                    "model": {"artifacts": [{"name": "model", "uri": "s3://b/x", "customPath": "/data/x"}]},
                    "none": {"artifacts": []},
                },
                "outputFile": "/s3/b/task/output_metadata.json",
            }
        }
    )

    found = ExecutorInput.from_json(text)

    assert found.parameters == {}
    assert (found.outputs["model"].name, found.outputs["model"].path) == ("model", Path("/data/x"))
    assert "none" not in found.outputs
    assert found.output_file == Path("/s3/b/task/output_metadata.json")


@pytest.mark.parametrize(
    ("uri", "path"),
    [("gs://b/x", "/gcs/b/x"), ("s3://b/x", "/s3/b/x"), ("file:///a/x", "/a/x"), ("/a/x", "/a/x"), ("oci://b/x", None)],
)
def test_the_local_copy_of_an_artifact_is_where_the_launcher_has_it(uri: str, path: str | None) -> None:
    outputs = {"artifacts": {"model": {"artifacts": [{"uri": uri}]}}, "outputFile": "/o.json"}

    found = ExecutorInput.from_json(json.dumps({"outputs": outputs})).outputs["model"].path

    assert found == (Path(path) if path else None)


def test_numbers_get_their_declared_type_back() -> None:
    changed = given(steps=20.0, rate=1, on=False, note="b").changed({"steps": 10, "rate": 0.5, "on": True, "note": "a"})

    assert changed == {"steps": 20, "rate": 1.0, "on": False, "note": "b"}
    assert [type(value) for value in changed.values()] == [int, float, bool, str]


def test_a_value_that_is_the_default_is_no_change() -> None:
    assert given(steps=10.0, rate=0.5).changed({"steps": 10, "rate": 0.5}) == {}


def test_every_parameter_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError) as refused:
        given(steps="20", on=1.0, note=3.0, large=1e17).changed(
            {"steps": 10, "on": True, "note": "a", "large": 1, "rate": 0.5}
        )

    assert refused.value.problems == (
        "parameter 'steps': expected a whole number, found '20' (its default is 10)",
        "parameter 'on': expected a boolean, found 1.0 (its default is True)",
        "parameter 'note': expected a string, found 3.0 (its default is 'a')",
        "parameter 'large': 1e+17 is too large: Kubeflow passes numbers as doubles, exact below 2**53 (its default is 1)",
        "{{$}} has no parameter 'rate', and the definition in the image has",
    )


@pytest.mark.parametrize("text", ["{{$}}", "[]", "{}", '{"outputs": {"artifacts": {"a": 1}, "outputFile": "/o"}}'])
def test_what_is_no_executor_input_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ConfigError, match="not what Kubeflow's launcher puts in the place of"):
        ExecutorInput.from_json(text)
