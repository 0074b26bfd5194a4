"""FeatureSchema: the types, presence and domains that the data is expected to have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class FeatureSchema(Artifact):
    """
    ```
    schema.pbtxt    text form of tensorflow.metadata.v0.Schema
    ```
    Properties: `features`, how many it describes; `origin`, `inferred` or the imported file.
    """

    TYPE_NAME: ClassVar[str] = "Schema"

    @property
    def file(self) -> Path:
        return self.path / "schema.pbtxt"

    def describe(self) -> str:
        features, origin = self.properties.get("features"), self.properties.get("origin", "")
        return f"{features} features, {origin}" if features is not None else ""
