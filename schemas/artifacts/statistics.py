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
    newest/train/FeatureStats.pb      where the examples have spans: of the newest one alone
    previous/train/FeatureStats.pb    where there are several: of all before that one
    ```
    Properties: `features`, the number of features of the first split; where the examples have spans, `newest_span`, the label of
    the newest one ("41" or "2026-07-31").
    """

    TYPE_NAME: ClassVar[str] = "ExampleStatistics"
    FILE: ClassVar[str] = "FeatureStats.pb"

    def file(self, split: str) -> Path:
        """The statistics file of one split. Raises UnknownSplit."""
        return self.split(split) / self.FILE

    def newest(self, split: str) -> Path | None:
        """The statistics file of a split's newest span, None where the examples have no spans. Raises UnknownSplit."""
        return self._of_some(self.newest_path(split), split)

    def previous(self, split: str) -> Path | None:
        """The statistics file of all of a split's spans but the newest, None where there is no other. Raises UnknownSplit."""
        return self._of_some(self.previous_path(split), split)

    def newest_path(self, split: str) -> Path:
        """The directory where the statistics of a split's newest span are or will be written."""
        return self.path / "newest" / split

    def previous_path(self, split: str) -> Path:
        """The directory where those of all spans but the newest are or will be written."""
        return self.path / "previous" / split

    def _of_some(self, directory: Path, split: str) -> Path | None:
        self.split(split)
        file = directory / self.FILE
        return file if file.is_file() else None

    def describe(self) -> str:
        features = self.properties.get("features")
        return f"{features} features" if features is not None else ""
