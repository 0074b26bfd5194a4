"""Object store: the versions at an address such as `s3://bucket/models/taxi`, and a local copy of one where a path is needed."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from components.io.objects import Objects
from components.release import object_publication, object_retention, retention
from components.release.digests import content_digest, differences, digests
from components.release.object_versions import MARKER, Listing
from components.release.publication import PassportOf
from schemas.errors import ArtifactError
from schemas.location import ObjectUrl
from schemas.passport import Passport


class ObjectStore:
    """An address in an object store, as a Destination."""

    def __init__(self, location: ObjectUrl) -> None:
        self.location = location
        self._objects = Objects(location)

    def exists(self) -> bool:
        return bool(self._listing().entries)

    def listed(self) -> list[int]:
        return self._listing().versions

    def served(self) -> int | None:
        return self._listing().served

    def has(self, version: int | str, files: Collection[str]) -> bool:
        there = Listing(self._objects.listed(str(version))).files(version)
        return all(name in there for name in files)

    def passport(self, version: int | str) -> Passport | None:
        name = f"{version}/{Passport.FILE}"
        content = self._objects.read(name)
        return None if content is None else Passport.parse(content, f"{self.location}/{name}")

    def digests(self, version: int | str) -> dict[str, str]:
        return object_retention.digests_of(self._objects, Listing(self._objects.listed(str(version))), version)

    @contextmanager
    def local(self, version: int | str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="penstock-version-") as directory:
            self.download(version, Path(directory) / "version")
            yield Path(directory) / "version"

    def publish(
        self,
        source: Path,
        passport_of: PassportOf,
        *,
        extra: Mapping[str, bytes] | None = None,
        before: Callable[[int], None] = lambda version: None,
    ) -> int:
        return object_publication.publish(self._objects, source, passport_of, extra=extra, before=before)

    def protected_by(self, models_config: Path) -> set[int]:
        return retention.named_in(models_config, self.location.name, self.listed())

    def retire(self, keep: int | None, protected: Collection[int] = ()) -> list[int]:
        return object_retention.retire(self._objects, keep, protected)

    def download(self, version: int | str, directory: Path) -> dict[str, str]:
        """Write the files of a version, but passport and marker, to a new directory; gives the sha256 of each."""
        directory.mkdir(parents=True)
        found = {}
        for name, entry in Listing(self._objects.listed(str(version))).files(version).items():
            if name in (Passport.FILE, MARKER):
                continue
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with file.open("xb") as written:
                for chunk in self._objects.chunks(f"{version}/{name}", entry.size):
                    written.write(chunk)
                    digest.update(chunk)
            found[name] = digest.hexdigest()
        return found

    def _listing(self) -> Listing:
        return Listing(self._objects.listed())


def fetch(version: ObjectUrl, cache: Path) -> Path:
    """A local copy of a version, in a directory of `cache` that is named by its content; one that is there is used again.

    What is there, and what was downloaded, is compared with the digests in the passport. Raises ArtifactError when the
    version is gone or is not what was pushed, StoreError when the store cannot be reached.
    """
    store = ObjectStore(version.parent)
    passport = store.passport(version.name)
    if passport is not None:
        known = cache / content_digest(passport.files).replace(":", "-")
        if known.is_dir() and digests(known) == passport.files:
            return known
        shutil.rmtree(known, ignore_errors=True)
    with ExitStack() as exits:
        partial = cache / f".{uuid.uuid4().hex}"
        exits.callback(shutil.rmtree, partial, ignore_errors=True)
        found = store.download(version.name, partial)
        if not found:
            raise ArtifactError(f"{version} is gone: it was served when this run began. Run again")
        different = differences(found, passport.files) if passport is not None else ()
        if different:
            raise ArtifactError(
                f"{version} is not what was pushed, and no model is compared with it:\n"
                + "\n".join(f"  {sentence}" for sentence in different)
                + f"\nPush another model, or go back: pipeline rollback {version.parent}"
            )
        target = cache / content_digest(found).replace(":", "-")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return target
