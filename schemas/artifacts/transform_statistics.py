"""What the data was like before Transform and after: statistics, schemas, and where the two do not agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact

# Types of their own, although TFX has one for each kind of content: they have no splits, and a step whose wire is left out
# looks for the statistics and the schema of the pipeline, not for these.


@dataclass(frozen=True)
class TransformStatistics(Artifact):
    """
    ```
    FeatureStats.pb    serialized tensorflow.metadata.v0.DatasetFeatureStatisticsList
    ```
    Before: of the raw features that preprocessing_fn takes, in the split that is analysed. After: of the transformed features,
    in all splits together. Empty where statistics are switched off.
    """

    TYPE_NAME: ClassVar[str] = "ExampleStatistics"

    @property
    def file(self) -> Path:
        return self.path / "FeatureStats.pb"


@dataclass(frozen=True)
class TransformSchema(Artifact):
    """
    ```
    schema.pbtxt    text form of tensorflow.metadata.v0.Schema
    ```
    What the statistics were made with: before, the pipeline's own schema; after, that of the transformed features. Empty where
    statistics are switched off.
    """

    TYPE_NAME: ClassVar[str] = "Schema"

    @property
    def file(self) -> Path:
        return self.path / "schema.pbtxt"


@dataclass(frozen=True)
class TransformAnomalies(Artifact):
    """
    ```
    SchemaDiff.pb    serialized tensorflow.metadata.v0.Anomalies
    ```
    Where the statistics after the transformation do not fit the schema of the transformed features. Empty where statistics are
    switched off.
    """

    TYPE_NAME: ClassVar[str] = "ExampleAnomalies"

    @property
    def file(self) -> Path:
        return self.path / "SchemaDiff.pb"
