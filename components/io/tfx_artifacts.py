"""TFX's artifact types and ours: by TYPE_NAME in both directions, with their properties."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from schemas.artifact import ABSENT, Artifact, SplitArtifact
from schemas.artifacts import (
    AnalyzerCache,
    Anomalies,
    Blessing,
    Evaluation,
    Examples,
    FeatureSchema,
    Hyperparameters,
    InfraBlessing,
    Model,
    ModelRun,
    PushedModel,
    Statistics,
    TransformGraph,
    Verdict,
)
from schemas.component import OUTPUT
from schemas.errors import ArtifactError, ConfigError

OURS: Mapping[str, type[Artifact]] = {
    kind.TYPE_NAME: kind
    for kind in (
        AnalyzerCache,
        Anomalies,
        Blessing,
        Evaluation,
        Examples,
        FeatureSchema,
        Hyperparameters,
        InfraBlessing,
        Model,
        ModelRun,
        PushedModel,
        Statistics,
        TransformGraph,
    )
}
"""Our class for each of TFX's standard types that we have one for."""

CUSTOM = "custom_properties"  # property that holds TFX's custom properties, which its types do not declare
_VALUE_FILE = "value"  # in the directory of a TFX ValueArtifact, whose uri is a file
_VERSION = "tfx_version"  # custom property: without it TFX takes an artifact for one of an old layout

_NOTED: Mapping[str, tuple[str, ...]] = {
    "Examples": ("input_fingerprint",),  # has the times of the files
    "ModelBlessing": ("current_model", "current_model_id", "baseline_model", "baseline_model_id"),
}
"""Custom properties of TFX's own that are different in another directory, or at another time, by type."""

_custom: dict[str, type[Artifact]] = {}  # by TYPE_NAME, the classes made for types that are not TFX's own


