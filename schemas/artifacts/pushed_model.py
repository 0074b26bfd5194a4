"""PushedModel: which version of which serving directory a model became."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from schemas.artifact import Artifact
from schemas.location import Location, nearest, parse


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
