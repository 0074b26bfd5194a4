"""What a database says is told apart: what passes by itself, tables that are gone, and what somebody must mend."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from pipeline.ledger.failures import kind_of

TO_SERVER = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: '


@pytest.mark.parametrize(
    ("error", "dialect", "kind"),
    [
        pytest.param(psycopg.errors.DeadlockDetected(), "postgresql", "conflict", id="deadlock"),
        pytest.param(psycopg.errors.LockNotAvailable(), "postgresql", "conflict", id="lock-timeout"),
        pytest.param(psycopg.errors.UndefinedTable(), "postgresql", "no tables", id="no-table"),
        pytest.param(psycopg.errors.UndefinedColumn(), "postgresql", "no tables", id="no-column"),
        pytest.param(psycopg.errors.AdminShutdown(), "postgresql", "away", id="stopped"),
        pytest.param(psycopg.errors.TooManyConnections(), "postgresql", "away", id="full"),
        pytest.param(psycopg.errors.InsufficientPrivilege(), "postgresql", "final", id="permission"),
        *(
            pytest.param(psycopg.OperationalError(TO_SERVER + said), "postgresql", kind, id=name)
            for name, said, kind in [
                ("refused", "Connection refused", "away"),
                ("starting", "FATAL:  the database system is starting up", "away"),
                ("recovering", "FATAL:  the database system is not yet accepting connections", "away"),
                ("slots", "FATAL:  sorry, too many clients already", "away"),
                ("timeout", "timeout expired", "away"),
                ("password", 'FATAL:  password authentication failed for user "penstock"', "final"),
                ("database", 'FATAL:  database "nowhere" does not exist', "final"),
            ]
        ),
        pytest.param(sqlite3.OperationalError("no such table: runs"), "sqlite", "no tables", id="sqlite-no-table"),
        pytest.param(sqlite3.OperationalError("database is locked"), "sqlite", "final", id="sqlite-locked"),
        pytest.param(Exception(1213, "Deadlock found"), "mysql", "conflict", id="mysql-deadlock"),
        pytest.param(Exception(2013, "Lost connection"), "mariadb", "away", id="mysql-away"),
        pytest.param(Exception(1045, "Access denied"), "mysql", "final", id="mysql-password"),
    ],
)
def test_an_error_is_of_its_kind(error: Exception, dialect: str, kind: str) -> None:
    assert kind_of(OperationalError("SELECT 1", {}, error), dialect) == kind
