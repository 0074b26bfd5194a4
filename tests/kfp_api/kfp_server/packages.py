"""What the API server checks of a package, and of the parameters of a run of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kfp_server.calls import INVALID_ARGUMENT, Json, Refusal


def check_package(content: bytes) -> Json:
    """The package as KFP keeps it: the pipeline alone, or with its platform. Refused as v2_template.go does."""
    import yaml
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        documents = [document for document in yaml.safe_load_all(content) if document]
    except yaml.YAMLError as error:
        raise Refusal(INVALID_ARGUMENT, f"unable to decode yaml document: {error}") from error
    spec: Json | None = None
    platform: Json | None = None
    for document in documents:
        if isinstance(document, dict) and "pipelineInfo" in document:
            if spec is not None:
                raise Refusal(INVALID_ARGUMENT, "multiple pipeline specs provided")
            spec = document
        elif isinstance(document, dict) and "platforms" in document:
            platform = document
    if spec is None:
        raise Refusal(INVALID_ARGUMENT, "no pipeline spec is provided")
    try:
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise Refusal(INVALID_ARGUMENT, f"invalid v2 pipeline spec: {error}") from error
    if spec.get("schemaVersion") != "2.1.0":
        version = spec.get("schemaVersion")
        raise Refusal(
            INVALID_ARGUMENT, f"KFP only supports schema version 2.1.0, but the pipeline spec has version {version}"
        )
    if not re.search(r"[a-z0-9]", spec["pipelineInfo"].get("name", "")):
        raise Refusal(
            INVALID_ARGUMENT,
            "invalid v2 pipeline spec: name should consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character",
        )
    if "root" not in spec:
        raise Refusal(INVALID_ARGUMENT, "invalid v2 pipeline spec: root component is empty")
    return {"pipeline_spec": spec, "platform_spec": platform} if platform else spec


def check_parameters(spec: Json, given: Json) -> None:
    """Refused as validatePipelineJobInputs does."""
    known: Json = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    kinds: Mapping[str, tuple[type, ...]] = {
        "NUMBER_DOUBLE": (int, float),
        "NUMBER_INTEGER": (int, float),
        "STRING": (str,),
        "BOOLEAN": (bool,),
        "LIST": (list,),
        "STRUCT": (dict,),
    }
    for name, wanted in known.items():
        if name not in given:
            if not wanted.get("isOptional") and "defaultValue" not in wanted:
                raise Refusal(
                    INVALID_ARGUMENT,
                    f"parameter {name} is not optional, yet has neither default value nor user provided value",
                )
            continue
        kind = wanted["parameterType"]
        if not isinstance(given[name], kinds[kind]) or (isinstance(given[name], bool) and kind != "BOOLEAN"):
            raise Refusal(INVALID_ARGUMENT, f"input parameter {name} requires type {kind.lower()}")
    extra = sorted(set(given) - set(known))
    if extra:
        raise Refusal(INVALID_ARGUMENT, f"parameter {', '.join(extra)} not found in the pipeline's input definitions")
