"""An artifact: one directory in a documented layout, with a few properties that its manifest keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from schemas.errors import UnknownSplit, did_you_mean

ABSENT = "absent"  # property of an output that its step did not make


@dataclass(frozen=True)
class Artifact:
    """One output of one execution.

    `path` is the directory that TFX calls the artifact's uri. `properties` is JSON data that goes into the manifest
    (record counts, metrics, the verdict); a step fills it while it runs, nobody changes it afterwards.
    """

    path: Path
    properties: dict[str, Any] = field(default_factory=dict)

    TYPE_NAME: ClassVar[str] = "Artifact"  # TFX's type name, what manifests and the Kubeflow UI show
    EXPLICIT: ClassVar[bool] = False  # True: an optional input of this type takes nothing that it is not wired to

    def describe(self) -> str:
        """What was made, in half a line for the terminal. Empty when there is nothing to add to the type's name."""
        return ""


def splits_in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Split names with `train` and `eval` first, the others by name: JSON and file systems keep no order of their own."""
    first = ("train", "eval")
    return tuple(sorted(names, key=lambda name: (first.index(name) if name in first else len(first), name)))


@dataclass(frozen=True)
class SplitArtifact(Artifact):
    """An artifact with one `Split-<name>/` directory per split, as TFX lays them out."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits on disk, `train` and `eval` first, the others by name."""
        names = [p.name.removeprefix("Split-") for p in self.path.glob("Split-*") if p.is_dir()]
        return splits_in_order(names)

    def split(self, name: str) -> Path:
        """The directory of split `name`. Raises UnknownSplit, naming the splits there are."""
        directory = self.split_path(name)
        if not directory.is_dir():
            raise UnknownSplit(
                f"no split '{name}' in {self.TYPE_NAME} at {self.path}: it has {', '.join(self.splits) or 'none'}."
                + did_you_mean(name, self.splits)
            )
        return directory

    def split_path(self, name: str) -> Path:
        """Where split `name` is or will be written."""
        return self.path / f"Split-{name}"
