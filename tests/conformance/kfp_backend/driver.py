"""The driver: where a task's inputs come from, and the ExecutorInput that its pod is given.

Paths in docstrings are those of kubeflow/pipelines, below backend/src/.
"""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, ExecutorInput, ParameterType, PipelineTaskSpec

from kfp_backend.package import Package, fits, plain
from kfp_backend.rules import reject

PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts"
LOCAL_ROOT = "/minio/mlpipeline/v2/artifacts"


@dataclass
class Execution:
    """What the backend's metadata knows of one task, or of one group of tasks."""

    name: str
    task: PipelineTaskSpec | None = None
    state: str = "RUNNING"  # COMPLETE, FAILED, CANCELED (its condition was false); what reported nothing stays RUNNING
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    output_artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    component: ComponentSpec | None = None
    children: dict[str, Execution] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The run that a task belongs to."""

    id: str
    name: str
    display_name: str


def resolve_inputs(
    package: Package, name: str, task: PipelineTaskSpec, dag: Execution, run: Run
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The parameters and the artifacts that a task is given. Raises Rejected.

    v2/driver/resolve.go, resolveInputs.
    """
    component = package.component(task)
    definitions = component.input_definitions.parameters
    parameters: dict[str, Any] = {}
    if component.WhichOneof("implementation") == "dag":
        # resolveInputs, isDagDriver: a group gets the defaults, or null, of optional inputs that are not wired.
        for parameter, definition in definitions.items():
            if parameter not in task.inputs.parameters and definition.is_optional:
                parameters[parameter] = (
                    plain(definition.default_value) if definition.HasField("default_value") else None
                )
    for parameter, given in task.inputs.parameters.items():
        value = resolve_parameter(f"{name}.{parameter}", given, task, dag, run)
        if value is None:
            # ErrResolvedParameterNull: left out for an optional input, an error for the others.
            if parameter in definitions and definitions[parameter].is_optional:
                continue
            raise reject("resolve_inputs", f"{name}.{parameter}: the resolved input parameter is null")
        parameters[parameter] = value
    for parameter, definition in definitions.items():
        if parameter not in parameters:
            if not definition.is_optional and not definition.HasField("default_value"):
                message = f"neither value nor default value provided for non-optional parameter {name}.{parameter}"
                raise reject("resolve_inputs", message)
        elif parameters[parameter] is not None:
            parameters[parameter] = as_declared(f"{name}.{parameter}", parameters[parameter], definition.parameter_type)
    artifacts = {port: resolve_artifact(f"{name}.{port}", given, dag) for port, given in task.inputs.artifacts.items()}
    return parameters, artifacts


def resolve_parameter(place: str, given: Any, task: PipelineTaskSpec, dag: Execution, run: Run) -> Any:
    """One parameter's value; None where the group's own input is null. Raises Rejected.

    v2/driver/resolve.go, resolveInputParameter. A placeholder of the run is recognised only when it is the whole constant.
    """
    kind = given.WhichOneof("kind")
    if kind == "component_input_parameter":
        if given.component_input_parameter not in dag.parameters:
            message = f"{place}: parent DAG does not have input parameter {given.component_input_parameter}"
            raise reject("resolve_parameter", message)
        return dag.parameters[given.component_input_parameter]
    if kind == "task_output_parameter":
        wanted = given.task_output_parameter
        return output_parameter(place, dag, wanted.producer_task, wanted.output_parameter_key)
    if kind == "runtime_value":
        value = plain(given.runtime_value.constant)
        known = {
            "{{$.pipeline_job_name}}": run.display_name,
            "{{$.pipeline_job_resource_name}}": run.name,
            "{{$.pipeline_job_uuid}}": run.id,
            "{{$.pipeline_task_name}}": task.task_info.name,
        }
        if isinstance(value, str):
            value = known.get(value, value)
            if "{{$." in value:
                raise reject("resolve_parameter", f"{place}: {value!r} is not replaced inside a longer text")
        return value
    if kind == "task_final_status":
        producer = dag.children[task.dependent_tasks[0]]
        return {
            "state": producer.state,
            "pipelineTaskName": producer.name,
            "pipelineJobResourceName": run.name,
            "error": {},
        }
    raise reject("resolve_parameter", f"{place}: parameter spec of type {kind} not implemented yet")


def output_parameter(place: str, dag: Execution, producer: str, key: str) -> Any:
    """An output of an earlier task, or of the task inside an earlier group that the group names. Raises Rejected.

    v2/driver/resolve.go, resolveUpstreamParameters.
    """
    found = dag.children.get(producer)
    if found is None:
        raise reject("output_parameter", f"{place}: producer task, {producer}, not in tasks")
    if found.component is not None and found.component.WhichOneof("implementation") == "dag":
        selector = found.component.dag.outputs.parameters[key]
        if selector.WhichOneof("kind") != "value_from_parameter":
            raise reject("output_parameter", f"{place}: this harness has no {selector.WhichOneof('kind')}")
        inner = selector.value_from_parameter
        return output_parameter(place, found, inner.producer_subtask, inner.output_parameter_key)
    if key not in found.outputs:
        raise reject("output_parameter", f"{place}: task {producer} has no output parameter {key}")
    return found.outputs[key]


