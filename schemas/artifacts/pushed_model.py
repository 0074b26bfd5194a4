"""PushedModel: which version of which serving directory a model became."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class PushedModel(Artifact):
    """
    ```
    pushed.json    {"destination": absolute path, "version": 1732205000, "model_digest": "sha256:..."}
    ```
    The model itself is in the serving directory and is not copied a second time.

    Properties: the same three.
    """

    TYPE_NAME: ClassVar[str] = "PushedModel"

    def write(self, destination: Path, version: int, model_digest: str) -> None:
        """Record a finished push."""
        pushed = {"destination": str(destination), "version": version, "model_digest": model_digest}
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "pushed.json").write_text(json.dumps(pushed, indent=1) + "\n", encoding="utf-8")
        self.properties.update(pushed)

    @property
    def version_path(self) -> Path:
        """The directory the model was pushed to."""
        pushed = json.loads((self.path / "pushed.json").read_text(encoding="utf-8"))
        return Path(pushed["destination"]) / str(pushed["version"])

    def describe(self) -> str:
        if "version" not in self.properties:
            return ""
        path = Path(self.properties["destination"]) / str(self.properties["version"])
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
