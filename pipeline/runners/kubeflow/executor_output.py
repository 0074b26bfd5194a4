"""What a task tells Kubeflow Pipelines of its outputs: parameters, and metadata of artifacts, as the launcher reads them."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.runners.kubeflow.executor_input import ExecutorInput
from schemas.errors import StoreError

_LONGEST = 4000  # characters of one string: metadata is for a table in the UI, the whole text is in the summary


def write(
    given: ExecutorInput, parameters: Mapping[str, Any], metadata: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write the output file that `{{$}}` names, whole or not at all: `parameters`, and the metadata of artifacts by name.

    The launcher's reader is strict. What it would refuse does not get there: nulls and numbers that are not finite are left
    out, text is valid Unicode, and what the package does not declare is not mentioned. Addresses stay as they were given.
    Raises StoreError when the file cannot be written.
    """
    said = {
        "parameterValues": {
            name: _clean(value, whole=True) for name, value in parameters.items() if name in given.output_parameters
        },
        "artifacts": {
            name: {
                "artifacts": [
                    {"name": given.outputs[name].name, "uri": given.outputs[name].uri, "metadata": _clean(dict(found))}
                ]
            }
            for name, found in (metadata or {}).items()
            if name in given.outputs
        },
    }
    put(given.output_file, json.dumps(said, allow_nan=False, sort_keys=True))


def put(path: Path, text: str) -> None:
    """Write a file of a task's whole, with the directories above it. Raises StoreError."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8", errors="replace")
        new.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: what Kubeflow is to be told cannot be written there: {error.strerror}. That directory is a volume "
            f"which Kubeflow mounts into the pod, or lies below TMPDIR"
        ) from error


def _clean(value: Any, *, whole: bool = False) -> Any:
    """JSON data that the launcher accepts: without nulls, NaN, infinities, and halves of characters."""
    if isinstance(value, Mapping):
        cleaned = {_text(str(name)): _clean(item, whole=whole) for name, item in value.items()}
        return {name: item for name, item in cleaned.items() if item is not None}
    if isinstance(value, list | tuple):
        return [item for item in (_clean(item, whole=whole) for item in value) if item is not None]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    text = _text(str(value))
    return text if whole or len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
