"""Digests of a version's files, and how they differ from those that its passport has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from schemas.passport import Passport


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