def resolve_artifact(place: str, given: Any, dag: Execution) -> list[dict[str, Any]]:
    """The artifacts of one input port. Raises Rejected.

    v2/driver/resolve.go, resolveInputArtifact and resolveUpstreamArtifacts.
    """
    if given.WhichOneof("kind") == "component_input_artifact":
        if given.component_input_artifact not in dag.artifacts:
            message = f"{place}: parent DAG does not have input artifact {given.component_input_artifact}"
            raise reject("resolve_artifact", message)
        return dag.artifacts[given.component_input_artifact]
    wanted = given.task_output_artifact
    return [output_artifact(place, dag, wanted.producer_task, wanted.output_artifact_key)]


def output_artifact(place: str, dag: Execution, producer: str, key: str) -> dict[str, Any]:
    """An artifact of an earlier task, with no type: what went through metadata has lost its schema. Raises Rejected.

    v2/driver/resolve.go, resolveUpstreamArtifacts; v2/metadata/client.go, GetOutputArtifactsByExecutionId (Schema: "").
    """
    found = dag.children.get(producer)
    if found is None:
        raise reject("output_artifact", f"{place}: cannot find producer task {producer!r}")
    if found.component is not None and found.component.WhichOneof("implementation") == "dag":
        (selector,) = found.component.dag.outputs.artifacts[key].artifact_selectors
        return output_artifact(place, found, selector.producer_subtask, selector.output_artifact_key)
    if key not in found.output_artifacts:
        raise reject("output_artifact", f"{place}: cannot find output artifact key {key!r} in task {producer!r}")
    return found.output_artifacts[key]


def as_declared(place: str, value: Any, kind: int) -> Any:
    """The value as the task's declaration has it: anything becomes text for a STRING, else the type must fit. Raises Rejected.

    v2/driver/resolve.go, handleParamTypeValidationAndConversion.
    """
    if kind == ParameterType.STRING and not isinstance(value, str):
        return as_text(value)
    if not fits(value, kind):
        expected = ParameterType.ParameterTypeEnum.Name(kind)
        raise reject("as_declared", f"input parameter {place} type mismatch: expect {expected}, got {value!r}")
    return value


def as_text(value: Any) -> str:
    """A value as text. v2/metadata/converter.go, PbValueToText: 'f' without an exponent, and JSON for lists and structs."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize(), "f")
    return json.dumps(value)


def executor_input(
    component: ComponentSpec,
    task_name: str,
    parameters: Mapping[str, Any],
    artifacts: Mapping[str, list[dict[str, Any]]],
    root: str,
    backend: tuple[int, int],
) -> dict[str, Any]:
    """The ExecutorInput as JSON data; maps without entries are left out, as protojson leaves them out.

    v2/driver/driver.go, provisionOutputs: each output artifact has an address of its own below the task's; the output file's
    path was /tmp/kfp_outputs/output_metadata.json (2.5.0), and is beside the artifacts now.
    """
    salt = str(uuid.uuid4())
    oldest = backend < (2, 14)
    outputs: dict[str, Any] = {
        "artifacts": {
            name: {
                "artifacts": [
                    {
                        **({} if oldest else {"name": name}),
                        "type": json_format.MessageToDict(definition.artifact_type),
                        "uri": f"{root}/{task_name}/{salt}/{name}",
                    }
                ]
            }
            for name, definition in component.output_definitions.artifacts.items()
        },
        "parameters": {
            name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in component.output_definitions.parameters
        },
        "outputFile": "/tmp/kfp_outputs/output_metadata.json"
        if oldest
        else local_path(f"{root}/{task_name}/{salt}/output_metadata.json"),
    }
    inputs = {
        "parameterValues": dict(parameters),
        "artifacts": {name: {"artifacts": found} for name, found in artifacts.items()},
    }
    data = {
        side: {key: value for key, value in content.items() if value}
        for side, content in (("inputs", inputs), ("outputs", outputs))
    }
    json_format.ParseDict(data, ExecutorInput())  # the harness's own mistake otherwise
    return data


def local_path(uri: str) -> str:
    """Where the launcher keeps an artifact in the pod. v2/component/launcher_v2.go, LocalPathForURI. Raises Rejected."""
    for scheme, directory in (("gs://", "/gcs/"), ("minio://", "/minio/"), ("s3://", "/s3/")):
        if uri.startswith(scheme):
            return posixpath.normpath(directory + uri.removeprefix(scheme))
    raise reject("local_path", f"failed to generate local path for URI {uri}: unsupported storage scheme")
