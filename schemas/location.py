"""Locations: a directory on this machine, or an address in an object store such as `s3://bucket/models/taxi`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SCHEME = "://"


@dataclass(frozen=True, order=True)
class ObjectUrl:
    """An address in an object store, taken apart and put together as a Path is. Nothing here asks the store."""

    protocol: str  # as fsspec names it: s3, gs
    path: str  # bucket and key, without slashes at either end

    def __truediv__(self, name: str) -> ObjectUrl:
        return ObjectUrl(self.protocol, f"{self.path}/{name.strip('/')}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> ObjectUrl:
        """The address without its last part; of a bucket, an empty one."""
        return ObjectUrl(self.protocol, self.path.rpartition("/")[0])

    @property
    def bucket(self) -> str:
        """The first part."""
        return self.path.partition("/")[0]

    def absolute(self) -> ObjectUrl:
        """This very address: none is relative."""
        return self

    def __str__(self) -> str:
        return f"{self.protocol}{_SCHEME}{self.path}"


Location = Path | ObjectUrl


def parse(text: str) -> Location:
    """The location that `text` means: an object store's where there is a `://`, a path otherwise."""
    protocol, scheme, path = text.partition(_SCHEME)
    return ObjectUrl(protocol.strip().lower(), path.strip().strip("/")) if scheme else Path(text)


def nearest(location: Location) -> Location:
    """The path relative to the working directory where it lies below it; anything else as it is."""
    if isinstance(location, Path) and location.is_relative_to(Path.cwd()):
        return location.relative_to(Path.cwd())
    return location
