"""The ledger in a file under the root: made when it is needed, made again when it is gone, waited for."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.garbage import collect, find_garbage
from pipeline.ledger import Ledger, StepRecord
from pipeline.store import Execution, Store
from schemas.errors import StoreError

Children = Any  # of conftest.py, which cannot be imported
Publish = Callable[..., Execution]

KEY = "ab" * 32


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


def test_a_deleted_ledger_comes_back_by_itself(ledger: Ledger, store: Store, publish: Publish) -> None:
    run = ledger.start_run("taxi", "sha256:1").id
    ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))
    ledger.end_run(run, "done")
    before = (ledger.runs(), ledger.artifacts("trainer", KEY), ledger.inputs_of("trainer", KEY))

    (store.root / "ledger.sqlite").unlink()

    again = Ledger(store)
    assert (again.runs(), again.artifacts("trainer", KEY), again.inputs_of("trainer", KEY)) == before


def test_it_may_be_deleted_while_a_run_goes_on(ledger: Ledger, store: Store, publish: Publish) -> None:
    run = ledger.start_run("taxi", "sha256:1").id
    (store.root / "ledger.sqlite").unlink()

    ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))

    assert [step.step for step in ledger.run(run).steps] == ["trainer"]
    assert len(ledger.artifacts("trainer", KEY)) == 1


def test_one_that_is_emptied_while_a_run_goes_on_is_filled_again(
    ledger: Ledger, store: Store, publish: Publish
) -> None:
    ledger.start_run("taxi", "sha256:1", run="before")
    ledger.record_step("before", StepRecord(step="trainer", key=KEY, action="run"), publish(store, "before"))
    ledger.end_run("before", "done")
    ledger.start_run("taxi", "sha256:1", run="now")
    with sqlite3.connect(store.root / "ledger.sqlite") as database:
        for table in ("runs", "run_steps", "executions", "artifacts", "inputs"):
            database.execute(f"DELETE FROM {table}")
    database.close()

    ledger.record_step("now", StepRecord(step="trainer", key=KEY, action="reuse"))

    with sqlite3.connect(store.root / "ledger.sqlite") as database:
        assert database.execute("SELECT id FROM runs ORDER BY id").fetchall() == [("before",), ("now",)]
        assert database.execute("SELECT count(*) FROM artifacts").fetchone() == (1,)
    database.close()


def test_it_forgets_what_was_removed_with_another_ledger(ledger: Ledger, store: Store) -> None:
    ledger.start_run("taxi", "sha256:1", run="dropped")
    kept = ledger.start_run("taxi", "sha256:1", run="kept")

    collect(store, find_garbage(store, set(), drop_runs=["dropped"]))

    assert ledger.runs() == [kept]


def test_one_of_an_earlier_version_gets_the_columns_that_it_lacks(ledger: Ledger, store: Store) -> None:
    record = ledger.start_run("taxi", "sha256:1", run="before")
    with sqlite3.connect(store.root / "ledger.sqlite") as database:
        database.execute("ALTER TABLE run_steps DROP COLUMN owner")
        database.execute("ALTER TABLE run_steps DROP COLUMN started_at")
    database.close()

    now = Ledger(store)
    now.begin_step("before", "trainer", KEY, "new")

    (step,) = now.run("before").steps
    assert step.owner == record.owner


def test_writers_wait_for_one_another_and_readers_for_nobody(ledger: Ledger, store: Store, children: Children) -> None:
    first = ledger.start_run("taxi", "sha256:1", run="first")
    gate, opened = os.pipe()
    begun, begins = os.pipe()

    def write() -> None:
        os.read(gate, 1)
        os.write(begins, b".")
        ledger.start_run("taxi", "sha256:1", run="waits")

    writer = children.start(write)  # before the database is opened here: SQLite's locks must not be forked
    busy = sqlite3.connect(store.root / "ledger.sqlite", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    os.write(opened, b".")
    os.read(begun, 1)
    assert ledger.runs() == [first]
    busy.execute("COMMIT")
    busy.close()

    assert children.status(writer) == 0
    assert ledger.run("waits").pipeline == "taxi"


def test_one_that_is_corrupt_may_be_removed(ledger: Ledger, store: Store) -> None:
    run = ledger.start_run("taxi", "sha256:1")
    file = store.root / "ledger.sqlite"
    file.write_text("not a database " * 1000)

    with pytest.raises(StoreError, match="file is not a database") as caught:
        ledger.runs()

    assert f"when you remove {file}" in str(caught.value)
    file.unlink()
    assert ledger.runs() == [run]


def test_its_tables_have_types_that_postgresql_and_mysql_have_too() -> None:
    from sqlalchemy.dialects import mysql, postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    from pipeline.ledger.tables import metadata

    for dialect in (postgresql.dialect(), mysql.dialect()):
        for table in metadata().sorted_tables:
            assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
            for index in table.indexes:
                assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
