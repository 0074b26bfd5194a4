"""What a task of Kubeflow Pipelines is given, `{{$}}`: parameters, artifacts, and where its outputs are to be written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.runners.kubeflow.names import EXACT_BELOW
from schemas.errors import ConfigError

# Where Kubeflow's launcher keeps the local copy of an artifact, by the scheme of its address.
_LOCAL = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/", "file://": ""}


@dataclass(frozen=True, kw_only=True)
class GivenArtifact:
    """An artifact of Kubeflow's: an address in its own object store, which is never changed, and a little metadata.

    Its type is not told: backends hand it on empty.
    """

    name: str
    uri: str
    path: Path | None  # the local file or directory that the launcher uploads; None for a scheme that it does not know
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExecutorInput:
    """`{{$}}`, as launchers from 2.5 on substitute it."""

    parameters: Mapping[str, Any]  # numbers as they came: a whole one may be a float
    inputs: Mapping[str, GivenArtifact]
    output_parameters: frozenset[str]
    outputs: Mapping[str, GivenArtifact]
    output_file: Path

    @classmethod
    def from_json(cls, text: str) -> ExecutorInput:
        """Read the text. Raises ConfigError for any other text."""
        try:
            found = json.loads(text)
            inputs, outputs = found.get("inputs") or {}, found["outputs"]
            return cls(
                parameters=dict(inputs.get("parameterValues") or {}),
                inputs=_artifacts(inputs.get("artifacts") or {}),
                output_parameters=frozenset(outputs.get("parameters") or {}),
                outputs=_artifacts(outputs.get("artifacts") or {}),
                output_file=Path(outputs["outputFile"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            shown = text if len(text) <= 200 else text[:197] + "..."
            raise ConfigError(
                f"--executor-input {shown}: not what Kubeflow's launcher puts in the place of {{{{$}}}} "
                f"({type(error).__name__}: {error})"
            ) from error

    def text(self, name: str) -> str:
        """A parameter that is a string. Raises ConfigError when there is none of that name, or another kind."""
        value = self.parameters.get(name)
        if not isinstance(value, str):
            raise ConfigError(
                f"{{{{$}}}} has {'no parameter' if value is None else f'{value!r} as'} '{name}', which `pipeline kubeflow "
                f"compile` gives every task as a string. Compile the package again, with the version of Penstock in the image"
            )
        return value

    def changed(self, declared: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a definition that have another value than `declared` has, each of the declared type.

        Raises ConfigError naming every parameter whose value is of another type, and every one that was not given.
        """
        changed, wrong = {}, []
        for name, default in declared.items():
            if name not in self.parameters:
                wrong.append(f"{{{{$}}}} has no parameter '{name}', and the definition in the image has")
                continue
            try:
                value = _of_type(type(default), self.parameters[name])
            except ValueError as error:
                wrong.append(f"parameter '{name}': {error} (its default is {default!r})")
                continue
            if value != default:
                changed[name] = value
        if wrong:
            raise ConfigError(*wrong)
        return changed


def _artifacts(found: Mapping[str, Any]) -> dict[str, GivenArtifact]:
    """The first artifact under each name; Kubeflow's lists have one, or none for an input that is not there."""
    given = {}
    for name, listed in found.items():
        for artifact in listed.get("artifacts") or ():
            uri = str(artifact.get("uri", ""))
            given[str(name)] = GivenArtifact(
                name=str(artifact.get("name") or name),
                uri=uri,
                path=_local_path(uri, artifact.get("customPath")),
                metadata=dict(artifact.get("metadata") or {}),
            )
            break
    return given


def _local_path(uri: str, custom: str | None) -> Path | None:
    if custom:
        return Path(custom)
    for scheme, directory in _LOCAL.items():
        if uri.startswith(scheme):
            return Path(directory + uri.removeprefix(scheme))
    return Path(uri) if uri.startswith("/") else None


def _of_type(kind: type[Any], value: Any) -> Any:
    """The value as the declared type. Raises ValueError when it is of another. Without a declared type, as it came."""
    if kind is type(None) or (type(value) is kind and kind is not int):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) in (int, float) and value == int(value):
        if abs(value) >= EXACT_BELOW:
            raise ValueError(f"{value!r} is too large: Kubeflow passes numbers as doubles, exact below 2**53")
        return int(value)
    raise ValueError(f"expected {_NAMES.get(kind, kind.__name__)}, found {value!r}")


_NAMES = {bool: "a boolean", int: "a whole number", float: "a number", str: "a string"}
