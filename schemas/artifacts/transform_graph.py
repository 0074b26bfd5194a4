"""TransformGraph: preprocessing_fn with what it learnt from the data, as a SavedModel and two schemas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class TransformGraph(Artifact):
    """
    ```
    transform_fn/saved_model.pb, variables/, assets/    the graph; vocabularies are assets
    transformed_metadata/schema.pbtxt                   schema of what it gives
    metadata/schema.pbtxt                               schema of what it takes
    ```
    The directory is what `tft.TFTransformOutput` opens.

    Properties: `features`, the number of transformed features; `analyzed_by`, only where TFT's own Beam pipeline ran the
    analyzers: which of them asked for it, and why.
    """

    TYPE_NAME: ClassVar[str] = "TransformGraph"

    @property
    def transform_fn(self) -> Path:
        return self.path / "transform_fn"

    @property
    def raw_schema(self) -> Path:
        return self.path / "metadata" / "schema.pbtxt"

    @property
    def transformed_schema(self) -> Path:
        return self.path / "transformed_metadata" / "schema.pbtxt"

    def describe(self) -> str:
        features = self.properties.get("features")
        return f"{features} transformed features" if features is not None else ""
