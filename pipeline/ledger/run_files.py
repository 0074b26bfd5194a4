"""The records of runs in the store, runs/<run>/run.json, which many processes on many hosts may change at once."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator

from pipeline import disk, locks
from pipeline.ledger.records import RunRecord
from pipeline.store import Store
from schemas.errors import ConfigError, StoreError

# Longer than an NFS server keeps the locks of a client that is gone (90 s), which is the longest that nobody can do about.
_PATIENCE_S = 300.0
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RunFiles:
    """The truth about runs: one file per run, written whole by a rename, so that a reader never finds half of one.

    Who changes one reads it, changes it and writes it inside `locked`: then no change of another process is lost. The lock is
    that of `pipeline.locks`, on a file that stays beside the record for as long as the record does.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @contextlib.contextmanager
    def locked(self, run: str, *, make: bool = False) -> Iterator[None]:
        """Be the only one who changes the record of a run. With `make` its directory is made when it is not there.

        Raises StoreError when there is no such run, or its lock was not to be had in five minutes.
        """
        if not _RUN_ID.fullmatch(run):
            raise ConfigError(
                f"'{run}' cannot be the id of a run: expected at most 64 letters, digits, '.', '_' and '-', the first a "
                f"letter or digit"
            )
        directory = self._store.run_directory(run) if make else self._store.root / "runs" / run
        path = directory / "run.lock"
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locks.locked(path, f"run {run}", keep=True, patience_s=_PATIENCE_S))
            except FileNotFoundError as error:
                raise _gone(run, directory / "run.json", error) from error
            except locks.NotGivenError as error:
                raise StoreError(
                    f"the record of run {run} was locked for {_PATIENCE_S:.0f} s by {error}. Is that process stopped? Once "
                    f"it has gone on or is ended, run again: what is finished is reused."
                ) from error
            except OSError as error:
                raise disk.store_error(error, path) from error
            yield

    def read(self, run: str) -> RunRecord:
        """The record of a run. Raises StoreError when it is not there or not readable."""
        path = self._store.root / "runs" / run / "run.json"
        try:
            return RunRecord.from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _gone(run, path, error) from error

    def find(self, run: str) -> RunRecord | None:
        """The record of a run; None when there is none. Raises StoreError when it is not readable."""
        try:
            return self.read(run)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def write(self, record: RunRecord) -> None:
        """Write a record, new or changed."""
        self._store.write_run(record.id, record.to_json())


def recorded_runs(store: Store, only: Collection[str] | None = None) -> list[RunRecord]:
    """The runs under one root as the store has them, newest first; only some of them, if asked. Unreadable ones are left out."""
    records = []
    for found in store.run_records(only).values():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            records.append(RunRecord.from_json(found))
    return sorted(records, key=lambda record: (record.started_at, record.id), reverse=True)


def _gone(run: str, path: object, error: Exception) -> StoreError:
    return StoreError(f"cannot read {path}, the record of run {run}: {error}. Was it removed while the run went on?")
