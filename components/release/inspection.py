"""Inspection: which version a location means, and whether its files are still what its passport says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.release import destinations, versions
from components.release.digests import differences
from schemas.errors import ConfigError, did_you_mean
from schemas.location import Location
from schemas.passport import Passport


@dataclass(frozen=True)
class Inspected:
    """One version: its passport, None when another tool pushed it, and a sentence for each file that is not as pushed."""

    path: Location
    version: int
    served: bool
    passport: Passport | None
    differences: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every file is as it was pushed, which only a passport tells."""
        return self.passport is not None and not self.differences


def find(path: Location) -> Location:
    """The version that `path` means: itself, or the one that a server of the serving directory `path` serves.

    Raises ConfigError when there is no such directory or no version in it, StoreError when the store cannot be reached.
    """
    path = path.absolute()
    destination = destinations.at(path)
    # A bucket is inside nothing.
    parent = destinations.at(path.parent) if isinstance(path, Path) or path.parent.bucket else None
    if not destination.exists():
        known = [str(number) for number in parent.listed()] if parent else []
        hint = did_you_mean(path.name, known) or (f" There are: {', '.join(known)}" if known else "")
        raise ConfigError(f"{path}: there is no such directory.{hint}")
    known_by = (versions.MODEL, Passport.FILE)
    if versions.number(path.name) is not None and parent and any(parent.has(path.name, [file]) for file in known_by):
        return path
    served = destination.served()
    if served is None:
        raise ConfigError(f"{path}: no version is served from it. A serving directory has versions such as {path}/1")
    return path / str(served)


def verify(path: Location) -> list[Inspected]:
    """Check every file of a version, or of each version of a serving directory, against its passport's digests.

    Newest first. Raises ConfigError when `path` is neither, ArtifactError when a passport cannot be read, StoreError when the
    store cannot be reached.
    """
    path = path.absolute()
    version = find(path)
    destination = destinations.at(version.parent)
    names = [version.name] if version == path else [str(number) for number in reversed(destination.listed())]
    served = destination.served()
    found = []
    for name in names:
        passport = destination.passport(name)
        different = differences(destination.digests(name), passport.files) if passport is not None else ()
        found.append(Inspected(version.parent / name, int(name), name == str(served), passport, different))
    return found
