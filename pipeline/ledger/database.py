"""A database that holds the ledger's index: how it is reached, made, waited for, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import disk
from pipeline.ledger.failures import advice as advice_on
from pipeline.ledger.failures import kind_of
from pipeline.ledger.tables import metadata
from pipeline.ledger.url import parse, secrets_of, shown
from schemas.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

T = TypeVar("T")

_BUSY_TIMEOUT_S = 60.0
_CONFLICTS = 20  # that a transaction may lose before it is given up
_CONNECT_TIMEOUT_S = 10
# SQLite's. A writer takes the write lock at once and waits for it: one that has read first would fail instead of waiting.
_READ, _WRITE, _WRITE_AT_ONCE = ("BEGIN",), ("BEGIN IMMEDIATE",), ("PRAGMA busy_timeout = 0", "BEGIN IMMEDIATE")


class NoTables(Exception):
    """The database has not the ledger's tables, or not all of their columns: nobody made them yet, or somebody removed them."""


class Database:
    """One database by its URL, or an SQLite file. Everything raises StoreError when it cannot be used, ConfigError for a URL that is none."""

    def __init__(self, url: str | None, file: Path | None, patience_s: float) -> None:
        self._url = url
        self.file = file
        self._patience_s = patience_s  # with a server that has gone away
        self._reached = False

    @property
    def name(self) -> str:
        """What to call it before people: without a password."""
        return str(self.file) if self.file is not None else shown(self._url or "")

    @property
    def dialect(self) -> str:
        """sqlite, postgresql or mysql."""
        return self._engine.dialect.name

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction that sees the rows as they are at one moment. Raises NoTables where there are none."""
        return self._do(work, begin=_READ, isolation="REPEATABLE READ")

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction, and again when that helps. Raises NoTables where there are none."""
        return self._do(work, begin=_WRITE)

    def write_unless_busy(self, what: str, work: Callable[[Connection], None]) -> None:
        """Do `work` in a transaction that has the lock on `what` alone; do nothing when another writer has it now."""
        from sqlalchemy import text
        from sqlalchemy.exc import OperationalError

        def alone(connection: Connection) -> None:
            if self.dialect == "postgresql":
                number = {"number": _number(what)}
                if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:number)"), number).scalar():
                    return
            work(connection)

        try:
            self._do(alone, begin=_WRITE_AT_ONCE)
        except StoreError as error:
            cause = error.__cause__
            if not (
                isinstance(cause, OperationalError) and getattr(cause.orig, "sqlite_errorname", "") == "SQLITE_BUSY"
            ):
                raise

    def make_tables(self) -> None:
        """Make the tables that are not there, and the columns that tables of an earlier version have not."""
        from sqlalchemy import text

        def make(connection: Connection) -> None:
            self.lock(connection, "tables")  # others may be making them too
            metadata().create_all(connection)
            for table, column in _missing_columns(connection):
                connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {column}"))

        with contextlib.suppress(NoTables):
            self.read(_look)
            return
        # A write-ahead log lets readers wait for nobody, and is kept in the file. Between machines it destroys the file.
        if self.dialect == "sqlite" and not disk.is_shared(Path(self._engine.url.database or ".")):
            with self._reaching(), self._engine.connect().execution_options(begin=()) as connection:
                connection.execute(text("PRAGMA journal_mode=WAL"))
        self.write(make)

    def lock(self, connection: Connection, what: str, *, shared: bool = False) -> None:
        """Have PostgreSQL let nobody else into what `what` names until the transaction ends, or only those who share it.

        SQLite has one writer at a time anyway. MySQL does without: there, what collides is done again.
        """
        from sqlalchemy import text

        if self.dialect == "postgresql":
            how = "_shared" if shared else ""
            connection.execute(text(f"SELECT pg_advisory_xact_lock{how}(:number)"), {"number": _number(what)})

    def _do(self, work: Callable[[Connection], T], *, begin: tuple[str, ...], isolation: str | None = None) -> T:
        from sqlalchemy.exc import DBAPIError, NoSuchTableError

        options: dict[str, Any] = {"begin": begin}
        if isolation is not None and self.dialect != "sqlite":
            options["isolation_level"] = isolation
        conflicts, away_since, pause = 0, None, 0.05
        with self._reaching():
            while True:
                try:
                    with self._engine.connect().execution_options(**options) as connection, connection.begin():
                        done = work(connection)
                except NoSuchTableError as error:
                    raise NoTables from error
                except DBAPIError as error:
                    kind = kind_of(error, self.dialect)
                    if kind == "no tables":
                        raise NoTables from error
                    if kind == "final":
                        raise
                    if kind == "conflict":
                        conflicts += 1
                        if conflicts == _CONFLICTS:
                            raise
                    else:
                        away_since = away_since or time.monotonic()
                        # One that was never reached is more likely a mistake in the URL than a server that restarts.
                        if time.monotonic() - away_since >= min(self._patience_s, math.inf if self._reached else 5.0):
                            raise
                    time.sleep(pause * (0.5 + random.random()))
                    pause = min(2 * pause, 2.0)
                else:
                    self._reached = True
                    return done

    @functools.cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import URL, NullPool, create_engine, event
        from sqlalchemy.exc import NoSuchModuleError

        url = parse(self._url or "") if self.file is None else URL.create("sqlite", database=str(self.file))
        sqlite = url.get_backend_name() == "sqlite"
        try:
            engine = create_engine(
                url,
                # A connection that is kept would be shared with the step processes that are forked from this one.
                poolclass=NullPool,
                json_serializer=portable_json,
                connect_args=_connect_args(url),
            )
        except NoSuchModuleError as error:
            raise ConfigError(
                f"ledger: '{self.name}' is not a database URL ({error}). Expected none, sqlite:///FILE, "
                f"postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME."
            ) from error
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"ledger: {error.name} is not installed, which this kind of database needs. Add it to the environment "
                f"(`uv pip install {error.name}`), or leave `ledger` out to use SQLite."
            ) from error
        if sqlite:
            event.listen(engine, "connect", _leave_transactions_to_us)
            event.listen(engine, "begin", _begin)
        elif url.get_backend_name() == "postgresql":
            event.listen(engine, "begin", _let_nobody_wait_for_ever)
        return engine

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn the database's own errors into ours."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            # Not the error itself: that one quotes the statement and its values.
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            if self.file is not None:
                advice = f"Nothing but the index is lost when you remove {self.file}: it is made again from the store."
            else:
                url = self._engine.url
                advice = (
                    f"{advice_on(error, url.username or 'this user', url.database or 'the database')} Nothing is lost: "
                    f"what has finished is in the store, and the next run goes on from there."
                )
            said = self._without_password(cause).rstrip(".?")
            raise StoreError(f"the ledger {self.name} cannot be used: {said}. {advice}") from error

    def _without_password(self, said: str) -> str:
        for secret in secrets_of(self._url or ""):
            said = said.replace(secret, "***")
        return said