def artifact_of(kind: type[Any]) -> type[Artifact]:
    """Our class for an artifact class of TFX's: a standard type's own, or one made for it that keeps its name.

    A type derived from a standard one may be wired to what takes that. Raises ConfigError for a type without a name, and where
    two classes have one name.
    """
    from tfx.types import standard_artifacts

    where = f"{kind.__module__}.{kind.__qualname__}"
    name = kind.TYPE_NAME
    if not name:
        raise ConfigError(f"{where} has no TYPE_NAME. Give the artifact type one, which no other type has")
    if name in OURS:
        standard = next(
            one
            for one in vars(standard_artifacts).values()
            if getattr(one, "TYPE_NAME", None) == name and _is_type(one)
        )
        if kind is not standard:
            raise ConfigError(_two_of_a_name(name, where, f"{standard.__module__}.{standard.__qualname__}"))
        return OURS[name]
    known = _custom.get(name)
    if known is not None:
        its = f"{known.__module__}.{known.__qualname__}"
        if its != where:
            raise ConfigError(_two_of_a_name(name, where, its))
        return known
    base = next(
        (OURS[vars(parent)["TYPE_NAME"]] for parent in kind.__mro__[1:] if vars(parent).get("TYPE_NAME") in OURS),
        Artifact,
    )
    made: Any = type(
        kind.__name__,
        (base,),
        {"TYPE_NAME": name, "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__},
    )
    _custom[name] = made
    return _custom[name]


def _is_type(found: Any) -> bool:
    return isinstance(found, type) and found.__module__ == "tfx.types.standard_artifacts"


def _two_of_a_name(name: str, one: str, other: str) -> str:
    return f"two artifact types are called '{name}': {one} and {other}. Give one of them another TYPE_NAME"


def out(kind: type[Artifact]) -> Any:
    """`Out[kind]`, of a class that is known only at run time."""
    return Annotated[kind, OUTPUT]


def to_tfx(kind: type[Any], artifact: Artifact, scratch: Path | None = None) -> Any:
    """`artifact`, a step's input, as an instance of TFX's class `kind`, with the properties that TFX's readers look at.

    What TFX made keeps the properties it was given; of ours, those that follow from the files are filled in. A view of an
    artifact that TFX expects to hold one file alone is made under `scratch`. Raises ArtifactError for a property that the
    type does not take.
    """
    found = _empty(kind, artifact.path)
    for name, value in {**_from_files(kind, artifact), **artifact.properties}.items():
        if name in (kind.PROPERTIES or {}):
            try:
                setattr(found, name, _from_plain(kind.PROPERTIES[name], value))
            except (ValueError, AttributeError, TypeError) as error:
                raise ArtifactError(f"{artifact.path}: property '{name}' of {kind.TYPE_NAME}: {error}") from error
    given: Mapping[str, Any] = artifact.properties.get(CUSTOM, {})
    for name, value in {**_custom_from_files(artifact), **given, **_decided(artifact)}.items():
        set_custom(found, name, value)
    if scratch is not None and isinstance(artifact, Hyperparameters):
        found.uri = str(_alone(artifact.file, scratch))
    if hasattr(found, "read") and callable(found.read):
        found.read()  # a ValueArtifact knows its value only then
    return found


def told_properties(kind: type[Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Of an artifact's properties those that `to_tfx` passes on to a reader of TFX's class `kind`, and that do not follow from files.

    Left out is what TFX notes of the place and time that an artifact was made at, which says nothing of what it is.
    """
    told = {**_spans(properties), **{name: one for name, one in properties.items() if name in (kind.PROPERTIES or {})}}
    noted = _NOTED.get(kind.TYPE_NAME, ())
    custom = {name: one for name, one in properties.get(CUSTOM, {}).items() if name not in noted}
    absent = {ABSENT: True} if properties.get(ABSENT) else {}
    return told | ({CUSTOM: custom} if custom else {}) | absent


def empty_tfx(kind: type[Any], path: Path, properties: Mapping[str, Any], custom: Mapping[str, Any]) -> Any:
    """An output of TFX's class `kind` to be filled at `path`, an existing directory."""
    found = _empty(kind, path)
    for name, value in properties.items():
        setattr(found, name, value)
    for name, value in custom.items():
        set_custom(found, name, value)
    return found


def properties_of(found: Any) -> dict[str, Any]:
    """The properties that TFX's artifact was given, as JSON data: its type's own by name, the others under `CUSTOM`."""
    own = {name: _property(getattr(found, name)) for name in found.mlmd_artifact.properties}
    custom = {name: _plain(value) for name, value in found.mlmd_artifact.custom_properties.items() if name != _VERSION}
    return own | ({CUSTOM: custom} if custom else {})


def finish(artifact: Artifact, found: Any) -> None:
    """Give an output of ours what TFX said of it in `found`, and what our own steps say of such an artifact."""
    artifact.properties.update(properties_of(found))
    if isinstance(artifact, Verdict):
        reasons = list(artifact.reasons)
        artifact.properties.update(blessed=artifact.blessed, reasons=reasons)


def location(kind: type[Any], path: Path) -> Path:
    """What TFX calls the uri of an artifact in directory `path`: a ValueArtifact's is a file in it."""
    from tfx.types.value_artifact import ValueArtifact

    return path / _VALUE_FILE if issubclass(kind, ValueArtifact) else path


def _empty(kind: type[Any], path: Path) -> Any:
    from tfx.version import __version__

    found = kind()
    found.uri = str(location(kind, path))
    found.set_string_custom_property(_VERSION, __version__)
    return found


def _from_files(kind: type[Any], artifact: Artifact) -> dict[str, Any]:
    """The properties of TFX's type that follow from the files, or from what our own steps say."""
    found: dict[str, Any] = {}
    if isinstance(artifact, SplitArtifact):
        from tfx.types import artifact_utils

        found["split_names"] = artifact_utils.encode_split_names(list(artifact.splits))
    return found | _spans(artifact.properties)


def _spans(properties: Mapping[str, Any]) -> dict[str, int]:
    """TFX's span and version of what our ExampleGen read."""
    spans = properties.get("spans")
    if not spans:
        return {}
    newest = spans[-1]
    version = {} if newest.get("version") is None else {"version": int(newest["version"])}
    return {"span": int(newest["span"]), **version}


def _custom_from_files(artifact: Artifact) -> dict[str, Any]:
    if isinstance(artifact, Examples):
        return {"payload_format": "FORMAT_TF_EXAMPLE", "file_format": "tfrecords_gzip"}
    return {}


def _decided(artifact: Artifact) -> dict[str, Any]:
    """What holds whatever TFX said before: a model that it refused may have been blessed anyway."""
    return {"blessed": int(artifact.blessed)} if isinstance(artifact, Verdict) else {}


def _alone(file: Path, scratch: Path) -> Path:
    """A directory with nothing but a link to `file` in it."""
    directory = scratch / f"{file.stem}-alone"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / file.name
    link.unlink(missing_ok=True)
    link.symlink_to(file.absolute())
    return directory


def set_custom(found: Any, name: str, value: Any) -> None:
    """Give an artifact of TFX's a custom property, as its own setter for the value's type does."""
    if isinstance(value, bool | int):
        found.set_int_custom_property(name, int(value))
    elif isinstance(value, float):
        found.set_float_custom_property(name, value)
    elif isinstance(value, str):
        found.set_string_custom_property(name, value)
    else:
        found.set_json_value_custom_property(name, value)


def _property(value: Any) -> Any:
    """A declared property as JSON data: a message with its type."""
    from google.protobuf import any_pb2, json_format, message

    if not isinstance(value, message.Message):
        return value
    packed = any_pb2.Any()
    packed.Pack(value)
    return json_format.MessageToDict(packed)


def _from_plain(declared: Any, value: Any) -> Any:
    """What `_property` gave, as a property of the declared type takes it. Raises ValueError."""
    from google.protobuf import any_pb2, json_format
    from tfx.types.artifact import PropertyType
    from tfx.utils import proto_utils

    if declared.type is not PropertyType.PROTO or value is None:
        return value
    try:
        return proto_utils.unpack_proto_any(json_format.ParseDict(value, any_pb2.Any()))
    except (json_format.ParseError, KeyError, TypeError) as error:
        raise ValueError(f"{value!r} is no message: {error}") from error


def _plain(value: Any) -> Any:
    """A value of ML Metadata's as JSON data."""
    kind = value.WhichOneof("value")
    if kind == "struct_value":
        from google.protobuf import json_format

        plain = json_format.MessageToDict(value.struct_value)
        return plain.get("__value__", plain)
    return getattr(value, kind) if kind in ("int_value", "double_value", "string_value", "bool_value") else None
