"""What a database's error means: whether it passes by itself, and if not, what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError

Kind = Literal["conflict", "away", "no tables", "final"]

# PostgreSQL's SQLSTATEs.
_CONFLICTS = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available
    "23505",  # unique_violation: of a row, or of a table that another process makes at the same time
    "42P07",  # duplicate_table
    "42701",  # duplicate_column
}
_AWAY = {"57P01", "57P02", "57P03", "53300"}  # stopping, crashed, starting, no connection free
_NO_TABLES = {"42P01", "42703"}  # undefined_table, undefined_column

_MYSQL: dict[int, Kind] = {
    1213: "conflict",  # deadlock
    1205: "conflict",  # lock wait timeout
    1062: "conflict",  # duplicate entry
    1050: "conflict",  # table exists
    1060: "conflict",  # column exists
    1040: "away",  # too many connections
    2003: "away",  # cannot connect
    2006: "away",  # server has gone away
    2013: "away",  # lost connection
    1146: "no tables",
    1054: "no tables",  # unknown column
}

# The server's and libpq's words when there is no SQLSTATE yet: a connection that could not be made.
_COMES_BACK = re.compile(
    r"refused|no such file|timeout|timed out|closed the connection|starting up|shutting down|recovery mode|accepting connections|"
    r"too many clients|too many connections|remaining connection slots|reset by peer|no route to host|unreachable",
    re.IGNORECASE,
)


def kind_of(error: SQLAlchemyError, dialect: str) -> Kind:
    """`conflict`: done again it may well succeed; `away`: the server is not there now; `no tables`: nor are they, or not whole."""
    cause = getattr(error, "orig", None)
    said = str(cause or error)
    if dialect == "sqlite":
        # It has waited for its lock as long as it should, and has no other reason that passes.
        return "no tables" if "no such table" in said or "no such column" in said else "final"
    if dialect in ("mysql", "mariadb"):
        number = cause.args[0] if cause is not None and cause.args else None
        return _MYSQL.get(number, "final") if isinstance(number, int) else "final"
    state = getattr(cause, "sqlstate", None)
    if state in _CONFLICTS:
        return "conflict"
    if state in _NO_TABLES:
        return "no tables"
    if state in _AWAY or (state or "").startswith("08") or getattr(error, "connection_invalidated", False):
        return "away"
    return "away" if not state and _COMES_BACK.search(said) else "final"


def advice(error: SQLAlchemyError, user: str, database: str) -> str:
    """What the person who gave the URL can do: a sentence."""
    cause = getattr(error, "orig", None)
    said = str(cause or error)
    state = getattr(cause, "sqlstate", None)
    if state == "42501" or "permission denied" in said:
        if "for database" in said:
            return f"Have its owner say: GRANT CONNECT ON DATABASE {database} TO {user}."
        schema = re.search(r"permission denied for schema (\S+)", said)
        if schema:
            return (
                f"Have the database's owner say: GRANT USAGE, CREATE ON SCHEMA {schema[1]} TO {user}; or name a schema of "
                f"{user}'s own at the end of the URL: ?options=-csearch_path%3DNAME."
            )
        return f"Have the tables' owner say: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}."
    if re.search(r"database \S+ does not exist|unknown database", said, re.IGNORECASE):
        return f"Make it (`createdb {database}`), or give the name of one that is there."
    if re.search(
        r"authentication failed|access denied|no password supplied|role \S+ does not exist", said, re.IGNORECASE
    ):
        return (
            "Look at user and password of the URL: characters that mean something there are written %40 for @, %2F for /, "
            "%3A for :, %25 for %."
        )
    if "pg_hba.conf" in said:
        return "The server lets nobody in from here like this: ask who runs it, or try ?sslmode=require at the end of the URL."
    if "SSL" in said or "sslmode" in said:
        return "Look at sslmode in the URL: disable, prefer, require, verify-ca or verify-full, as the server has it."
    if re.search(r"resolve host|name or service not known", said, re.IGNORECASE):
        return "Look at the host in the URL, and whether its name is known where this runs."
    if "invalid connection option" in said:
        return "Look at the options of the URL, what stands after its question mark."
    if state == "3F000" or "no schema has been selected" in said:
        return f"Make the schema that search_path names: CREATE SCHEMA NAME AUTHORIZATION {user}."
    return "Is the database up, and may this user write there?"
