"""Blessing: whether a model may be pushed, and why not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class Blessing(Artifact):
    """
    ```
    BLESSED        or
    NOT_BLESSED    exactly one of them; its content is a JSON list of reasons, empty for a blessed model
    ```
    TFX looks only at which file exists, and so reads ours.

    Properties: `blessed`, True or False; `reasons`, one sentence per threshold that was missed; `thresholds`, those that
    were checked; `not_applied`, a sentence for each that was not, for want of a baseline; `baseline`, {"version", "digest"}
    of the model compared with, or None.
    """

    TYPE_NAME: ClassVar[str] = "ModelBlessing"

    @property
    def blessed(self) -> bool:
        return (self.path / "BLESSED").is_file()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the model was not blessed. Empty for a blessed model, and for one that TFX refused (it writes no reasons)."""
        file = self.path / "NOT_BLESSED"
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        return tuple(json.loads(text)) if text.strip() else ()

    def write(self, reasons: tuple[str, ...]) -> None:
        """Bless when there are no reasons against it."""
        name = "NOT_BLESSED" if reasons else "BLESSED"
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(json.dumps(list(reasons), indent=1) + "\n", encoding="utf-8")
        self.properties.update(blessed=not reasons, reasons=list(reasons))

    def describe(self) -> str:
        if self.properties.get("blessed", False):
            return "blessed"
        return "; ".join(("not blessed", *self.properties.get("reasons", ())))
