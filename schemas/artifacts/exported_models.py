"""ExportedModels: one model in the forms in which it runs elsewhere, and what each of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact

PREPROCESSING, NETWORK, COMBINED = "preprocessing", "network", "combined"


@dataclass(frozen=True)
class ExportedModels(Artifact):
    """
    ```
    preprocessing/          SavedModel: raw features in, transformed ones out
    network/                SavedModel: transformed features in, predictions out
    combined/               SavedModel: raw features in, predictions out; the Model artifact's own
    tflite_<variant>/tflite the network for TensorFlow Lite: float, dynamic, float16, int8; TFX and TFMA name the file so
    tfjs_<variant>/         the network for TensorFlow.js, a graph model: model.json and its weights; float, uint8
    report.json, report.txt inputs, outputs, sizes, metrics and latency of each
    ```
    Every directory has a README.txt, which says what the caller must do first. The latencies in the report are the only
    thing that equal input does not make equal.

    Properties: `exports`, the figures of each by the directory's name.
    """

    TYPE_NAME: ClassVar[str] = "ExportedModels"

    def export(self, name: str) -> Path:
        """The directory of one export."""
        return self.path / name

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    def describe(self) -> str:
        exports = self.properties.get("exports", {})
        return ", ".join(f"{name} {found['bytes']['size'] / 1000:,.0f} kB" for name, found in exports.items())
