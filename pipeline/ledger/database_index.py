"""The index in a database: rows that say what the store says, written as it changes and made again from it when they are gone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import disk, locks
from pipeline.ledger.database import Database, NoTables, portable_json
from pipeline.ledger.records import ArtifactRow, Edge, RunRecord, StepRecord
from pipeline.ledger.run_files import recorded_runs
from pipeline.ledger.store_index import artifact_rows, edges
from pipeline.ledger.tables import put, tables
from pipeline.store import Execution, Store
from schemas.errors import StoreError
from schemas.owner import Owner

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

T = TypeVar("T")

_REMOVALS = 5  # of the tables, while one thing is done
_LONGEST_MESSAGE = 10_000  # characters; MySQL's TEXT ends at 65,535 bytes


class DatabaseIndex:
    """Rows about one root, in an SQLite file of its own or in a database that may hold those of other roots too."""

    def __init__(self, store: Store, url: str | None, patience_s: float) -> None:
        self._store = store
        self._database = Database(url, store.root / "ledger.sqlite" if url is None else None, patience_s)
        self._root = str(store.root)
        self._ours = f"root {store.root}"  # the lock on our rows
        self._ready = False

    @property
    def name(self) -> str:
        """What to call it before people."""
        return self._database.name

    @property
    def is_under_root(self) -> bool:
        """Whether it is a file under the root."""
        return self._database.file is not None

    # Writing

    def reach(self) -> None:
        """Raise what keeps it from being used, if anything does."""
        self._do(lambda: None)

    def put(self, record: RunRecord, execution: Execution | None, *, new: bool) -> None:
        """Write the rows of a run, and of an execution. `new`: the run is recorded for the first time."""

        def work(connection: Connection) -> bool:
            self._database.lock(connection, self._ours, shared=True)
            complete = new or self._has(connection, record.id)
            self._put_run(connection, record)
            if execution is not None:
                self._put_executions(connection, execution)
            return complete

        if not self._do(lambda: self._database.write(work)):
            self._do(lambda: self._database.write(self._fill))  # the run was in the index, and somebody emptied that

    def rebuild(self) -> tuple[int, int]:
        """Make this root's rows again from the store; gives how many runs and executions there are."""
        return self._do(lambda: self._database.write(self._rebuild))

    def _put_run(self, connection: Connection, *records: RunRecord) -> None:
        indexed = [_as_indexed(record) for record in records]
        put(
            connection,
            tables().runs,
            *(
                {
                    "id": record.id,
                    "pipeline": record.pipeline,
                    "graph_digest": record.graph_digest,
                    "started_at": record.started_at,
                    "ended_at": record.ended_at,
                    "outcome": record.outcome,
                    "parameters": dict(record.parameters),
                    "root": self._root,  # where it is now: the record has where it was
                    "host": record.owner.host if record.owner else "",
                    "pid": record.owner.pid if record.owner else 0,
                    "owner": record.owner.to_json() if record.owner else None,
                }
                for record in indexed
            ),
        )
        put(
            connection,
            tables().run_steps,
            *(
                {
                    "run": record.id,
                    "step": step.step,
                    "position": position,
                    "key": step.key,
                    "action": step.action,
                    "reason": step.reason,
                    "seconds": step.seconds,
                    "message": step.message,
                    "started_at": step.started_at,
                    "owner": step.owner.to_json() if step.owner else None,
                }
                for record in indexed
                for position, step in enumerate(record.steps)
            ),
        )

    def _put_executions(self, connection: Connection, *executions: Execution) -> None:
        put(
            connection,
            tables().executions,
            *(
                {
                    "step": manifest.step,
                    "key": manifest.key,
                    "component": manifest.component,
                    "pipeline": manifest.pipeline,
                    "run": manifest.run,
                    "created_at": manifest.created_at,
                    "seconds": manifest.seconds,
                    "refusal": None if manifest.refusal is None else manifest.refusal.to_json(),
                    "root": self._root,
                }
                for manifest in (execution.manifest for execution in executions)
            ),
        )
        put(
            connection,
            tables().artifacts,
            *(
                {
                    "step": row.step,
                    "key": row.key,
                    "output": row.output,
                    "type": row.type,
                    "digest": row.digest,
                    "properties": dict(row.properties),
                    "path": row.path.relative_to(self._store.root).as_posix(),
                    "bytes": row.bytes,
                }
                for execution in executions
                for row in artifact_rows(execution)
            ),
        )
        put(connection, tables().inputs, *(asdict(edge) for execution in executions for edge in edges(execution)))

    def _rebuild(self, connection: Connection) -> tuple[int, int]:
        from sqlalchemy import and_, delete, exists, select

        self._database.lock(connection, self._ours)
        runs, executions, steps = tables().runs, tables().executions, tables().run_steps
        # Our own file is about this root alone, wherever that has been moved from; another database may index several.
        ours = () if self.is_under_root else (self._root,)
        of_ours = exists(select(runs.c.id).where(steps.c.run == runs.c.id, runs.c.root.in_(ours)))
        connection.execute(delete(steps).where(of_ours) if ours else delete(steps))
        for table in (tables().artifacts, tables().inputs):
            made_here = and_(
                table.c.step == executions.c.step, table.c.key == executions.c.key, executions.c.root.in_(ours)
            )
            clear = delete(table)
            connection.execute(clear.where(exists(select(executions.c.key).where(made_here))) if ours else clear)
        for table in (runs, executions):
            connection.execute(delete(table).where(table.c.root.in_(ours)) if ours else delete(table))
        return self._fill(connection)

    def _fill(self, connection: Connection) -> tuple[int, int]:
        """Put all that the store has."""
        self._database.lock(
            connection, self._ours
        )  # first: what is recorded in the store later gets its rows after ours
        recorded = recorded_runs(self._store)
        self._put_run(connection, *recorded)
        published = self._store.executions()
        self._put_executions(connection, *published)
        return len(recorded), len(published)

    # Reading

    def runs(self, limit: int | None, pipeline: str | None) -> list[RunRecord]:
        """The newest runs first."""
        from sqlalchemy import select

        table = tables().runs
        query = select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        if pipeline is not None:
            query = query.where(table.c.pipeline == pipeline)
        return self._read(lambda connection: [_run_from(connection, row) for row in connection.execute(query).all()])

    def ids(self, beginning: str, limit: int) -> list[str]:
        """Ids of runs that begin so, in their order."""
        from sqlalchemy import select

        ids = tables().runs.c.id
        query = select(ids).where(ids.startswith(beginning, autoescape=True)).order_by(ids).limit(limit)
        return self._read(lambda connection: list(connection.execute(query).scalars()))

    def run(self, run: str) -> RunRecord | None:
        """The run of that very id."""
        from sqlalchemy import select

        table = tables().runs

        def find(connection: Connection) -> RunRecord | None:
            row = connection.execute(select(table).where(table.c.id == run)).first()
            return None if row is None else _run_from(connection, row)

        return self._read(find)

    def artifacts(self, step: str, key: str) -> list[ArtifactRow]:
        """The outputs of an execution, by name."""
        from sqlalchemy import select

        table = tables().artifacts
        query = select(table).where(table.c.step == step, table.c.key == key).order_by(table.c.output)
        rows = self._read(lambda connection: connection.execute(query).all())
        return [
            ArtifactRow(
                row.step,
                row.key,
                row.output,
                row.type,
                row.digest,
                row.properties,
                self._store.root / row.path,
                row.bytes,
            )
            for row in rows
        ]

    def inputs_of(self, step: str, key: str) -> list[Edge]:
        """What an execution read."""
        table = tables().inputs
        return self._edges(table.c.step == step, table.c.key == key)

    def readers_of(self, step: str, key: str) -> list[Edge]:
        """Which executions read an output of this one."""
        table = tables().inputs
        return self._edges(table.c.from_step == step, table.c.from_key == key)

    def _edges(self, *conditions: Any) -> list[Edge]:
        from sqlalchemy import select

        table = tables().inputs
        query = select(table).where(*conditions).order_by(table.c.step, table.c.key, table.c.port)
        return [
            Edge(row.step, row.key, row.port, row.from_step, row.from_key, row.from_output, row.digest)
            for row in self._read(lambda connection: connection.execute(query).all())
        ]

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._do(self._catch_up)
        return self._do(lambda: self._database.read(work))

    # Keeping up with the store

    def _catch_up(self) -> None:
        """Take in what others recorded in the store and not here: they have another ledger, or none."""

        from sqlalchemy import delete, select

        runs, steps = tables().runs, tables().run_steps

        def behind(connection: Connection) -> tuple[set[str], list[RunRecord]]:
            """Runs that are in the index and no longer in the store, and runs of which the index does not know all."""
            there = {path.name for path in disk.directories(self._store.root / "runs")}
            query = select(runs.c.id, runs.c.outcome)
            if not self.is_under_root:
                query = query.where(runs.c.root == self._root)
            here = {row.id: row.outcome for row in connection.execute(query)}
            changing = {run for run, outcome in here.items() if outcome is None}
            for some in _in_parts(there - set(here)):
                # The same root may have another name where another process mounts it: then its rows say that one.
                ended = select(runs.c.id).where(runs.c.id.in_(some), runs.c.outcome.is_not(None))
                changing |= some - set(connection.execute(ended).scalars())
            recorded = recorded_runs(self._store, changing) if changing else []
            unknown = [record for record in recorded if _as_indexed(record) != self._indexed(connection, record)]
            # In a database of several roots, another machine's may be called as ours: only `rebuild` forgets there.
            return set(here) - there if self.is_under_root else set(), unknown

        def take_in(connection: Connection) -> None:
            gone, found = behind(connection)  # again, since now nobody else changes what we compare with
            for some in _in_parts(gone):
                connection.execute(delete(steps).where(steps.c.run.in_(some)))
                connection.execute(delete(runs).where(runs.c.id.in_(some)))
            self._put_run(connection, *found)
            made = {(step.step, step.key) for record in found for step in record.steps if step.key}
            executions = [e for step in {step for step, _ in made} for e in self._store.executions_of(step)]
            self._put_executions(connection, *(e for e in executions if (e.step, e.key) in made))

        gone, found = self._database.read(behind)
        if gone or found:
            self._database.write_unless_busy(self._ours, take_in)

    def _indexed(self, connection: Connection, record: RunRecord) -> RunRecord | None:
        """What the index says of a run, with the root of its record: they differ after a move."""
        from sqlalchemy import select

        row = connection.execute(select(tables().runs).where(tables().runs.c.id == record.id)).first()
        return None if row is None else replace(_run_from(connection, row), root=record.root)

    def _has(self, connection: Connection, run: str) -> bool:
        from sqlalchemy import select

        runs = tables().runs
        return connection.execute(select(runs.c.id).where(runs.c.id == run)).first() is not None

    # Making

    def _do(self, work: Callable[[], T]) -> T:
        """Do `work` once everything is there, and again if somebody removed it meanwhile."""
        for _ in range(_REMOVALS):
            with contextlib.suppress(NoTables):
                self._prepare()
                return work()
            self._ready = False
        raise StoreError(f"the ledger {self.name} loses its tables again and again: who removes them?")

    def _prepare(self) -> None:
        """Make what is missing: the file, the tables, and their rows from the store."""
        from sqlalchemy import select

        file = self._database.file
        if self._ready and (file is None or file.exists()):
            return
        if file is not None:
            self._store.open()
        runs = tables().runs
        known = select(runs.c.id).limit(1)
        if not self.is_under_root:
            known = known.where(runs.c.root == self._root)

        def is_known(connection: Connection) -> bool:
            return connection.execute(known).first() is not None

        def fill(connection: Connection) -> None:
            self._database.lock(connection, self._ours)
            if not is_known(connection):
                self._fill(connection)

        with contextlib.ExitStack() as alone:
            if self._database.dialect == "sqlite":  # which has no locks but those of its transactions
                lock = self._store.root / "locks" / "ledger.lock"
                with disk.writing(lock):
                    lock.parent.mkdir(parents=True, exist_ok=True)
                    alone.enter_context(locks.locked(lock, "ledger"))
            self._database.make_tables()
            if not self._database.read(is_known):
                self._database.write(fill)
        self._ready = True


