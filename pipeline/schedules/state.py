"""What is known of each schedule between two starts of the scheduler: what it decided, what runs, how the last run ended.

<directory>/
  .lock               who schedules
  <name>.json         the state of one schedule
  <name>/<due>.log    what the run for one firing wrote to standard error
  <name>/<due>.json   what it said at its end
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import disk, locks
from pipeline.cron import Cron
from schemas.errors import ConfigError, StoreError

KEPT_LOGS = 20  # of each schedule
_LOOKED_AT_S = 0.5  # others may hold the lock that long only to look whether it is held


@dataclass(frozen=True)
class LastRun:
    """How a schedule's last run ended."""

    due: datetime
    began: datetime
    ended: datetime
    outcome: str  # one of a run's, or busy
    reason: str
    run: str | None  # its id, where it got as far as having one
    log: str | None  # None: there is nothing to read

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "due": _text(self.due),
            "began": _text(self.began),
            "ended": _text(self.ended),
            "outcome": self.outcome,
            "reason": self.reason,
            "run": self.run,
            "log": self.log,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> LastRun:
        """What `to_json` gave."""
        due, began, ended = (datetime.fromisoformat(found[key]) for key in ("due", "began", "ended"))
        return cls(due, began, ended, str(found["outcome"]), str(found["reason"]), found["run"], found["log"])


@dataclass(frozen=True)
class State:
    """What is known of one schedule. Moments are in UTC."""

    cron: str
    timezone: str
    decided: datetime  # every firing up to here has run, or was missed
    paused: bool = False
    unfinished: datetime | None = None  # the firing whose run has begun and not come to its end
    began: datetime | None = None  # when that run did
    process: Mapping[str, Any] | None = None  # the Owner that it is; None: not known yet
    last: LastRun | None = None

    @classmethod
    def new(cls, cron: Cron, now: datetime) -> State:
        """Of a schedule that begins now: nothing was missed."""
        return cls(cron.text, cron.timezone, now)

    def begun(self, due: datetime, decided: datetime, now: datetime) -> State:
        """With a run for the firing `due`, which begins now; every firing up to `decided` is one it stands for."""
        return replace(self, decided=max(self.decided, decided), unfinished=due, began=now, process=None)

    def ended(self, last: LastRun, *, unfinished: bool = False) -> State:
        """With the end of that run; `unfinished` is one that is to go on with the next start of the scheduler."""
        return replace(self, unfinished=last.due if unfinished else None, began=None, process=None, last=last)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "cron": self.cron,
            "timezone": self.timezone,
            "decided": _text(self.decided),
            "paused": self.paused,
            "unfinished": _text(self.unfinished),
            "began": _text(self.began),
            "process": self.process,
            "last": self.last.to_json() if self.last else None,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> State:
        """What `to_json` gave."""
        return cls(
            cron=str(found["cron"]),
            timezone=str(found["timezone"]),
            decided=datetime.fromisoformat(found["decided"]),
            paused=bool(found["paused"]),
            unfinished=datetime.fromisoformat(found["unfinished"]) if found["unfinished"] else None,
            began=datetime.fromisoformat(found["began"]) if found["began"] else None,
            process=found["process"],
            last=LastRun.from_json(found["last"]) if found["last"] else None,
        )


class States:
    """The states of all schedules of one file. Making it touches nothing, and reading an absent one finds nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, file: Path) -> States:
        """Where the states of a schedule file are unless somebody says otherwise: in the working directory, named for its path."""
        path = Path(os.path.abspath(file)).with_suffix("")  # noqa: PTH100 a link that is set anew stays the same file
        inside = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.relative_to("/")
        # Twice where the path has one: a-b/c and a/b-c are two files.
        return cls(Path(".penstock", "schedules", "-".join(part.replace("-", "--") for part in inside.parts)))

    def read(self, name: str) -> State | None:
        """The state of a schedule, None when it never was any. Raises StoreError for a file that holds something else."""
        file = self.directory / f"{name}.json"
        try:
            return State.from_json(json.loads(file.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{file}: no schedule's state ({type(error).__name__}: {error}). Remove it: the schedule begins anew then"
            ) from error

    def write(self, name: str, state: State) -> None:
        """Replace the state of a schedule, whole and on the disk."""
        file = self.directory / f"{name}.json"
        with _writing(file):
            disk.write_atomically(file, state.to_json())

    def files(self, name: str, due: datetime) -> tuple[Path, Path]:
        """Where the log and the answer of one firing's run go. Older ones are removed."""
        directory = self.directory / name
        with _writing(directory):
            directory.mkdir(exist_ok=True)
            for pattern in ("*.log", "*.json"):
                for old in sorted(directory.glob(pattern))[: -KEPT_LOGS + 1]:
                    old.unlink(missing_ok=True)
        stem = f"{due.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        return directory / f"{stem}.log", directory / f"{stem}.json"

    @contextlib.contextmanager
    def held(self, file: Path) -> Iterator[None]:
        """Be the one scheduler of these states. Raises ConfigError when there is another."""
        lock = self.directory / ".lock"
        with _writing(lock):
            self.directory.mkdir(parents=True, exist_ok=True)
            lock.touch()
        try:
            with locks.locked(lock, f"pipeline schedule run {file}", patience_s=_LOOKED_AT_S):
                yield
        except locks.NotGivenError as other:
            raise ConfigError(
                f"{file}: {other} schedules it already. Stop that one, or give --state another directory than "
                f"{self.directory} for schedules of its own"
            ) from other

    def is_held(self) -> bool:
        """Whether a scheduler is at work on them."""
        try:
            return locks.is_locked(self.directory / ".lock")
        except OSError:
            return True  # another user's, which is not ours to lock


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """As disk.writing, with advice that is right here."""
    try:
        with disk.writing(path):
            yield
    except StoreError as error:
        raise StoreError(str(error).replace("another --root", "another --state directory")) from error


def _text(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None
