"""The tables of the ledger's index, and how a row is written in any database."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table


class Tables(NamedTuple):
    runs: Table
    run_steps: Table
    executions: Table
    artifacts: Table
    inputs: Table


@functools.cache
def metadata() -> MetaData:
    """The tables, with types that SQLite, PostgreSQL and MySQL all have. A column that is added later must take NULL."""
    from sqlalchemy import JSON, BigInteger, Column, Double, Integer, MetaData, String, Table, Text

    # Times are ISO 8601 strings, which sort.
    step, key, run, time, digest = String(64), String(64), String(64), String(40), String(80)
    made = MetaData()
    in_utf8: Any = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}
    Table(
        "runs",
        made,
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
        made,
        Column("run", run, primary_key=True),
        Column("step", step, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("key", key, nullable=False, index=True),
        Column("action", String(20), nullable=False),
        Column("reason", Text, nullable=False),
        Column("seconds", Double, nullable=False),
        Column("message", Text, nullable=False),
        Column("started_at", time),
        Column("owner", JSON(none_as_null=True)),
        **in_utf8,
    )
    Table(
        "executions",
        made,
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
        made,
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
        made,
        Column("step", step, primary_key=True),
        Column("key", key, primary_key=True),
        Column("port", step, primary_key=True),
        Column("from_step", step, nullable=False),
        Column("from_key", key, nullable=False, index=True),
        Column("from_output", step, nullable=False),
        Column("digest", digest, nullable=False),
        **in_utf8,
    )
    return made


def tables() -> Tables:
    made = metadata().tables
    return Tables(*(made[name] for name in Tables._fields))


def put(connection: Connection, table: Table, *rows: Mapping[str, Any]) -> None:
    """Insert rows, or change those whose primary key is there, in one statement, so that writers cannot come in between."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key.columns]
    others = [name for name in rows[0] if name not in keys]
    statement: Any
    if connection.dialect.name in ("mysql", "mariadb"):
        from sqlalchemy.dialects.mysql import insert as mysql_insert

        statement = mysql_insert(table)
        statement = statement.on_duplicate_key_update({name: statement.inserted[name] for name in others})
    else:
        if connection.dialect.name == "sqlite":
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_={name: statement.excluded[name] for name in others}
        )
    # In the order of their keys, as every writer does: two that write the same rows wait for one another, and do not deadlock.
    connection.execute(statement, sorted(rows, key=lambda row: [row[key] for key in keys]))
