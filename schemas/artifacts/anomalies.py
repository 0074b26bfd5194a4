"""Anomalies: where the statistics of each split do not fit the schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import SplitArtifact, splits_in_order


@dataclass(frozen=True)
class Anomalies(SplitArtifact):
    """
    ```
    Split-train/SchemaDiff.pb    serialized tensorflow.metadata.v0.Anomalies
    Split-eval/SchemaDiff.pb
    ```
    Properties: `anomalies`, the number of features with an anomaly, per split.
    """

    TYPE_NAME: ClassVar[str] = "ExampleAnomalies"
    FILE: ClassVar[str] = "SchemaDiff.pb"

    def file(self, split: str) -> Path:
        """The anomalies file of one split. Raises UnknownSplit."""
        return self.split(split) / self.FILE

    def describe(self) -> str:
        counts = self.properties.get("anomalies", {})
        found = {split: count for split in splits_in_order(counts) if (count := counts[split])}
        if not found:
            return "no anomalies"
        return ", ".join(f"{split}: {count} with anomalies" for split, count in found.items())
