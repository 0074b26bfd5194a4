"""Statistics: TFDV's DatasetFeatureStatisticsList of every split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import SplitArtifact


@dataclass(frozen=True)
class Statistics(SplitArtifact):
    """
    ```
    Split-train/FeatureStats.pb    serialized tensorflow.metadata.v0.DatasetFeatureStatisticsList
    Split-eval/FeatureStats.pb
    ```
    Properties: `features`, the number of features of the first split.
    """

    TYPE_NAME: ClassVar[str] = "ExampleStatistics"
    FILE: ClassVar[str] = "FeatureStats.pb"

    def file(self, split: str) -> Path:
        """The statistics file of one split. Raises UnknownSplit."""
        return self.split(split) / self.FILE

    def describe(self) -> str:
        features = self.properties.get("features")
        return f"{features} features" if features is not None else ""
