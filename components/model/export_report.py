"""What was exported, with its figures -> report.json, report.txt and a README.txt for whoever gets one export alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.model.limits import Figures
from schemas.artifacts import ExportedModels
from schemas.artifacts.exported_models import COMBINED, NETWORK, PREPROCESSING

FIRST = {
    PREPROCESSING: "Nothing: this takes raw features. What it gives is what the network takes, in every form of it.",
    COMBINED: "Nothing: this takes raw features and preprocesses them itself.",
    NETWORK: "Preprocess: give it what the SavedModel in `preprocessing` gives, which takes raw features.",
}
"""What a caller must do before the call, by export; what is not among them is a form of the network."""


@dataclass(frozen=True)
class Export:
    """One export. `inputs` and `outputs` are JSON data: name, type and shape, -1 for the batch."""

    what: str
    figures: Figures
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self, name: str) -> dict[str, Any]:
        """JSON for the report."""
        return {
            "what": self.what,
            "first": first(name),
            "inputs": self.inputs,
            "outputs": self.outputs,
            **self.figures.as_json(),
        }


def first(name: str) -> str:
    """What the caller of an export must do first."""
    return FIRST.get(name, FIRST[NETWORK])


def write(exports: Mapping[str, Export], measured_on: str, to: ExportedModels) -> None:
    """Write the reports and every README.txt, and fill the properties."""
    found = {name: export.as_json(name) for name, export in exports.items()}
    report = {"measured_on": measured_on, "exports": found}
    to.report.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (to.path / "report.txt").write_text(table(exports, measured_on), encoding="utf-8")
    (to.path / "README.txt").write_text(
        "".join(f"{name}/\n  {export.what}\n  First: {first(name)}\n\n" for name, export in exports.items())
        + "Figures are in report.txt, and with the inputs and outputs of each in report.json.\n",
        encoding="utf-8",
    )
    for name, export in exports.items():
        (to.export(name) / "README.txt").write_text(_readme(name, export), encoding="utf-8")
    to.properties.update(exports={name: export.figures.as_json() for name, export in exports.items()})


def table(exports: Mapping[str, Export], measured_on: str) -> str:
    """One line for each export: bytes, the same compressed, metrics and milliseconds where they were measured."""
    metrics = sorted({metric for export in exports.values() for metric in export.figures.metrics})
    rows = [["", "bytes", "compressed", *metrics, "ms a call"]]
    for name, export in exports.items():
        figures = export.figures
        rows.append(
            [
                name,
                f"{figures.bytes['size']:,}",
                f"{figures.bytes['compressed']:,}",
                *(f"{figures.metrics[metric]:.4f}" if metric in figures.metrics else "" for metric in metrics),
                f"{figures.latency_ms:.4f}" if figures.latency_ms is not None else "",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + f"\n\n{measured_on}\n"


def _readme(name: str, export: Export) -> str:
    return (
        f"{export.what}\n\nFirst: {first(name)}\n\n"
        f"Inputs:\n{_listed(export.inputs)}\nOutputs:\n{_listed(export.outputs)}"
    )


def _listed(tensors: list[dict[str, Any]]) -> str:
    return "".join(
        f"  {tensor['name']}: {', '.join(f'{key} {value}' for key, value in tensor.items() if key != 'name')}\n"
        for tensor in tensors
    )