def _connect_args(url: URL) -> dict[str, Any]:
    backend = url.get_backend_name()
    if backend == "sqlite":
        return {"timeout": _BUSY_TIMEOUT_S}
    if backend != "postgresql" or url.get_driver_name() != "psycopg":
        return {}
    # What the URL says goes before. A statement prepared on the server is one that a connection pooler may not find again.
    ours = {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "penstock", "prepare_threshold": None}
    return {name: value for name, value in ours.items() if name not in url.query}


def _look(connection: Connection) -> None:
    from sqlalchemy import select

    for table in metadata().sorted_tables:
        connection.execute(select(table).limit(0))


def _missing_columns(connection: Connection) -> list[tuple[str, str]]:
    """(table, definition of the column) of what tables of an earlier version have not."""
    from sqlalchemy import inspect
    from sqlalchemy.schema import CreateColumn

    missing = []
    for table in metadata().sorted_tables:
        found = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in found:
                missing.append((table.name, str(CreateColumn(column).compile(dialect=connection.dialect))))
    return missing


def portable_json(value: Any) -> str:
    """As JSON that every database takes."""
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
    for statement in connection.get_execution_options().get("begin", _READ):
        connection.exec_driver_sql(statement)


def _let_nobody_wait_for_ever(connection: Connection) -> None:
    # A machine that is gone without a word would leave its transaction open, with all it has locked, for as long as the server
    # believes in the connection: two hours. What waits for a lock longer than it should is done again.
    connection.exec_driver_sql(
        "SELECT set_config('idle_in_transaction_session_timeout', '5min', true), set_config('lock_timeout', '30s', true)"
    )


def _number(what: str) -> int:
    """The number of an advisory lock, 64 bits that nothing else in the database is likely to use."""
    return int.from_bytes(hashlib.sha256(f"penstock {what}".encode()).digest()[:8], signed=True)
