"""`pipeline export-mlmd`: the lineage of runs, in an ML Metadata SQLite file that TFX's notebooks and MLMD's client read."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import locks
from pipeline.ledger import Ledger, RunRecord, recorded_runs, resolve_ledger_url
from pipeline.lineage import LineageReader
from pipeline.quiet_imports import quiet_imports
from pipeline.store import Store
from schemas.dotted_path import make_importable, resolve
from schemas.errors import ConfigError, StoreError

_CHECK = "components.io.mlmd.check"
_WRITE = "components.io.mlmd.write"
_PATIENCE_S = 10.0  # with another process that is writing to the file


@dataclass(frozen=True)
class Exported:
    """What was written, and sentences on what could not be."""

    file: Path
    runs: tuple[str, ...]  # oldest first
    executions: int  # new in the file or changed there, as are artifacts
    artifacts: int
    notes: tuple[str, ...]

    @property
    def is_new(self) -> bool:
        """Whether the file has anything that it had not before."""
        return bool(self.executions or self.artifacts)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": "exported" if self.is_new else "nothing new",
            "file": str(self.file),
            "runs": list(self.runs),
            "executions": self.executions,
            "artifacts": self.artifacts,
            "notes": list(self.notes),
        }

    def as_text(self) -> str:
        """A line, and one for each note."""
        which = f"run {self.runs[0]}" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        said = (
            f"{self.file}: {which}, executions: {self.executions}, artifacts: {self.artifacts}"
            if self.is_new
            else f"{self.file} has all of {which}: nothing new"
        )
        return "\n".join([said, *(f"  {note}" for note in self.notes)])


def export_runs(
    file: Path, run: str | None = None, *, every: bool = False, root: str = ".penstock", ledger: str | None = None
) -> Exported:
    """Write the lineage of a run, the newest by default, or of `every` run under `root`, into an ML Metadata file.

    A file that is there is added to, whatever wrote it: what it has of a run already is left as it is or brought up to date.
    It is replaced by one rename, or not touched, so that nobody else may have it open to write meanwhile. Raises ConfigError for a
    run that is not there and a file that is no ML Metadata database, StoreError when the file cannot be written.
    """
    store = Store(root)
    if not store.root.is_dir():
        raise ConfigError(f"{root}: there is no such directory; `pipeline run` makes it, or give the right --root")
    if every and run is not None:
        raise ConfigError(f"--all is every run, and {run} is one: give one of them")
    index = Ledger(store, resolve_ledger_url(None, asked=ledger))
    # As the store has them: the index may have other roots' runs as well, and less of each.
    records = recorded_runs(store, None if every else {index.run(run or "latest").id})
    if not records:
        raise ConfigError(f"there is no run in {store.root} yet. `pipeline run` makes one.")
    records = sorted(records, key=lambda record: (record.started_at, record.id))
    place = file.absolute()
    with _written_whole(place) as new:
        exported = _write(file, new, records, store)
        if exported.is_new or not place.exists():
            _put_in_place(new, place)
    return exported


def _write(file: Path, made: Path, records: list[RunRecord], store: Store) -> Exported:
    reader = LineageReader(store)
    make_importable(Path.cwd())  # the modules of the user's own components and artifact types
    with quiet_imports():
        lineages = [reader.of(record) for record in records]
        written: Mapping[str, Any] = resolve(_WRITE)(made, lineages)
    notes = tuple(dict.fromkeys([*reader.notes, *written["notes"]]))
    return Exported(file, tuple(record.id for record in records), written["executions"], written["artifacts"], notes)


@contextlib.contextmanager
def _written_whole(file: Path) -> Iterator[Path]:
    """A copy of `file`, or the name of a file to be made, beside it and removed at the end. Nobody else is at work on `file`."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with locks.locked(file.with_name(f".{file.name}.lock"), "export-mlmd"), contextlib.ExitStack() as held:
            try:
                if file.exists():
                    _copy(file, new, held)
                yield new
            finally:
                for left in (new, new.with_name(f"{new.name}-journal")):
                    left.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{file}: cannot be written: {error.strerror}. Give a file in a directory that is there and writable"
        ) from error


def _put_in_place(new: Path, file: Path) -> None:
    with new.open("rb") as content:
        os.fsync(content.fileno())
    new.replace(file)


def _copy(file: Path, new: Path, held: contextlib.ExitStack) -> None:
    """Copy a database, and keep others from writing to it for as long as `held`."""
    if file.is_dir():
        raise ConfigError(f"{file} is a directory: name a file in it")
    resolve(_CHECK)(file)
    writer = held.enter_context(contextlib.closing(sqlite3.connect(file, timeout=_PATIENCE_S, isolation_level=None)))
    _leave_wal(writer, file)
    try:
        writer.execute("BEGIN IMMEDIATE")
        with contextlib.closing(sqlite3.connect(file)) as database, contextlib.closing(sqlite3.connect(new)) as copy:
            database.backup(copy)  # by a connection of its own: one that writes is not copied
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{file}: {error}. Does a TFX pipeline write to it now? Export again when it has ended"
        ) from error
    shutil.copymode(file, new)


def _leave_wal(writer: sqlite3.Connection, file: Path) -> None:
    """Have all of a database in its one file, where part of it lies in a write-ahead log that outlives a rename of the file.

    ML Metadata makes none such; its client reads and writes them all the same. Raises StoreError while another process has it open.
    """
    try:
        (mode,) = writer.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            (mode,) = writer.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{file}: {error}: another process has it open, and it is in SQLite's WAL mode, in which what is open must not be replaced. "
            f"Close it there, a notebook's kernel for one, and export again"
        ) from error
