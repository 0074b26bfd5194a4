"""The ledger: an index of runs, executions, artifacts and their lineage, which can be made again from the store."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pipeline import locks
from pipeline.store import Execution, Store
from schemas.errors import ConfigError, StoreError
from schemas.owner import Owner

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Row, Table

T = TypeVar("T")

FORMAT = 1  # of runs/<run>/run.json
_BUSY_TIMEOUT_S = 60.0
_ATTEMPTS = 10
# SQLite's. A writer takes the write lock at once and waits for it: one that has read first would fail instead of waiting.
_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"
_LONGEST_MESSAGE = 10_000  # characters; MySQL's TEXT ends at 65,535 bytes

Action = Literal["run", "reuse", "refused", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What became of one step in one run."""

    step: str
    key: str = ""  # empty when the run ended before the step's inputs were known
    action: Action
    reason: str = ""  # why it ran, was reused or skipped
    seconds: float = 0.0
    message: str = ""  # the error or refusal


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as `runs/<run>/run.json` has it."""

    id: str
    pipeline: str
    graph_digest: str
    started_at: str  # ISO 8601, UTC
    ended_at: str | None = None
    outcome: str | None = None  # None until the run ends
    parameters: Mapping[str, Any] = field(default_factory=dict)
    root: str
    owner: Owner
    steps: tuple[StepRecord, ...] = ()  # in the order they ended

    @property
    def state(self) -> str:
        """The outcome; `running` without one, `interrupted` when the run's process is provably dead."""
        if self.outcome is not None:
            return self.outcome
        return "interrupted" if self.owner.is_dead() else "running"

    @property
    def seconds(self) -> float | None:
        """How long the run took, None when it has not ended."""
        if self.ended_at is None:
            return None
        return (datetime.fromisoformat(self.ended_at) - datetime.fromisoformat(self.started_at)).total_seconds()

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"format": FORMAT, "steps": [asdict(step) for step in self.steps]}

    @classmethod
    def from_json(cls, found: Any) -> RunRecord:
        """Read back what `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        known["owner"] = Owner.from_json(found["owner"])
        known["steps"] = tuple(
            StepRecord(**{name: step[name] for name in StepRecord.__dataclass_fields__ if name in step})
            for step in found.get("steps", ())
        )
        return cls(**known)


@dataclass(frozen=True)
class ArtifactRow:
    """An output of an execution, as the ledger lists it."""

    step: str
    key: str
    output: str
    type: str
    digest: str
    properties: Mapping[str, Any]
    path: Path
    bytes: int


@dataclass(frozen=True)
class Edge:
    """Execution (`step`, `key`) read, through `port`, an output of execution (`from_step`, `from_key`)."""

    step: str
    key: str
    port: str
    from_step: str
    from_key: str
    from_output: str
    digest: str


class Ledger:
    """Runs are recorded twice: in the store, which is the truth, and here, where they can be searched.

    `url` is SQLAlchemy's; None is `ledger.sqlite` under the store's root. A ledger that is not there, or was deleted, is made
    from the store when it is first needed. Methods raise StoreError when the database cannot be reached, and ConfigError
    for a URL that is none.
    """

    def __init__(self, store: Store, url: str | None = None) -> None:
        self.store = store
        self._url = url
        self._file = store.root / "ledger.sqlite" if url is None else None
        self._ready = False
        self._writing = threading.Lock()

    # Recording

    def start_run(
        self, pipeline: str, graph_digest: str, parameters: Mapping[str, Any] | None = None, *, run: str | None = None
    ) -> RunRecord:
        """Record that this process starts a run. `run` is its id, by default a new one that sorts by time."""
        now = datetime.now(UTC)
        record = RunRecord(
            id=run or f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
            pipeline=pipeline,
            graph_digest=graph_digest,
            started_at=now.isoformat(timespec="milliseconds"),
            parameters=dict(parameters or {}),
            root=str(self.store.root),
            owner=Owner.current(),
        )
        self._record(record)
        return record

    def record_step(self, run: str, step: StepRecord, execution: Execution | None = None) -> None:
        """Record what became of a step; again for the same step replaces it. `execution` is what was made or reused."""
        with self._writing:
            record = self._from_store(run)
            steps = tuple(other for other in record.steps if other.step != step.step)
            self._record(replace(record, steps=(*steps, step)), execution)

    def end_run(self, run: str, outcome: str) -> RunRecord:
        """Record how a run ended: `done`, `failed`, `refused` or `interrupted`."""
        with self._writing:
            ended_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            record = replace(self._from_store(run), outcome=outcome, ended_at=ended_at)
            self._record(record)
            return record

    # Reading

    def runs(self, limit: int | None = 20, *, pipeline: str | None = None) -> list[RunRecord]:
        """The newest runs first, at most `limit` of them; only those of one pipeline if asked."""
        from sqlalchemy import select

        if self._is_nowhere():
            return []
        table = _tables().runs
        query = select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        if pipeline is not None:
            query = query.where(table.c.pipeline == pipeline)
        with self._connection() as connection:
            return [self._run_from(connection, row) for row in connection.execute(query).all()]

    def run(self, run: str) -> RunRecord:
        """The run whose id is or begins with `run`, or the newest for "latest". ConfigError for none and for several."""
        from sqlalchemy import select

        if run == "latest":
            newest = self.runs(1)
            if not newest:
                raise ConfigError(f"there is no run in {self._name()} yet. `pipeline run` makes one.")
            return newest[0]
        table = _tables().runs
        query = select(table).where(table.c.id.startswith(run, autoescape=True)).order_by(table.c.id).limit(11)
        if self._is_nowhere():
            raise ConfigError(f"there is no run '{run}': {self.store.root} does not exist. `pipeline run` makes it.")
        with self._connection() as connection:
            found = connection.execute(query).all()
            exact = [row for row in found if row.id == run]
            if len(found) > 1 and not exact:
                ids = ", ".join(row.id for row in found[:10]) + (", ..." if len(found) > 10 else "")
                raise ConfigError(f"'{run}' is the beginning of several runs: {ids}. Give more of the id.")
            if not found:
                raise ConfigError(f"there is no run '{run}' in {self._name()}. `pipeline runs` lists them.")
            return self._run_from(connection, (exact or found)[0])

    def artifacts(self, step: str, key: str) -> list[ArtifactRow]:
        """The outputs of an execution, by name; none when the ledger does not know it."""
        from sqlalchemy import select

        table = _tables().artifacts
        query = select(table).where(table.c.step == step, table.c.key == key).order_by(table.c.output)
        with self._connection() as connection:
            return [
                ArtifactRow(
                    row.step,
                    row.key,
                    row.output,
                    row.type,
                    row.digest,
                    row.properties,
                    self.store.root / row.path,
                    row.bytes,
                )
                for row in connection.execute(query)
            ]

    def inputs_of(self, step: str, key: str) -> list[Edge]:
        """What an execution read."""
        table = _tables().inputs
        return self._edges(table.c.step == step, table.c.key == key)

    def readers_of(self, step: str, key: str) -> list[Edge]:
        """Which executions read an output of this one."""
        table = _tables().inputs
        return self._edges(table.c.from_step == step, table.c.from_key == key)

    def rebuild(self) -> tuple[int, int]:
        """Make the ledger again from the store; gives how many runs and executions it has. Other roots' rows are kept."""
        with self._writing:
            self._prepare()
            return self._write(self._rebuild)

    # Writing rows

    def _record(self, record: RunRecord, execution: Execution | None = None) -> None:
        self.store.write_run(record.id, record.to_json())

        def put(connection: Connection) -> None:
            self._put_run(connection, record)
            if execution is not None:
                self._put_execution(connection, execution)

        self._prepare()
        self._write(put)

    def _from_store(self, run: str) -> RunRecord:
        path = self.store.run_directory(run) / "run.json"
        try:
            return RunRecord.from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"cannot read {path}, the record of run {run}: {error}. Was it removed while the run went on?"
            ) from error

    def _put_run(self, connection: Connection, record: RunRecord) -> None:
        tables = _tables()
        _put(
            connection,
            tables.runs,
            id=record.id,
            pipeline=record.pipeline,
            graph_digest=record.graph_digest,
            started_at=record.started_at,
            ended_at=record.ended_at,
            outcome=record.outcome,
            parameters=dict(record.parameters),
            root=str(self.store.root),  # where it is now: the record has where it was
            host=record.owner.host,
            pid=record.owner.pid,
            owner=record.owner.to_json(),
        )
        for position, step in enumerate(record.steps):
            _put(
                connection,
                tables.run_steps,
                run=record.id,
                step=step.step,
                position=position,
                key=step.key,
                action=step.action,
                reason=step.reason[:_LONGEST_MESSAGE],
                seconds=step.seconds,
                message=step.message[:_LONGEST_MESSAGE],
            )

    def _put_execution(self, connection: Connection, execution: Execution) -> None:
        tables, manifest = _tables(), execution.manifest
        _put(
            connection,
            tables.executions,
            step=manifest.step,
            key=manifest.key,
            component=manifest.component,
            pipeline=manifest.pipeline,
            run=manifest.run,
            created_at=manifest.created_at,
            seconds=manifest.seconds,
            refusal=None if manifest.refusal is None else manifest.refusal.to_json(),
            root=str(self.store.root),
        )
        for output, artifact in manifest.outputs.items():
            _put(
                connection,
                tables.artifacts,
                step=manifest.step,
                key=manifest.key,
                output=output,
                type=artifact.type,
                digest=artifact.digest,
                properties=dict(artifact.properties),
                path=execution.output(output).relative_to(self.store.root).as_posix(),
                bytes=artifact.bytes,
            )
        for port, source in manifest.inputs.items():
            _put(
                connection,
                tables.inputs,
                step=manifest.step,
                key=manifest.key,
                port=port,
                from_step=source.step,
                from_key=source.key,
                from_output=source.output,
                digest=source.digest,
            )

    def _rebuild(self, connection: Connection) -> tuple[int, int]:
        from sqlalchemy import and_, delete, exists, select

        tables = _tables()
        runs, executions = tables.runs, tables.executions
        # Our own file is about this root alone, wherever that has been moved from; another database may index several.
        ours = () if self._file is not None else (str(self.store.root),)
        of_ours = exists(select(runs.c.id).where(tables.run_steps.c.run == runs.c.id, runs.c.root.in_(ours)))
        connection.execute(delete(tables.run_steps).where(of_ours) if ours else delete(tables.run_steps))
        for table in (tables.artifacts, tables.inputs):
            made_here = and_(
                table.c.step == executions.c.step, table.c.key == executions.c.key, executions.c.root.in_(ours)
            )
            clear = delete(table)
            connection.execute(clear.where(exists(select(executions.c.key).where(made_here))) if ours else clear)
        for table in (runs, executions):
            connection.execute(delete(table).where(table.c.root.in_(ours)) if ours else delete(table))
        recorded = recorded_runs(self.store)
        for record in recorded:
            self._put_run(connection, record)
        published = self.store.executions()
        for execution in published:
            self._put_execution(connection, execution)
        return len(recorded), len(published)

    # Reading rows

    def _is_nowhere(self) -> bool:
        """Whether there is no root yet: only looking does not make one."""
        return self._file is not None and not self.store.root.is_dir()

    def _run_from(self, connection: Connection, row: Row[Any]) -> RunRecord:
        from sqlalchemy import select

        table = _tables().run_steps
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
            owner=Owner.from_json(row.owner),
            steps=tuple(
                StepRecord(
                    step=step.step,
                    key=step.key,
                    action=step.action,
                    reason=step.reason,
                    seconds=step.seconds,
                    message=step.message,
                )
                for step in steps
            ),
        )

    def _edges(self, *conditions: Any) -> list[Edge]:
        from sqlalchemy import select

        table = _tables().inputs
        query = select(table).where(*conditions).order_by(table.c.step, table.c.key, table.c.port)
        with self._connection() as connection:
            return [
                Edge(row.step, row.key, row.port, row.from_step, row.from_key, row.from_output, row.digest)
                for row in connection.execute(query)
            ]

    # The database

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A transaction that reads."""
        self._prepare()
        with self._reaching(), self._engine.connect().execution_options(begin=_READ) as connection, connection.begin():
            yield connection

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction, and again when the database sacrifices it to another one's (a deadlock)."""
        from sqlalchemy.exc import DBAPIError

        with self._reaching():
            for attempts_left in reversed(range(_ATTEMPTS)):
                try:
                    with (
                        self._engine.connect().execution_options(begin=_WRITE) as connection,
                        connection.begin(),
                    ):
                        return work(connection)
                except DBAPIError:
                    # SQLite has waited for its lock as long as it should, and has no other reason that passes.
                    if attempts_left == 0 or self._engine.dialect.name == "sqlite":
                        raise
                    time.sleep(0.1 + 0.3 * random.random())
        raise AssertionError("the last attempt returns or raises")

    def _prepare(self) -> None:
        """Make what is missing: the file, the tables, and their rows from the store."""
        if self._ready and (self._file is None or self._file.exists()):
            return
        if self._file is not None:
            self.store.open()
        lock = self.store.root / "locks" / "ledger.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with self._reaching(), locks.locked(lock, "ledger"):
            from sqlalchemy import inspect, select

            if not inspect(self._engine).has_table("runs"):
                self._make_tables()
            runs = _tables().runs
            known = select(runs.c.id).limit(1)
            if self._file is None:
                known = known.where(runs.c.root == str(self.store.root))

            def fill(connection: Connection) -> None:
                if connection.execute(known).first() is None:
                    self._rebuild(connection)

            self._write(fill)
        self._ready = True

    def _make_tables(self) -> None:
        from sqlalchemy import text

        if self._engine.dialect.name == "sqlite":
            with self._engine.connect().execution_options(begin=None) as connection:
                connection.execute(text("PRAGMA journal_mode=WAL"))  # kept in the file: readers wait for nobody
        # A run of another root may make the same tables at the same time: then the next attempt finds them.
        self._write(_metadata().create_all)

    @functools.cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import NullPool, create_engine, event
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        url = self._url if self._file is None else f"sqlite:///{self._file}"
        assert url is not None
        sqlite = url.startswith("sqlite")
        try:
            engine = create_engine(
                url,
                # A connection that is kept would be shared with the step processes that are forked from this one.
                poolclass=NullPool,
                json_serializer=_portable_json,
                connect_args={"timeout": _BUSY_TIMEOUT_S} if sqlite else {},
            )
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigError(
                f"ledger: '{re.sub(r':[^:/@]*@', ':***@', url)}' is not a database URL ({error}). Expected sqlite:///FILE, "
                f"postgresql+psycopg://USER:PASSWORD@HOST/NAME or mysql+pymysql://USER:PASSWORD@HOST/NAME."
            ) from error
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"ledger: {error.name} is not installed, which this kind of database needs. Add it to the environment "
                f"(`uv pip install {error.name}`), or leave `ledger` out to use SQLite."
            ) from error
        if sqlite:
            event.listen(engine, "connect", _leave_transactions_to_us)
            event.listen(engine, "begin", _begin)
        return engine

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip()
            advice = (
                f"Nothing but the index is lost when you remove {self._file}: it is made again from the store"
                if self._file is not None
                else "Is the database up, and may this user write there? Nothing is lost: once it is back, `pipeline run` "
                "goes on from what is finished"
            )
            raise StoreError(f"the ledger {self._name()} cannot be used: {cause}. {advice}.") from error

    def _name(self) -> str:
        if self._file is not None:
            return str(self._file)
        return self._engine.url.render_as_string(hide_password=True)


