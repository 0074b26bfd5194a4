"""A database that holds the ledger's index: how it is reached, made, waited for, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.ledger.tables import metadata
from pipeline.ledger.url import parse, shown
from schemas.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

T = TypeVar("T")

_BUSY_TIMEOUT_S = 60.0
_ATTEMPTS = 10
_CONNECT_TIMEOUT_S = 10
# SQLite's. A writer takes the write lock at once and waits for it: one that has read first would fail instead of waiting.
_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"


class Database:
    """One database by its URL, or an SQLite file. Everything raises StoreError when it cannot be used, ConfigError for a URL that is none."""

    def __init__(self, url: str | None, file: Path | None) -> None:
        self._url = url
        self.file = file

    @property
    def name(self) -> str:
        """What to call it before people: without a password."""
        return str(self.file) if self.file is not None else shown(self._url or "")

    @property
    def dialect(self) -> str:
        """sqlite, postgresql or mysql."""
        return self._engine.dialect.name

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads."""
        with self.reaching(), self._engine.connect().execution_options(begin=_READ) as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction, and again when the database sacrifices it to another one's (a deadlock)."""
        from sqlalchemy.exc import DBAPIError

        with self.reaching():
            for attempts_left in reversed(range(_ATTEMPTS)):
                try:
                    with (
                        self._engine.connect().execution_options(begin=_WRITE) as connection,
                        connection.begin(),
                    ):
                        return work(connection)
                except DBAPIError:
                    # SQLite has waited for its lock as long as it should, and has no other reason that passes.
                    if attempts_left == 0 or self.dialect == "sqlite":
                        raise
                    time.sleep(0.1 + 0.3 * random.random())
        raise AssertionError("the last attempt returns or raises")

    def make_tables(self) -> None:
        """Make the tables that are not there, and the columns that tables of an earlier version have not."""
        from sqlalchemy import inspect, text
        from sqlalchemy.schema import CreateColumn

        with self.reaching():
            found = inspect(self._engine)
            if not found.has_table("runs"):
                if self.dialect == "sqlite":
                    with self._engine.connect().execution_options(begin=None) as connection:
                        connection.execute(text("PRAGMA journal_mode=WAL"))  # kept in the file: readers wait for nobody
                # A run of another root may make the same tables at the same time: then the next attempt finds them.
                self.write(metadata().create_all)
                return
            missing = [
                (table, column)
                for table in metadata().sorted_tables
                for column in table.columns
                if column.name not in {existing["name"] for existing in found.get_columns(table.name)}
            ]

            def add(connection: Connection) -> None:
                for table, column in missing:
                    definition = CreateColumn(column).compile(dialect=connection.dialect)
                    connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))

            if missing:
                self.write(add)

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
                json_serializer=_portable_json,
                connect_args={"timeout": _BUSY_TIMEOUT_S} if sqlite else {},
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
        return engine

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn the database's own errors into ours."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip()
            advice = (
                f"Nothing but the index is lost when you remove {self.file}: it is made again from the store"
                if self.file is not None
                else "Is the database up, and may this user write there? Nothing is lost: once it is back, `pipeline run` "
                "goes on from what is finished"
            )
            raise StoreError(f"the ledger {self.name} cannot be used: {cause}. {advice}.") from error


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
