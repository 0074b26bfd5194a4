"""The launcher: the words of a task's command, and what the task wrote about itself.

Paths in docstrings are those of kubeflow/pipelines, below backend/src/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, ExecutorOutput, ParameterType

from kfp_backend.driver import as_text, local_path
from kfp_backend.package import as_backend_has_it, fits, plain
from kfp_backend.rules import reject


def with_defaults(data: dict[str, Any], component: ComponentSpec) -> dict[str, Any]:
    """The ExecutorInput with the component's own defaults. v2/component/launcher_v2.go, addDefaultParams."""
    defaults = {
        name: plain(definition.default_value)
        for name, definition in component.input_definitions.parameters.items()
        if definition.HasField("default_value")
    }
    given = data["inputs"].get("parameterValues", {})
    if not defaults and not given:
        return data
    return data | {"inputs": data["inputs"] | {"parameterValues": defaults | given}}


def command_line(words: Iterable[str], data: Mapping[str, Any]) -> list[str]:
    """The words of the command with every placeholder replaced. Raises Rejected.

    v2/component/launcher_v2.go, compileCmdAndArgs: first {{$}}, then the others, in what came of that too. getPlaceholders
    gives up on a null parameter, and then nothing is replaced. A placeholder that stays as it is was a mistake.
    """
    found = placeholders(data)
    text = json.dumps(data)  # 3.0 for an integer: protojson writes 3, but a number is a double and may be written so
    replaced = []
    for word in words:
        filled = word.replace("{{$}}", text)
        for placeholder, value in found.items():
            filled = filled.replace(placeholder, value)
        if left := re.search(r"\{\{\$\..*?\}\}", filled):
            raise reject("command_line", f"{left.group()} is not replaced")
        # Kubernetes expands $(NAME) of the container's own variables, and makes one $ of $$.
        if "$$" in word or "$(" in word:
            raise reject("command_line", f"{word!r}: Kubernetes expands $$ and $(NAME)")
        replaced.append(filled)
    return replaced


def placeholders(data: Mapping[str, Any]) -> dict[str, str]:
    """What stands for each placeholder. v2/component/launcher_v2.go, getPlaceholders. Raises Rejected."""
    found: dict[str, str] = {}
    for side in ("inputs", "outputs"):
        for name, given in data[side].get("artifacts", {}).items():
            artifact = given["artifacts"][0]
            found[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = artifact["uri"]
            path = artifact.get("customPath") or local_path(artifact["uri"])
            found[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = path
    for name, value in data["inputs"].get("parameterValues", {}).items():
        if value is None:
            raise reject("placeholders", f"unknown PipelineSpec Value type: parameter {name} is null")
        found[f"{{{{$.inputs.parameters['{name}']}}}}"] = as_text(value)
    for name, given in data["outputs"].get("parameters", {}).items():
        found[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = given["outputFile"]
    return found


def read_outputs(
    output_file: Path,
    parameter_files: Mapping[str, Path],
    data: Mapping[str, Any],
    component: ComponentSpec,
    number: int,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Parameters and artifacts of a task that ended well. Raises Rejected.

    v2/component/launcher_v2.go: getExecutorOutputFile (strict protojson; no file is as good as an empty one),
    collectOutputParameters (every declared parameter is in there or in its own file), uploadOutputArtifacts.
    """
    written = ExecutorOutput()
    if output_file.exists():
        text = output_file.read_text(encoding="utf-8")
        try:
            json.loads(text, parse_constant=_no_json)
            json_format.Parse(text, written)
        except (ValueError, json_format.ParseError) as error:
            raise reject("executor_output_is_strict", f"failed to unmarshal ExecutorOutput: {error}") from None
    declared = component.output_definitions
    for kind, names, known in (
        ("parameter", written.parameter_values, declared.parameters),
        ("artifact", written.artifacts, declared.artifacts),
    ):
        if unknown := sorted(set(names) - set(known)):
            raise reject("only_declared_outputs", f"{kind}s {unknown} are not declared")
    outputs: dict[str, Any] = {}
    for name, definition in declared.parameters.items():
        if name in written.parameter_values:
            outputs[name] = plain(written.parameter_values[name])
        elif parameter_files[name].exists():
            text = parameter_files[name].read_text(encoding="utf-8")
            outputs[name] = from_text(name, text, definition.parameter_type)
        else:
            raise reject("every_output_parameter_is_written", f"failed to read output parameter {name}")
        if not fits(outputs[name], definition.parameter_type):
            expected = ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
            raise reject("output_parameters_fit", f"{name}: {outputs[name]!r} is no {expected}")
    artifacts = {}
    for position, (name, given) in enumerate(data["outputs"].get("artifacts", {}).items()):
        artifact = given["artifacts"][0]
        metadata: dict[str, Any] = {}
        if written.artifacts[name].artifacts:
            told = written.artifacts[name].artifacts[0]
            if told.uri and told.uri != artifact["uri"]:
                raise reject("uris_are_kept", f"{name}: {told.uri} is not the {artifact['uri']} that was given")
            metadata = json_format.MessageToDict(told.metadata)
        artifacts[name] = {
            "name": str(1000 * number + position),
            "uri": artifact["uri"],
            "metadata": {key: through_metadata(f"{name}.{key}", value) for key, value in metadata.items()},
        }
    return outputs, artifacts


def _no_json(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def through_metadata(place: str, value: Any) -> Any:
    """A metadata value as a consumer gets it: a boolean is a number then, lists and structs are wrapped. Raises Rejected.

    v2/metadata/converter.go, StructValueToMLMDValue and toRuntimeArtifact.
    """
    if value is None:
        raise reject("metadata_holds_no_null", f"{place}: unknown/unsupported value type null")
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": as_backend_has_it(value)}
    if isinstance(value, dict):
        return {"struct": as_backend_has_it(value)}
    return as_backend_has_it(value)


def from_text(name: str, text: str, kind: int) -> Any:
    """An output parameter from its own file. v2/metadata/converter.go, TextToPbValue. Raises Rejected."""
    try:
        if kind == ParameterType.STRING:
            return text
        if kind == ParameterType.NUMBER_INTEGER:
            return float(int(text.strip()))
        if kind == ParameterType.NUMBER_DOUBLE:
            return float(text.strip())
        if kind == ParameterType.BOOLEAN:
            truths = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
            return (truths | dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False))[text.strip()]
        return as_backend_has_it(json.loads(text))
    except (ValueError, KeyError):
        raise reject("from_text", f"TextToPbValue(text={text!r}) failed for output parameter {name}") from None
