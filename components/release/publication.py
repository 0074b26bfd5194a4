"""Publication: a directory of files becomes the next version of a serving directory, by one rename, with its passport."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.release import staging, versions
from schemas.errors import StoreError
from schemas.passport import Passport

PassportOf = Callable[[int, Mapping[str, str]], Passport]
"""(version, sha256 of every file by its relative path) -> the passport to publish with them."""


def publish(
    source: Path,
    destination: Path,
    passport_of: PassportOf,
    *,
    extra: Mapping[str, bytes] | None = None,
    before: Callable[[int], None] = lambda version: None,
) -> int:
    """Copy `source` out of sight in `destination`, and have it appear as the next version; gives that.

    `extra` are files to add, by relative path. `before` is told the number right before the version appears. Everything is on
    disk, and every file was read back, before the rename; killed at any moment before it, the next publication removes what
    was left. Raises ArtifactError for a file that cannot be read or copied, StoreError when `destination` cannot be written,
    and what `passport_of` raises; `destination` holds what it held before then.
    """
    with _explained(destination, source):
        _make(destination)
        with staging.staged(destination) as staged:
            files = staging.copy(source, staged, leave_out=[Passport.FILE])
            for name, content in (extra or {}).items():
                files[name] = staging.write(staged / name, content)
            staging.sync(staged)
            while True:
                # The number is taken last and under the lock, so that versions appear in the order of their numbers.
                with staging.locked(destination):
                    names = [child.name for child in destination.iterdir()]
                    version = versions.next_version(names, versions.read_high_water(destination), int(time.time()))
                    passport = passport_of(version, files)
                    staging.sync_file(passport.write(staged))
                    staging.sync(staged)
                    before(version)
                    # Before the rename: a number that was once seen must not come back, whatever happens next.
                    versions.write_high_water(destination, version)
                    staging.sync_names(destination)
                    try:
                        staging.rename_new(staged, destination / str(version))
                    except FileExistsError:
                        continue  # another tool took the number, which no lock of ours can keep it from
                    staging.sync_names(destination)
                    return version


def _make(directory: Path) -> None:
    """Make a directory and those above it, and bring the name of each that is new to disk."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        staging.sync_names(path.parent)


@contextmanager
def _explained(destination: Path, source: Path) -> Iterator[None]:
    """Turn the system's errors into StoreError, with what to do."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        untouched = "Nothing was pushed, and what it served before is untouched"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{destination}: the disk is full. The model takes {size(source):,} bytes, and {_free(destination):,} are "
                f"free. {untouched}: make room and run again"
            ) from error
        raise StoreError(
            f"{destination}: cannot be written ({error.strerror or error}{where}). {untouched}: check its owner and mode, or "
            f"set another destination"
        ) from error


def size(directory: Path) -> int:
    """Bytes of every file in a directory and below it, links followed."""
    return sum(
        (Path(parent) / name).stat().st_size
        for parent, _, names in os.walk(directory, followlinks=True)
        for name in names
    )


def _free(path: Path) -> int:
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free