def _run_from(connection: Connection, row: Row[Any]) -> RunRecord:
    from sqlalchemy import select

    table = tables().run_steps
    steps = connection.execute(select(table).where(table.c.run == row.id).order_by(table.c.position)).all()
    return RunRecord(
        id=row.id,
        pipeline=row.pipeline,
        graph_digest=row.graph_digest,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        parameters=row.parameters,
        root=row.root,
        owner=None if row.owner is None else Owner.from_json(row.owner),
        steps=tuple(
            StepRecord(
                step=step.step,
                key=step.key,
                action=step.action,
                reason=step.reason,
                seconds=step.seconds,
                message=step.message,
                started_at=step.started_at,
                owner=None if step.owner is None else Owner.from_json(step.owner),
            )
            for step in steps
        ),
    )


def _as_indexed(record: RunRecord) -> RunRecord:
    """The record as a database can hold it: no text too long, none that is not Unicode, no number that is not JSON's."""
    steps = [replace(step, reason=_text(step.reason), message=_text(step.message)) for step in record.steps]
    parameters = json.loads(portable_json(dict(record.parameters)))
    return replace(record, parameters=parameters, steps=tuple(steps), names={})  # by names nobody searches


def _text(said: str) -> str:
    # PostgreSQL takes no NUL, and nobody a surrogate, which the name of a file can bring into an error's message.
    return said.replace("\0", "\\0").encode(errors="backslashreplace").decode()[:_LONGEST_MESSAGE]


def _in_parts(ids: Collection[str]) -> list[set[str]]:
    """As many at once as every database takes in one statement."""
    listed = sorted(ids)
    return [set(listed[start : start + 1000]) for start in range(0, len(listed), 1000)]
