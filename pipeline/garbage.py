"""What a root holds that nobody needs any more: listed first, removed on request, never while it is in use."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import disk, locks, staging
from pipeline.store import Store


@dataclass(frozen=True)
class Garbage:
    """Something that can be removed, how much that frees, and why nobody needs it."""

    path: Path
    bytes: int
    why: str


def find_garbage(store: Store, keep: Collection[tuple[str, str]], drop_runs: Collection[str] = ()) -> list[Garbage]:
    """What could be removed if only the executions (step, key) in `keep` are needed, and the runs `drop_runs` are not.

    Leaves out what is in use now. Removes nothing.
    """
    found = []
    for path, step, key in _pairs(store, "store"):
        if (step, key) not in keep and not _is_used(store, step, key):
            found.append(Garbage(path, disk.bytes_under(path), "no kept run and no pushed model needs it"))
    for path, step, key in _pairs(store, "scratch"):
        published = store.directory(step, key).is_dir()
        if (published or (step, key) not in keep) and not _is_used(store, step, key):
            why = "its step is published" if published else "no kept run will resume it"
            found.append(Garbage(path, disk.bytes_under(path), why))
    for path in disk.directories(store.root / "staging"):
        with staging.is_dead(path) as dead:
            if dead:
                found.append(Garbage(path, disk.bytes_under(path), "the process that was making it is dead"))
    for path in disk.directories(store.root / "runs"):
        if path.name in drop_runs:
            found.append(Garbage(path, disk.bytes_under(path), "the record of a run that is not kept"))
    return found


def collect(store: Store, garbage: Iterable[Garbage]) -> list[Garbage]:
    """Remove it; gives what was removed. What came into use since it was listed is left out.

    Raises StoreError, naming the path and the cause, for what cannot be removed.
    """
    removed = []
    for item in garbage:
        area, *rest = item.path.relative_to(store.root).parts
        if area in ("store", "scratch"):
            done = _collect_pair(store, area, *rest)
        elif area == "staging":
            with staging.is_dead(item.path) as dead:
                done = dead
                if dead:
                    staging.remove(item.path)
        else:
            done = item.path.is_dir()
            disk.remove_tree(item.path)
        if done:
            removed.append(item)
    for lock in (store.root / "locks").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            locks.is_locked(lock)  # looking at a lock that nobody holds removes it
    return removed


def _collect_pair(store: Store, area: str, step: str, key: str) -> bool:
    path = store.root / area / step / key
    with contextlib.ExitStack() as held:
        for lock in (store.lock_path(step, key), store.use_path(step, key)):
            descriptor = locks.try_lock(lock)
            if descriptor is None:
                return False
            held.callback(locks.unlock, descriptor, lock)
        if not path.is_dir():
            return False
        if area == "scratch":
            store.drop_scratch(step, key)
            return True
        store.discard(step, key)
    with contextlib.suppress(OSError):  # another key of this step is there
        path.parent.rmdir()
    return True


def _is_used(store: Store, step: str, key: str) -> bool:
    return locks.is_locked(store.lock_path(step, key)) or locks.is_locked(store.use_path(step, key))


def _pairs(store: Store, area: str) -> Iterator[tuple[Path, str, str]]:
    """(directory, step, key) of everything in `store/` or `scratch/`."""
    for step in disk.directories(store.root / area):
        for directory in disk.directories(step):
            yield directory, step.name, directory.name
