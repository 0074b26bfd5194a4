"""Directories in which executions are made: each has its owner's lock, by which a dead owner's is known and removed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import disk, locks
from schemas.owner import Owner


def make(root: Path, name: str, *, step: str = "", run: str = "") -> tuple[Path, int]:
    """A new staging directory with a complete and locked owner.json, and the descriptor of that lock.

    Who makes what, and for which run, is in it beside the process.
    """
    owner = Owner.current().to_json() | {"step": step, "run": run}
    while True:
        directory = root / "staging" / f"{name}-{secrets.token_hex(6)}"
        directory.mkdir(parents=True)
        # Written and locked elsewhere, then moved in: an owner.json that can be seen is complete, and its process is alive
        # for as long as it is locked.
        locks_directory = root / "locks"
        locks_directory.mkdir(exist_ok=True)
        descriptor = claim(directory, locks_directory / f"owner-{directory.name}.json", owner)
        if descriptor is not None:
            return directory, descriptor


def claim(directory: Path, new: Path, owner: Mapping[str, Any]) -> int | None:
    """Give a directory its owner.json, which is made as `new`, and the descriptor of the lock on it.

    None when somebody tidies: looks at `new`, or has removed the directory, which anybody may while it has no owner and is empty.
    """
    descriptor = locks.try_lock(new)
    if descriptor is None:
        return None
    try:
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        os.fsync(descriptor)
        new.rename(directory / "owner.json")
    except FileNotFoundError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def is_dead(directory: Path, ended: tuple[str, str] | None = None, *, silent_for_s: float = math.inf) -> Iterator[bool]:
    """Whether a staging directory's owner is provably dead; its lock is held inside.

    A lock that another host holds may not be seen here. So that host's owner counts as dead only where somebody knows that
    it has ended: `ended` is the (run, step) that it worked for; or where nothing was written for `silent_for_s`.
    """
    owner_file = directory / "owner.json"
    try:
        found = json.loads(owner_file.read_bytes())
        owner = Owner.from_json(found)
        has_ended = ended is not None and (found.get("run"), found.get("step")) == ended
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            directory.rmdir()  # killed between two system calls; harmless when its owner lives, who then takes another
        yield False
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield False
        return
    if not (owner.same_kernel or owner.same_host or has_ended or disk.silent_s(directory) >= silent_for_s):
        yield False
        return
    try:
        descriptor = os.open(owner_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield locks.hold(descriptor)
    finally:
        os.close(descriptor)


def remove(directory: Path) -> None:
    """Remove a staging directory, its owner last: if we are killed here, the rest still has one, and that one is dead."""
    with disk.writing(directory), contextlib.suppress(FileNotFoundError):
        with contextlib.suppress(FileNotFoundError):
            # At once, so that nobody who is taken for dead by mistake can publish what is half removed.
            (directory / "execution").rename(directory / f"removed-{secrets.token_hex(4)}")
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "owner.json":
                path.unlink()
        (directory / "owner.json").unlink(missing_ok=True)
        directory.rmdir()
