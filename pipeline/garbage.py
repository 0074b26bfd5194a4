"""What a root holds that nobody needs any more: listed first, removed on request, never while it is in use."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import disk, locks, parts, staging
from pipeline.ledger import RunFiles
from pipeline.remembered_digests import forget_lost
from pipeline.store import Store
from schemas.errors import ConfigError


@dataclass(frozen=True)
class Garbage:
    """Something that can be removed, how much that frees, and why nobody needs it.

    A file that has a name elsewhere too, as one of a part that an output shares, frees nothing until the last one is removed.
    """

    path: Path
    bytes: int
    why: str


class RunsSince:
    """What runs recorded since this was made: what they came to need meanwhile is not garbage.

    A process of a cluster's run uses an execution only while it lives, and records it before it stops: from then on the record
    is all that says that the run's next process needs it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = self._stamps()

    def changed(self, run: str) -> bool:
        """Whether the record of a run is another one now, or was not there."""
        return self._stamps().get(run) != self._seen.get(run)

    def needs(self, step: str, key: str) -> bool:
        """Whether a record that is new or another one now names the execution."""
        changed = {run for run, stamp in self._stamps().items() if stamp != self._seen.get(run)}
        records = self._store.run_records(changed).values() if changed else ()
        return any(
            (found.get("step"), found.get("key")) == (step, key)
            for record in records
            for found in record.get("steps", ())
        )

    def _stamps(self) -> dict[str, tuple[int, int]]:
        stamps = {}
        for directory in disk.directories(self._store.root / "runs"):
            with contextlib.suppress(OSError):
                found = (directory / "run.json").stat()
                stamps[directory.name] = (found.st_mtime_ns, found.st_ino)  # each change is a file of its own
        return stamps


def find_garbage(
    store: Store,
    keep: Collection[tuple[str, str]],
    drop_runs: Collection[str] = (),
    *,
    lost_after_s: float = math.inf,
) -> list[Garbage]:
    """What could be removed if only the executions (step, key) in `keep` are needed, and the runs `drop_runs` are not.

    Parts are needed for as long as an execution in `keep` names them, and for a day after they were last used. The process on
    another machine that was making something is taken for dead when nothing was written there for `lost_after_s`. Leaves out
    what is in use now. Removes nothing.
    """
    found: list[tuple[Path, str]] = []
    for path, step, key in _pairs(store, "store"):
        if (step, key) not in keep and not is_used(store, step, key):
            found.append((path, "no kept run and no pushed model needs it"))
    named = {part for e in store.executions() if (e.step, e.key) in keep for part in e.manifest.parts}
    for path in parts.unused(store):
        if path.name not in named:
            found.append((path, "no kept execution names it, and nobody used it for a day"))
    for path, step, key in _pairs(store, "scratch"):
        published = store.directory(step, key).is_dir()
        if (published or (step, key) not in keep) and not is_used(store, step, key):
            why = "its step is published" if published else "no kept run will resume it"
            found.append((path, why))
    for path in disk.directories(store.root / "staging"):
        with staging.is_dead(path, silent_for_s=lost_after_s) as dead:
            if dead:
                found.append((path, "the process that was making it is dead"))
    for path in disk.directories(store.root / "runs"):
        if path.name in drop_runs:
            found.append((path, "the record of a run that is not kept"))
    freed = disk.bytes_freed(path for path, _ in found)
    return [Garbage(path, size, why) for (path, why), size in zip(found, freed, strict=True)]


def collect(
    store: Store, garbage: Iterable[Garbage], *, since: RunsSince | None = None, lost_after_s: float = math.inf
) -> list[Garbage]:
    """Remove it, and what is remembered of input files that are gone; gives what was removed.

    What came into use since it was listed is left out, and what runs recorded `since`. Raises StoreError, naming the path and the cause, for what cannot be removed.
    """
    removed = []
    for item in garbage:
        area, *rest = item.path.relative_to(store.root).parts
        if area in ("store", "scratch"):
            done = _collect_pair(store, since, area, *rest)
        elif area == "parts":
            done = parts.remove_unused(store, item.path)
        elif area == "staging":
            with staging.is_dead(item.path, silent_for_s=lost_after_s) as dead:
                done = dead
                if dead:
                    staging.remove(item.path)
        else:
            done = _collect_run(store, since, item.path)
        if done:
            removed.append(item)
    forget_lost(store.root)
    for lock in (store.root / "locks").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            locks.is_locked(lock)  # looking at a lock that nobody holds removes it
    return removed


def _collect_run(store: Store, since: RunsSince | None, path: Path) -> bool:
    if not path.is_dir():
        return False
    with (
        contextlib.suppress(ConfigError),
        RunFiles(store).locked(path.name),
    ):  # no run can have such a name: no lock either
        if since is not None and since.changed(path.name):
            return False  # it goes on again
        (path / "run.json").unlink(missing_ok=True)
    disk.remove_tree(path)  # once the lock is given back: NFS keeps a name for a file that is open
    return True


def _collect_pair(store: Store, since: RunsSince | None, area: str, step: str, key: str) -> bool:
    path = store.root / area / step / key
    with contextlib.ExitStack() as held:
        for lock in (store.lock_path(step, key), store.use_path(step, key)):
            descriptor = locks.try_lock(lock)
            if descriptor is None:
                return False
            held.callback(locks.unlock, descriptor, lock)
        if not path.is_dir() or (since is not None and since.needs(step, key)):
            return False
        if area == "scratch":
            store.drop_scratch(step, key)
            return True
        store.discard(step, key)
    with contextlib.suppress(OSError):  # another key of this step is there
        path.parent.rmdir()
    return True


def is_used(store: Store, step: str, key: str) -> bool:
    """Whether any process makes or uses the execution, as far as locks tell."""
    return locks.is_locked(store.lock_path(step, key)) or locks.is_locked(store.use_path(step, key))


def _pairs(store: Store, area: str) -> Iterator[tuple[Path, str, str]]:
    """(directory, step, key) of everything in `store/` or `scratch/`."""
    for step in disk.directories(store.root / area):
        for directory in disk.directories(step):
            yield directory, step.name, directory.name
