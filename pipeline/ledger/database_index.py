"""The index in a database: rows that say what the store says, written as it changes and made again from it when they are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline import locks
from pipeline.ledger.database import Database
from pipeline.ledger.records import ArtifactRow, Edge, RunRecord, StepRecord
from pipeline.ledger.run_files import recorded_runs
from pipeline.ledger.store_index import artifact_rows, edges
from pipeline.ledger.tables import put, tables
from pipeline.store import Execution, Store
from schemas.owner import Owner

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_LONGEST_MESSAGE = 10_000  # characters; MySQL's TEXT ends at 65,535 bytes


class DatabaseIndex:
    """Rows about one root, in an SQLite file of its own or in a database that may hold those of other roots too."""

    def __init__(self, store: Store, url: str | None) -> None:
        self._store = store
        self._database = Database(url, store.root / "ledger.sqlite" if url is None else None)
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

    def put(self, record: RunRecord, execution: Execution | None) -> None:
        """Write the rows of a run, and of an execution."""

        def work(connection: Connection) -> None:
            self._put_run(connection, record)
            if execution is not None:
                self._put_execution(connection, execution)

        self._prepare()
        self._database.write(work)

    def rebuild(self) -> tuple[int, int]:
        """Make this root's rows again from the store; gives how many runs and executions there are."""
        self._prepare()
        return self._database.write(self._rebuild)

    def _put_run(self, connection: Connection, record: RunRecord) -> None:
        put(
            connection,
            tables().runs,
            id=record.id,
            pipeline=record.pipeline,
            graph_digest=record.graph_digest,
            started_at=record.started_at,
            ended_at=record.ended_at,
            outcome=record.outcome,
            parameters=dict(record.parameters),
            root=str(self._store.root),  # where it is now: the record has where it was
            host=record.owner.host if record.owner else "",
            pid=record.owner.pid if record.owner else 0,
            owner=record.owner.to_json() if record.owner else None,
        )
        for position, step in enumerate(record.steps):
            put(
                connection,
                tables().run_steps,
                run=record.id,
                step=step.step,
                position=position,
                key=step.key,
                action=step.action,
                reason=step.reason[:_LONGEST_MESSAGE],
                seconds=step.seconds,
                message=step.message[:_LONGEST_MESSAGE],
                started_at=step.started_at,
                owner=step.owner.to_json() if step.owner else None,
            )

    def _put_execution(self, connection: Connection, execution: Execution) -> None:
        manifest = execution.manifest
        put(
            connection,
            tables().executions,
            step=manifest.step,
            key=manifest.key,
            component=manifest.component,
            pipeline=manifest.pipeline,
            run=manifest.run,
            created_at=manifest.created_at,
            seconds=manifest.seconds,
            refusal=None if manifest.refusal is None else manifest.refusal.to_json(),
            root=str(self._store.root),
        )
        for row in artifact_rows(execution):
            put(
                connection,
                tables().artifacts,
                step=row.step,
                key=row.key,
                output=row.output,
                type=row.type,
                digest=row.digest,
                properties=dict(row.properties),
                path=row.path.relative_to(self._store.root).as_posix(),
                bytes=row.bytes,
            )
        for edge in edges(execution):
            put(
                connection,
                tables().inputs,
                step=edge.step,
                key=edge.key,
                port=edge.port,
                from_step=edge.from_step,
                from_key=edge.from_key,
                from_output=edge.from_output,
                digest=edge.digest,
            )

    def _rebuild(self, connection: Connection) -> tuple[int, int]:
        from sqlalchemy import and_, delete, exists, select

        runs, executions, steps = tables().runs, tables().executions, tables().run_steps
        # Our own file is about this root alone, wherever that has been moved from; another database may index several.
        ours = () if self.is_under_root else (str(self._store.root),)
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
        recorded = recorded_runs(self._store)
        for record in recorded:
            self._put_run(connection, record)
        published = self._store.executions()
        for execution in published:
            self._put_execution(connection, execution)
        return len(recorded), len(published)

    # Reading

    def runs(self, limit: int | None, pipeline: str | None) -> list[RunRecord]:
        """The newest runs first."""
        from sqlalchemy import select

        table = tables().runs
        query = select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        if pipeline is not None:
            query = query.where(table.c.pipeline == pipeline)
        with self._reading() as connection:
            return [_run_from(connection, row) for row in connection.execute(query).all()]

    def ids(self, beginning: str, limit: int) -> list[str]:
        """Ids of runs that begin so, in their order."""
        from sqlalchemy import select

        ids = tables().runs.c.id
        query = select(ids).where(ids.startswith(beginning, autoescape=True)).order_by(ids).limit(limit)
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def run(self, run: str) -> RunRecord | None:
        """The run of that very id."""
        from sqlalchemy import select

        table = tables().runs
        with self._reading() as connection:
            row = connection.execute(select(table).where(table.c.id == run)).first()
            return None if row is None else _run_from(connection, row)

    def artifacts(self, step: str, key: str) -> list[ArtifactRow]:
        """The outputs of an execution, by name."""
        from sqlalchemy import select

        table = tables().artifacts
        query = select(table).where(table.c.step == step, table.c.key == key).order_by(table.c.output)
        with self._reading() as connection:
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
                for row in connection.execute(query)
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
        with self._reading() as connection:
            return [
                Edge(row.step, row.key, row.port, row.from_step, row.from_key, row.from_output, row.digest)
                for row in connection.execute(query)
            ]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._prepare()
        with self._database.reading() as connection:
            yield connection

    # Making

    def _prepare(self) -> None:
        """Make what is missing: the file, the tables, and their rows from the store."""
        file = self._database.file
        if self._ready and (file is None or file.exists()):
            return
        if file is not None:
            self._store.open()
        lock = self._store.root / "locks" / "ledger.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with self._database.reaching(), locks.locked(lock, "ledger"):
            from sqlalchemy import select

            self._database.make_tables()
            runs = tables().runs
            known = select(runs.c.id).limit(1)
            if file is None:
                known = known.where(runs.c.root == str(self._store.root))

            def fill(connection: Connection) -> None:
                if connection.execute(known).first() is None:
                    self._rebuild(connection)

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