def recorded_runs(store: Store) -> list[RunRecord]:
    """The runs under one root as the store has them, newest first. Records that cannot be read are left out."""
    records = []
    for found in store.run_records().values():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            records.append(RunRecord.from_json(found))
    return sorted(records, key=lambda record: (record.started_at, record.id), reverse=True)


class _Tables(NamedTuple):
    runs: Table
    run_steps: Table
    executions: Table
    artifacts: Table
    inputs: Table


@functools.cache
def _metadata() -> MetaData:
    from sqlalchemy import JSON, BigInteger, Column, Double, Integer, MetaData, String, Table, Text

    # Types and lengths that SQLite, PostgreSQL and MySQL all have. Times are ISO 8601 strings, which sort.
    step, key, run, time, digest = String(64), String(64), String(64), String(40), String(80)
    metadata = MetaData()
    in_utf8: Any = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}
    Table(
        "runs",
        metadata,
        Column("id", run, primary_key=True),
        Column("pipeline", String(64), nullable=False, index=True),
        Column("graph_digest", digest, nullable=False),
        Column("started_at", time, nullable=False, index=True),
        Column("ended_at", time),
        Column("outcome", String(20)),
        Column("parameters", JSON, nullable=False),
        Column("root", Text, nullable=False),
        Column("host", String(255), nullable=False),
        Column("pid", Integer, nullable=False),
        Column("owner", JSON, nullable=False),
        **in_utf8,
    )
    Table(
        "run_steps",
        metadata,
        Column("run", run, primary_key=True),
        Column("step", step, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("key", key, nullable=False, index=True),
        Column("action", String(20), nullable=False),
        Column("reason", Text, nullable=False),
        Column("seconds", Double, nullable=False),
        Column("message", Text, nullable=False),
        **in_utf8,
    )
    Table(
        "executions",
        metadata,
        Column("step", step, primary_key=True),
        Column("key", key, primary_key=True),
        Column("component", String(255), nullable=False),
        Column("pipeline", String(64), nullable=False),
        Column("run", run, nullable=False),
        Column("created_at", time, nullable=False),
        Column("seconds", Double, nullable=False),
        Column("refusal", JSON),
        Column("root", Text, nullable=False),
        **in_utf8,
    )
    Table(
        "artifacts",
        metadata,
        Column("step", step, primary_key=True),
        Column("key", key, primary_key=True),
        Column("output", step, primary_key=True),
        Column("type", String(64), nullable=False),
        Column("digest", digest, nullable=False, index=True),
        Column("properties", JSON, nullable=False),
        Column("path", Text, nullable=False),  # relative to the root, which may be moved
        Column("bytes", BigInteger, nullable=False),
        **in_utf8,
    )
    Table(
        "inputs",
        metadata,
        Column("step", step, primary_key=True),
        Column("key", key, primary_key=True),
        Column("port", step, primary_key=True),
        Column("from_step", step, nullable=False),
        Column("from_key", key, nullable=False, index=True),
        Column("from_output", step, nullable=False),
        Column("digest", digest, nullable=False),
        **in_utf8,
    )
    return metadata


def _tables() -> _Tables:
    tables = _metadata().tables
    return _Tables(*(tables[name] for name in _Tables._fields))


def _put(connection: Connection, table: Table, **values: Any) -> None:
    """Insert a row, or change the one with its primary key: what each database writes in a way of its own."""
    from sqlalchemy import and_, insert, literal, select, update
    from sqlalchemy.exc import IntegrityError

    same = and_(*(column == values[column.name] for column in table.primary_key.columns))
    change = update(table).where(same).values(values)
    # Not by trying the update first: MySQL would lock the gap where the row is not, and writers deadlock there.
    if connection.execute(select(literal(1)).select_from(table).where(same)).first():
        connection.execute(change)
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(table).values(values))
    except IntegrityError:  # another process was quicker
        connection.execute(change)


def _portable_json(value: Any) -> str:
    return json.dumps(_finite(value))


def _finite(value: Any) -> Any:
    """NaN and infinities as strings: PostgreSQL and MySQL refuse them in JSON, and a metric may well be one."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
    # Python's sqlite3 would begin transactions when it thinks best, and never before a SELECT.
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get("begin", _READ)
    if statement is not None:
        connection.exec_driver_sql(statement)
