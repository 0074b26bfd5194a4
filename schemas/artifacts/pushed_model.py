"""PushedModel: which version of which serving directory a model became."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact
from schemas.artifacts.statistics import Statistics
from schemas.location import Location, nearest, parse

STATISTICS = "assets.extra/statistics"
"""In a pushed version: of each split of the data that its model was trained on, a directory with the file of Statistics."""


def training_statistics(version: Path, split: str) -> Path | None:
    """The statistics of a split that the model in a version's directory was trained on; None where the version has none."""
    file = version / STATISTICS / split / Statistics.FILE
    return file if file.is_file() else None


@dataclass(frozen=True)
class PushedModel(Artifact):
    """
    ```
    pushed.json    {"destination": absolute path, or s3://bucket/models/taxi, "version": 1732205000, "model_digest": "sha256:..."}
    ```
    The model itself is in the serving directory or object store, and is not copied a second time.

    Properties: the same three.
    """

    TYPE_NAME: ClassVar[str] = "PushedModel"

    def write(self, destination: Location, version: int, model_digest: str) -> None:
        """Record a finished push."""
        pushed = {"destination": str(destination), "version": version, "model_digest": model_digest}
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "pushed.json").write_text(json.dumps(pushed, indent=1) + "\n", encoding="utf-8")
        self.properties.update(pushed)

    @property
    def version_path(self) -> Location:
        """The location the model was pushed to."""
        pushed = json.loads((self.path / "pushed.json").read_text(encoding="utf-8"))
        return parse(pushed["destination"]) / str(pushed["version"])

    def describe(self) -> str:
        if "version" not in self.properties:
            return ""
        return str(nearest(parse(self.properties["destination"]) / str(self.properties["version"])))
