"""Rollback: an earlier version's model, published again as the newest, since a server never goes to a lower number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.release import inspection, passports, publication, versions
from schemas.errors import ArtifactError, ConfigError, did_you_mean
from schemas.passport import Passport


@dataclass(frozen=True)
class RolledBack:
    """What serves now. `version` holds what `to` holds; `previous` served until then. Equal to `previous`: nothing was done."""

    destination: Path
    version: int
    to: int
    previous: int


def roll_back(destination: Path, to: int | None = None, *, by: str) -> RolledBack:
    """Publish version `to` of a serving directory again as its newest version; `by` is who says so.

    Without `to` it is the newest version before the one that serves whose model is another one. From a version that a
    rollback made, "before" counts from what that went back to, so that doing it twice goes back twice. When what serves is
    already that model, nothing is published. The models that are gone back from are withdrawn: Pusher does not push them
    again as long as the rollback serves. What is copied is compared with the passport of `to`.
    Raises ConfigError when there is no such version or none to go back to, ArtifactError when a file of it is not as it
    was pushed, StoreError when `destination` cannot be written.
    """
    destination = destination.absolute()
    served = inspection.find(destination)
    if served == destination:
        raise ConfigError(
            f"{destination} is a version. Name its serving directory: {destination.parent} --to {destination.name}"
        )
    now = _known(served)
    target = destination / str(to) if to is not None else _before(destination, served, now)
    if to is not None and to not in versions.listed(destination):
        known = [str(number) for number in versions.listed(destination)]
        raise ConfigError(
            f"--to {to}: {destination} has no such version.{did_you_mean(str(to), known)} There are: {', '.join(known)}"
        )
    earlier = _known(target)
    if earlier.model_digest == now.model_digest:
        return RolledBack(destination, int(served.name), int(target.name), int(served.name))
    withdrawn = [*(now.rollback or {}).get("withdrawn", ()), now.model_digest]
    rollback = {
        "to": int(target.name),
        "from": int(served.name),
        "by": by,
        "withdrawn": [digest for digest in dict.fromkeys(withdrawn) if digest != earlier.model_digest],
    }

    def passport_of(version: int, files: Mapping[str, str]) -> Passport:
        different = inspection.differences(files, earlier.files)
        if different:
            raise ArtifactError(
                f"{target} is not what was pushed, and was not published again:\n"
                + "\n".join(f"  {sentence}" for sentence in different)
            )
        return dataclasses.replace(earlier, version=version, pushed_at=passports.now(), rollback=rollback)

    version = publication.publish(target, destination, passport_of)
    return RolledBack(destination, version, int(target.name), int(served.name))


def _before(destination: Path, served: Path, now: Passport) -> Path:
    """The version to go back to when none is named."""
    start = now.rollback["to"] if now.rollback else int(served.name)
    for number in reversed(versions.listed(destination)):
        path = destination / str(number)
        if number < start and _known(path).model_digest != now.model_digest:
            return path
    raise ConfigError(
        f"{destination}: there is no earlier model to go back to. It has {', '.join(map(str, versions.listed(destination)))}"
    )


def _known(version: Path) -> Passport:
    """A version's passport; for one that another tool pushed, what can be said of it."""
    passport = Passport.read(version)
    if passport is not None:
        return passport
    files = inspection.digests(version)
    digest = inspection.content_digest(files)
    return Passport(pipeline="", run="", pushed_at="", version=int(version.name), model_digest=digest, files=files)
