"""What executions made of parts of their input, kept under a store's root for later executions of the same code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import disk, locks
from pipeline.graph import canonical_json
from pipeline.manifest import FileDigest, digest_tree
from pipeline.order import Order
from pipeline.store import Store
from schemas.component import PartCache
from schemas.errors import ArtifactError

FORMAT = 1
UNUSED_AFTER_S = 86400.0  # a part that no kept execution names is garbage once nobody used it for so long

_AREA = "parts"
_MANIFEST = "manifest.json"
_CONTENT = "content"


@contextlib.contextmanager
def stored_parts(store: Store, order: Order) -> Iterator[StoredParts]:
    """The parts for one execution; `remove_unused` leaves them alone while the context lasts, in this and other processes."""
    parts = StoredParts(store, order)
    with store.in_use(_AREA, parts.scope):
        yield parts


class StoredParts(PartCache):
    """The parts that one component's code has under a root, as an execution of it finds and keeps them.

    parts/<scope>-<name>/
      manifest.json   the size and the sha256 of every file
      content/        what the step put there

    The scope is a digest of the component, the code of ours that it imports, the libraries and Python. An execution that is
    made whatever the store holds (--force, `cache: false`) finds nothing, and what it keeps takes the place of what is there.
    """

    def __init__(self, store: Store, order: Order) -> None:
        self.scope = scope_of(order.key_parts)
        self._store = store
        self._order = order
        self._used: set[str] = set()

    @property
    def used(self) -> tuple[str, ...]:
        """The names, under `parts/`, of all that was found or kept so far."""
        return tuple(sorted(self._used))

    def find(self, name: str) -> Path | None:
        """See PartCache. A part that is not what was kept is removed, with a line on stderr."""
        directory = self._directory(name)
        if not directory.is_dir() or (self._order.forced and directory.name not in self._used):
            return None
        with contextlib.suppress(OSError):  # another user's: that it was used now is not worth an error
            os.utime(directory)  # it was used today
        try:
            differs = _difference(directory)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArtifactError) as error:
            if not directory.is_dir():
                return None  # removed since we looked
            differs = f"{type(error).__name__}: {error}"
        if differs is not None:
            print(f"{directory} is not what was kept ({differs}); it is removed, and made again", file=sys.stderr)
            _discard(self._store, directory)
            return None
        self._used.add(directory.name)
        return directory / _CONTENT

    @contextlib.contextmanager
    def keep(self, name: str) -> Iterator[Path]:
        """See PartCache. What another process has kept meanwhile under this name stays, and is as good."""
        directory = self._directory(name)
        with self._store.stage(self._order.step, name, run=self._order.run) as staging:
            content = staging.output(_CONTENT)
            yield content
            digest, files = digest_tree(content)
            manifest = {
                "format": FORMAT,
                "component": self._order.component,
                "digest": digest,
                "files": {path: file.to_json() for path, file in files.items()},
            }
            with disk.writing(directory):
                # Not brought to the disk first: what a failure of the power takes away is found to be missing, and made again.
                (content.parent / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
                directory.parent.mkdir(exist_ok=True)
                disk.rename_whole(content.parent, directory, replace=self._order.forced)
        self._used.add(directory.name)

    def _directory(self, name: str) -> Path:
        if not re.fullmatch("[0-9a-f]{8,128}", name):
            raise ValueError(f"a part's name is 8 to 128 lowercase hexadecimal digits, a digest; this is {name!r}")
        return self._store.root / _AREA / f"{self.scope}-{name}"


def scope_of(key_parts: Mapping[str, Any]) -> str:
    """What every part depends on whatever it is made of: 32 hex digits for the component, its code, libraries and Python."""
    code = {name: module["digest"] for name, module in key_parts["code"].items()}
    counted = {name: key_parts[name] for name in ("component", "libraries", "python")} | {"code": code}
    return hashlib.sha256(canonical_json(counted).encode()).hexdigest()[:32]


def _difference(directory: Path) -> str | None:
    """How a part differs from what was kept; None when every byte is the same. Raises what reading raises."""
    manifest = json.loads((directory / _MANIFEST).read_bytes())
    if manifest["format"] != FORMAT:
        return f"it has format {manifest['format']}"
    content = directory / _CONTENT
    kept = {path: FileDigest.from_json(file) for path, file in manifest["files"].items()}
    for path, file in kept.items():  # before any of them is read
        size = (content / path).stat().st_size
        if size != file.bytes:
            return f"{path} has {size:,} bytes, not {file.bytes:,}"
    digest, files = digest_tree(content)
    if digest == manifest["digest"]:
        return None
    changed = sorted(path for path in files.keys() | kept.keys() if files.get(path) != kept.get(path))
    return f"{', '.join(changed)} changed" if changed else "its directories changed"


# Removing


def unused(store: Store) -> list[Path]:
    """The parts that nobody found or kept for a day, and that nothing at work now may find."""
    return [path for path in disk.directories(store.root / _AREA) if _is_unused(path) and not _in_use(store, path)]


def remove_unused(store: Store, directory: Path) -> bool:
    """Remove a part if that is still so; whether it was removed."""
    lock = store.use_path(_AREA, _scope(directory))
    descriptor = locks.try_lock(lock)
    if descriptor is None:
        return False
    try:
        if not directory.is_dir() or not _is_unused(directory):
            return False
        _discard(store, directory)
    finally:
        locks.unlock(descriptor, lock)
    return True


def _is_unused(directory: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return time.time() - directory.stat().st_mtime >= UNUSED_AFTER_S
    return False


def _in_use(store: Store, directory: Path) -> bool:
    return locks.is_locked(store.use_path(_AREA, _scope(directory)))


def _scope(directory: Path) -> str:
    return directory.name.partition("-")[0]


def _discard(store: Store, directory: Path) -> None:
    """Remove a part: it is gone for every reader at once, never half there."""
    with store.stage(_AREA, directory.name) as made, disk.writing(directory), contextlib.suppress(FileNotFoundError):
        directory.rename(made.execution_path.parent / "discarded")
