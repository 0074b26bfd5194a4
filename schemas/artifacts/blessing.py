"""Blessing: whether a model may be pushed, and why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class Verdict(Artifact):
    """What a step that judges models says of one: a file named YES or NO, whose content is a JSON list of reasons against it.

    Beside it may be `anyway.json`, {"by", "at", "reason"}: who had it blessed all the same, when (ISO 8601, UTC) and why. TFX
    writes empty files. The reasons of a blessed model are empty, but for one that was blessed all the same.

    Properties: `blessed`, True or False; `reasons`, one sentence per threshold that was missed; `anyway`, as the file, where
    there is one.
    """

    YES: ClassVar[str]
    NO: ClassVar[str]

    @property
    def blessed(self) -> bool:
        return (self.path / self.YES).is_file()

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is against the model. Empty where nothing is, and for a model that TFX refused (it writes no reasons)."""
        file = self.path / (self.YES if self.blessed else self.NO)
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        return tuple(json.loads(text)) if text.strip() else ()

    @property
    def anyway(self) -> Mapping[str, str] | None:
        """Who had the model blessed whatever the gates say, when and why; None where nobody had."""
        file = self.path / "anyway.json"
        found: dict[str, str] | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        return found

    def write(self, reasons: tuple[str, ...]) -> None:
        """Bless when there are no reasons against it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(self.NO if reasons else self.YES, reasons)
        self.properties.update(blessed=not reasons, reasons=list(reasons))

    def bless_anyway(self, by: str, at: str, reason: str) -> None:
        """Bless after all, and keep what was against it. To be called after `write`, or after TFX wrote its verdict."""
        reasons = self.reasons
        anyway: dict[str, Any] = {"by": by, "at": at, "reason": reason}
        (self.path / self.NO).unlink(missing_ok=True)
        self._write(self.YES, reasons)
        (self.path / "anyway.json").write_text(json.dumps(anyway, indent=1) + "\n", encoding="utf-8")
        self.properties.update(blessed=True, reasons=list(reasons), anyway=anyway)

    def _write(self, name: str, reasons: tuple[str, ...]) -> None:
        (self.path / name).write_text(json.dumps(list(reasons), indent=1) + "\n", encoding="utf-8")

    def describe(self) -> str:
        anyway = self.properties.get("anyway")
        if anyway:
            return "; ".join(
                (f"blessed anyway by {anyway['by']}: {anyway['reason']}", *self.properties.get("reasons", ()))
            )
        if self.properties.get("blessed", False):
            return "blessed"
        return "; ".join(("not blessed", *self.properties.get("reasons", ())))


@dataclass(frozen=True)
class Blessing(Verdict):
    """
    ```
    BLESSED        or
    NOT_BLESSED    exactly one of them; its content is a JSON list of reasons against the model
    anyway.json    {"by", "at", "reason"} where somebody had it blessed all the same; absent otherwise
    ```
    TFX looks only at whether BLESSED or NOT_BLESSED exists, and so reads ours.

    Properties: those of a Verdict; `thresholds`, those that were checked; `not_applied`, a sentence for each that was not, for
    want of a baseline; `baseline`, {"version", "digest"} of the model compared with, or None.
    """

    TYPE_NAME: ClassVar[str] = "ModelBlessing"
    YES: ClassVar[str] = "BLESSED"
    NO: ClassVar[str] = "NOT_BLESSED"
