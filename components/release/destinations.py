"""Destinations: where the versions of a model live, a serving directory or an address in an object store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.release import digests, publication, retention, versions
from components.release.publication import PassportOf
from schemas.location import Location
from schemas.passport import Passport


class Destination(Protocol):
    """The versions at one location, and how one gets there whole.

    A `version` is its number, or the name of its directory where that may be written otherwise (`01`). What a method says
    of a version that is not there is what it says of an empty one. All raise StoreError when the location cannot be reached.
    """

    @property
    def location(self) -> Location:
        """Where it is."""

    def exists(self) -> bool:
        """Whether there is anything at all."""

    def listed(self) -> list[int]:
        """The versions, in order, whatever they hold."""

    def served(self) -> int | None:
        """The version that a server serves: the largest that holds a SavedModel."""

    def has(self, version: int | str, files: Collection[str]) -> bool:
        """Whether a version has every one of these files, by relative path."""

    def passport(self, version: int | str) -> Passport | None:
        """A version's passport; None when it has none. Raises ArtifactError when it cannot be read."""

    def digests(self, version: int | str) -> dict[str, str]:
        """The sha256 of every file of a version but the passport, by relative path; every byte is read."""

    def local(self, version: int | str) -> AbstractContextManager[Path]:
        """A version's files in a directory on this machine, for as long as the context lasts. Not to be changed."""

    def publish(
        self,
        source: Path,
        passport_of: PassportOf,
        *,
        extra: Mapping[str, bytes] | None = None,
        before: Callable[[int], None] = lambda version: None,
    ) -> int:
        """Have `source` appear as the next version, whole, and give that: see `publication.publish`."""

    def protected_by(self, models_config: Path) -> set[int]:
        """The versions that TensorFlow Serving's configuration names: see `retention.protected_by`."""

    def retire(self, keep: int | None, protected: Collection[int] = ()) -> list[int]:
        """Remove all but the newest `keep` versions (None: keep all): see `retention.retire`."""


def at(location: Location) -> Destination:
    """The destination at a location. Nothing is looked at yet."""
    if isinstance(location, Path):
        return Directory(location.absolute())
    from components.release.object_store import ObjectStore

    return ObjectStore(location)


def has_model(version: Location) -> bool:
    """Whether there is a SavedModel at a version's own location."""
    return at(version.parent).has(version.name, [versions.MODEL])


@dataclass(frozen=True)
class Directory:
    """A directory on a file system that renames in one step."""

    location: Path

    def exists(self) -> bool:
        return self.location.is_dir()

    def listed(self) -> list[int]:
        return versions.listed(self.location)

    def served(self) -> int | None:
        path = versions.served(self.location)
        return None if path is None else int(path.name)

    def has(self, version: int | str, files: Collection[str]) -> bool:
        return all((self._path(version) / file).is_file() for file in files)

    def passport(self, version: int | str) -> Passport | None:
        return Passport.read(self._path(version))

    def digests(self, version: int | str) -> dict[str, str]:
        return digests.digests(self._path(version))

    def local(self, version: int | str) -> AbstractContextManager[Path]:
        return nullcontext(self._path(version))

    def publish(
        self,
        source: Path,
        passport_of: PassportOf,
        *,
        extra: Mapping[str, bytes] | None = None,
        before: Callable[[int], None] = lambda version: None,
    ) -> int:
        return publication.publish(source, self.location, passport_of, extra=extra, before=before)

    def protected_by(self, models_config: Path) -> set[int]:
        return retention.protected_by(models_config, self.location)

    def retire(self, keep: int | None, protected: Collection[int] = ()) -> list[int]:
        return [] if keep is None else retention.retire(self.location, keep, protected)

    def _path(self, version: int | str) -> Path:
        return self.location / str(version)
