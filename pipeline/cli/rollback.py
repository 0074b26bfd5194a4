"""`pipeline rollback`: an earlier model serves again, as a new version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.people import who
from schemas.dotted_path import resolve
from schemas.location import Location


@dataclass(frozen=True)
class Rollback:
    """What serves now: `version`, which holds what `to` holds; `previous` served until then."""

    destination: Location
    version: int
    to: int
    previous: int

    @property
    def done(self) -> bool:
        """Whether something was published; what serves may have been that model already."""
        return self.version != self.previous

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": "done" if self.done else "nothing new",
            "destination": str(self.destination),
            "version": self.version,
            "to": self.to,
            "previous": self.previous,
        }

    def as_text(self) -> str:
        """One line for what serves now, one for the way back."""
        if not self.done:
            return f"{self.destination / str(self.version)} serves the model of version {self.to} already"
        return (
            f"{self.destination / str(self.version)} serves the model of version {self.to} again, in place of version "
            f"{self.previous}\nwhich is not pushed again; to undo this: pipeline rollback {self.destination} --to {self.previous}"
        )


def roll_back(destination: Location, to: int | None = None) -> Rollback:
    """Publish version `to`, or without it the model before the one that serves, as a new version of a serving directory.

    Raises ConfigError when there is no such version, ArtifactError when its files are not as they were pushed, StoreError
    when the directory cannot be written.
    """
    found = resolve("components.release.rollback.roll_back")(destination, to, by=who())
    return Rollback(destination, found.version, found.to, found.previous)
