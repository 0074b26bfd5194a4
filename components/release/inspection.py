"""Inspection: which version a path means, and whether its files are still what its passport says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.io import saved_model
from components.release import versions
from schemas.errors import ConfigError, did_you_mean
from schemas.passport import Passport


@dataclass(frozen=True)
class Inspected:
    """One version: its passport, None when another tool pushed it, and a sentence for each file that is not as pushed."""

    path: Path
    version: int
    served: bool
    passport: Passport | None
    differences: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every file is as it was pushed, which only a passport tells."""
        return self.passport is not None and not self.differences


def find(path: Path) -> Path:
    """The version directory that `path` means: itself, or the one that a server of the serving directory `path` serves.

    Raises ConfigError when there is no such directory or no version in it.
    """
    path = path.absolute()
    if not path.is_dir():
        known = [str(number) for number in versions.listed(path.parent)]
        hint = did_you_mean(path.name, known) or (f" There are: {', '.join(known)}" if known else "")
        raise ConfigError(f"{path}: there is no such directory.{hint}")
    if _is_version(path):
        return path
    served = versions.served(path)
    if served is None:
        raise ConfigError(f"{path}: no version is served from it. A serving directory has versions such as {path}/1")
    return served


def verify(path: Path) -> list[Inspected]:
    """Check every file of a version, or of each version of a serving directory, against its passport's digests.

    Newest first. Raises ConfigError when `path` is neither, ArtifactError when a passport cannot be read.
    """
    path = path.absolute()
    version = find(path)
    paths = [version] if version == path else [path / str(number) for number in reversed(versions.listed(path))]
    served = versions.served(version.parent)
    found = []
    for version in paths:
        passport = Passport.read(version)
        different = differences(digests(version), passport.files) if passport is not None else ()
        found.append(Inspected(version, int(version.name), version == served, passport, different))
    return found


def differences(found: Mapping[str, str], pushed: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each file that is missing, changed or added, in the order of their names."""
    sentences = []
    for name in sorted(found.keys() | pushed.keys()):
        if name not in found:
            sentences.append(f"{name} is missing")
        elif name not in pushed:
            sentences.append(f"{name} was added after the push")
        elif found[name] != pushed[name]:
            sentences.append(f"{name} differs: its sha256 is {found[name]}, pushed with {pushed[name]}")
    return tuple(sentences)


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of every file but the passport, in hexadecimal, by relative path; every byte is read.

    Of a file that cannot be read, what the system says stands in its digest's place.
    """
    found = {}
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        name = file.relative_to(directory).as_posix()
        try:
            with file.open("rb") as opened:
                found[name] = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            found[name] = f"unknown ({error.strerror})"
    found.pop(Passport.FILE, None)
    return found


def content_digest(files: Mapping[str, str]) -> str:
    """What stands for the Model artifact's digest where no framework gives one: its files' names and digests."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _is_version(path: Path) -> bool:
    return versions.number(path.name) is not None and (saved_model.exists(path) or (path / Passport.FILE).is_file())
