"""What lies at a destination in an object store: versions, and what pushers keep beside them, from one listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from components.io.objects import Entry
from components.release import versions
from components.release.versions import MODEL

MARKER = "penstock.complete"  # inside a version, written after everything in it was verified
CLAIMS = ".penstock-claims"  # an object per number that a push took; the largest stays, so that no number comes back
PUSHING = ".penstock-pushing-"  # a push's files before they are a version: no number, so servers pass over it
OWNER = "owner"  # beside those files: which process pushes


@dataclass(frozen=True)
class Listing:
    """The objects at a destination, by name."""

    entries: Mapping[str, Entry]

    @property
    def children(self) -> set[str]:
        """What a server that polls the destination sees."""
        return {name.partition("/")[0] for name in self.entries}

    @property
    def versions(self) -> list[int]:
        """The versions, in order, whatever they hold. Only names as we write them count."""
        values = [(versions.number(name), name) for name in self.children]
        return sorted(value for value, name in values if value is not None and str(value) == name)

    @property
    def served(self) -> int | None:
        """The largest version that holds a SavedModel."""
        return next((version for version in reversed(self.versions) if self.has_model(version)), None)

    @property
    def claims(self) -> list[int]:
        """The numbers that pushes took and that are still remembered, in order."""
        values = (versions.number(name) for name in self.below(CLAIMS))
        return sorted(value for value in values if value is not None)

    @property
    def pushes(self) -> list[str]:
        """The names of the pushes whose files are not removed yet."""
        return sorted(name for name in self.children if name.startswith(PUSHING))

    def below(self, name: str) -> dict[str, Entry]:
        """The objects whose name begins with `name`/, by the rest of it; an empty rest is a console's folder."""
        start = f"{name}/"
        return {
            rest: self.entries[start + rest] for rest in (n[len(start) :] for n in self.entries if n.startswith(start))
        }

    def files(self, version: int | str) -> dict[str, Entry]:
        """The files of a version, by relative path."""
        return {name: entry for name, entry in self.below(str(version)).items() if name and not name.endswith("/")}

    def has_model(self, version: int | str) -> bool:
        """Whether a server could load it."""
        return f"{version}/{MODEL}" in self.entries

    def is_marked(self, version: int | str) -> bool:
        """Whether a push of ours finished it."""
        return f"{version}/{MARKER}" in self.entries

    @property
    def newest(self) -> datetime | None:
        """When the last object was written, by the store's clock."""
        return max((entry.modified for entry in self.entries.values() if entry.modified), default=None)
