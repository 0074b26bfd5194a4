"""Object publication: a directory of files becomes the next version at an address in an object store, its SavedModel last.

There is no rename, so a version comes together where servers look. What makes it short and safe:

1. The files are uploaded under a name that is no number, and read back.
2. A number is claimed by an object that the store creates only if there is none of that name.
3. The store copies the files to the number, everything but `saved_model.pb`, and the passport is written; what the store
   lists is compared with what was read back, by size and the store's own checksum (S3's ETag, GCS's MD5), and read again
   where that does not tell.
4. `saved_model.pb` is copied, and compared.
5. A marker says that this push is finished.

A pusher that is killed before 3 leaves nothing with a number; until 4 nothing that loads.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from components.io.objects import Objects
from components.release import object_retention, versions
from components.release.object_versions import CLAIMS, MARKER, OWNER, PUSHING, Listing
from components.release.publication import PassportOf
from components.release.versions import MODEL
from schemas.errors import ArtifactError, StoreError
from schemas.owner import Owner
from schemas.passport import Passport


def publish(
    objects: Objects,
    source: Path,
    passport_of: PassportOf,
    *,
    extra: Mapping[str, bytes] | None = None,
    before: Callable[[int], None] = lambda version: None,
) -> int:
    """Upload `source`, and have it appear as the next version; gives that.

    `extra` are files to add, by relative path. `before` is told the number right before the version appears. Of pushes at the
    same time the one with the largest number is served, whichever ends first. Raises
    ArtifactError for a file that cannot be read or has no equal in the store, StoreError when the store cannot be written,
    and what `passport_of` raises; the store serves what it served before then, and what was left is removed by this push or,
    where the store cannot be reached, by a later one.
    """
    push = f"{PUSHING}{uuid.uuid4().hex}"
    owner = json.dumps({"push": push, **Owner.current().to_json()}).encode()
    with ExitStack() as always:
        objects.write(f"{push}/{OWNER}", owner)
        always.callback(object_retention.remove_quietly, objects, push, last=OWNER)
        files = _upload(objects, f"{push}/version", source, extra or {})
        if MODEL not in files:
            raise ArtifactError(f"{source} has no {MODEL}: it is not a SavedModel. Train the model again")
        version = _claim(objects, owner)
        with _removed_on_failure(objects, version):
            passport = passport_of(version, files)
            before(version)
            _copy_rest(objects, f"{push}/version", version, files, passport)
        # Not removed where this fails: the store may still be at it, and is not to end with this one file.
        objects.copy(f"{push}/version/{MODEL}", f"{version}/{MODEL}")
        with _removed_on_failure(objects, version):
            _compare_copies(objects, f"{push}/version", version, files, [MODEL])
            objects.write(f"{version}/{MARKER}", f"{version}\n".encode())
    return version


@contextmanager
def _removed_on_failure(objects: Objects, version: int) -> Iterator[None]:
    """Remove a version, `saved_model.pb` first, when what is done inside fails."""
    with ExitStack() as failing:
        failing.callback(object_retention.remove_quietly, objects, str(version), first=MODEL)
        yield
        failing.pop_all()


def _upload(objects: Objects, staged: str, source: Path, extra: Mapping[str, bytes]) -> dict[str, str]:
    """Upload every file, and read each back; gives the sha256 of each by its relative path."""
    digests: dict[str, str] = {}
    for name, file in _files(source):
        try:
            with file.open("rb") as opened:
                digests[name] = hashlib.file_digest(opened, "sha256").hexdigest()
            size = file.stat().st_size
        except OSError as error:
            raise ArtifactError(f"{file}: the model cannot be read ({error.strerror}). Train it again") from error
        objects.upload(file, f"{staged}/{name}")
        _compare(objects, f"{staged}/{name}", size, digests[name])
    for name, content in extra.items():
        digests[name] = hashlib.sha256(content).hexdigest()
        objects.write(f"{staged}/{name}", content)
        _compare(objects, f"{staged}/{name}", len(content), digests[name])
    return digests


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, file) of each file to publish, in order; what a symbolic link points at stands in its place."""

    def unreadable(error: OSError) -> None:
        raise ArtifactError(f"{error.filename}: the model cannot be read ({error.strerror}). Train it again") from error

    for parent, directories, names in os.walk(source, onerror=unreadable, followlinks=True):
        directories.sort()
        for name in sorted(names):
            relative = (Path(parent) / name).relative_to(source).as_posix()
            if relative not in (Passport.FILE, MARKER):
                yield relative, Path(parent) / name


def _claim(objects: Objects, owner: bytes) -> int:
    """Take the next number, which no other push has had or gets."""
    while True:
        listing = Listing(objects.listed())
        version = versions.next_version(listing.children, max(listing.claims, default=0), int(time.time()))
        name = f"{CLAIMS}/{version}"
        # A request that the driver repeated may find what its first attempt made.
        if not objects.create(name, owner) and objects.read(name) != owner:
            continue
        if objects.create(name, owner):
            raise StoreError(
                f"{objects.root}: this store overwrites objects that it is told to create only where there is none, so two "
                f"pushes could take one number. Nothing was pushed: use one that keeps to If-None-Match, or a directory"
            )
        # The largest claim is never removed. So a number below another claim may have been used and forgotten; the largest not.
        if max(Listing(objects.listed()).claims) == version:
            return version
        objects.remove(name)


def _copy_rest(objects: Objects, staged: str, version: int, files: Mapping[str, str], passport: Passport) -> None:
    """Copy everything but `saved_model.pb` to its number, write the passport there, and compare."""
    rest = [name for name in files if name != MODEL]
    for name in rest:
        objects.copy(f"{staged}/{name}", f"{version}/{name}")
    content = passport.to_bytes()
    objects.write(f"{version}/{Passport.FILE}", content)
    _compare(objects, f"{version}/{Passport.FILE}", len(content), hashlib.sha256(content).hexdigest())
    _compare_copies(objects, staged, version, files, rest)


def _compare_copies(
    objects: Objects, staged: str, version: int, files: Mapping[str, str], names: Collection[str]
) -> None:
    """Raise ArtifactError unless each copy is what was uploaded and read back.

    The store's checksums are equal for equal content, but for objects that it got in several parts or encrypted: these are
    read again.
    """
    uploaded, copied = objects.listed(staged), objects.listed(str(version))
    for name in names:
        original, copy = uploaded.get(f"{staged}/{name}"), copied.get(f"{version}/{name}")
        if copy is None or original is None or copy.size != original.size:
            raise ArtifactError(
                f"{objects.root}/{version}/{name} is not there whole after the store copied it. Run again"
            )
        if copy.checksum is None or copy.checksum != original.checksum:
            _compare(objects, f"{version}/{name}", copy.size, files[name])


def _compare(objects: Objects, name: str, size: int, digest: str) -> None:
    """Read an object, and raise ArtifactError unless it has that sha256."""
    if objects.sha256(name, size) != digest:
        raise ArtifactError(f"{objects.root}/{name} differs from what was written to it. Run again")
