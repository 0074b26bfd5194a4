"""Rollback: an earlier version's model, published again as the newest, since a server never goes to a lower number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from components.release import destinations, inspection, passports
from components.release.destinations import Destination
from components.release.digests import content_digest, differences
from schemas.errors import ArtifactError, ConfigError, did_you_mean
from schemas.location import Location
from schemas.passport import Passport


@dataclass(frozen=True)
class RolledBack:
    """What serves now. `version` holds what `to` holds; `previous` served until then. Equal to `previous`: nothing was done."""

    destination: Location
    version: int
    to: int
    previous: int


def roll_back(location: Location, to: int | None = None, *, by: str) -> RolledBack:
    """Publish version `to` of the serving directory at `location` again as its newest version; `by` is who says so.

    Without `to` it is the newest version before the one that serves whose model is another one. From a version that a
    rollback made, "before" counts from what that went back to, so that doing it twice goes back twice. When what serves is
    already that model, nothing is published. The models that are gone back from are withdrawn: Pusher does not push them
    again as long as the rollback serves. What is copied is compared with the passport of `to`.
    Raises ConfigError when there is no such version or none to go back to, ArtifactError when a file of it is not as it
    was pushed, StoreError when it cannot be reached or written.
    """
    location = location.absolute()
    found = inspection.find(location)
    if found == location:
        raise ConfigError(
            f"{location} is a version. Name its serving directory: {location.parent} --to {location.name}"
        )
    destination, served = destinations.at(location), int(found.name)
    now = _known(destination, served)
    target = to if to is not None else _before(destination, served, now)
    if target not in destination.listed():
        known = [str(number) for number in destination.listed()]
        raise ConfigError(
            f"--to {to}: {location} has no such version.{did_you_mean(str(to), known)} There are: {', '.join(known)}"
        )
    earlier = _known(destination, target)
    if earlier.model_digest == now.model_digest:
        return RolledBack(location, served, target, served)
    withdrawn = [*(now.rollback or {}).get("withdrawn", ()), now.model_digest]
    rollback = {
        "to": target,
        "from": served,
        "by": by,
        "withdrawn": [digest for digest in dict.fromkeys(withdrawn) if digest != earlier.model_digest],
    }

    def passport_of(version: int, files: Mapping[str, str]) -> Passport:
        different = differences(files, earlier.files)
        if different:
            raise ArtifactError(
                f"{location / str(target)} is not what was pushed, and was not published again:\n"
                + "\n".join(f"  {sentence}" for sentence in different)
            )
        return dataclasses.replace(earlier, version=version, pushed_at=passports.now(), rollback=rollback)

    with destination.local(target) as source:
        version = destination.publish(source, passport_of)
    return RolledBack(location, version, target, served)


def _before(destination: Destination, served: int, now: Passport) -> int:
    """The version to go back to when none is named."""
    start: int = now.rollback["to"] if now.rollback else served
    listed = destination.listed()
    for number in reversed(listed):
        if number < start and _known(destination, number).model_digest != now.model_digest:
            return number
    raise ConfigError(
        f"{destination.location}: there is no earlier model to go back to. It has {', '.join(map(str, listed))}"
    )


def _known(destination: Destination, version: int) -> Passport:
    """A version's passport; for one that another tool pushed, what can be said of it."""
    passport = destination.passport(version)
    if passport is not None:
        return passport
    files = destination.digests(version)
    digest = content_digest(files)
    return Passport(pipeline="", run="", pushed_at="", version=version, model_digest=digest, files=files)
