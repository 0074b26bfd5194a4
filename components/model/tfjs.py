"""A network's SavedModel -> TensorFlow.js graph models."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from components.io.saved_model import SERVING_DEFAULT
from components.model import converter_process, tfjs_conversion

Variant = Literal["float", "uint8"]
SETTING = "tfjs"


def is_installed() -> bool:
    """Whether the extra `tfjs` is, without importing any of it."""
    return importlib.util.find_spec("tensorflowjs") is not None


def convert(network: Path, directories: Mapping[str, tuple[str, Path]], layers: Iterable[str]) -> None:
    """Write each of `directories`, {export's name: (variant, directory)}: `model.json` and its weights.

    Raises ConfigError naming the operation and layer that TensorFlow.js does not have.
    """
    job = {
        "network": str(network),
        "signature": SERVING_DEFAULT,
        "exports": {name: {"variant": variant, "file": str(path)} for name, (variant, path) in directories.items()},
    }
    converter_process.convert(SETTING, tfjs_conversion.__name__, job, layers)


def describe(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """JSON: name, type and shape of every input and output; -1 is the batch. Its integers have 32 bits."""
    signature = json.loads((directory / "model.json").read_text(encoding="utf-8"))["signature"]
    return {
        port: [_described(name, tensor) for name, tensor in sorted(signature[port].items())]
        for port in ("inputs", "outputs")
    }


def _described(name: str, tensor: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name.removesuffix(":0"),
        "type": {"DT_INT64": "int32", "DT_INT32": "int32", "DT_BOOL": "bool"}.get(tensor["dtype"], "float32"),
        "shape": [int(size["size"]) for size in tensor.get("tensorShape", {}).get("dim", [])],
    }
