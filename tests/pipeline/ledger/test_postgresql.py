"""The ledger in PostgreSQL, on a real server: many writers, a server that goes away, and mistakes that are explained."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger, StepRecord, recorded_runs
from pipeline.loading import load
from pipeline.log import Event, StepFinished
from pipeline.runners.local import LocalRun
from pipeline.store import Execution, Store
from schemas.errors import ConfigError, StoreError

Children = Any  # of conftest.py, which cannot be imported
Server = Any
Publish = Callable[..., Execution]

KEY = "ab" * 32
OTHER_KEY = "cd" * 32

pytestmark = pytest.mark.postgres


def step(name: str, action: Any = "run") -> StepRecord:
    return StepRecord(step=name, key=KEY, action=action)


def schema_of(url: str) -> str:
    return url.rpartition("%3D")[2]


def count(server: Server, url: str, table: str) -> int:
    return int(server.sql(f"SELECT count(*) FROM {schema_of(url)}.{table}")[0][0])


def drop_tables(server: Server, url: str) -> None:
    for table in ("runs", "run_steps", "executions", "artifacts", "inputs"):
        server.sql(f"DROP TABLE IF EXISTS {schema_of(url)}.{table}")


class TestWriters:
    def test_of_several_roots_make_the_tables_at_once_and_lose_nothing(
        self, server: Server, tmp_path: Path, publish: Publish, children: Children
    ) -> None:
        url = server.empty()
        gate, opened = os.pipe()

        def work(number: int) -> None:
            os.close(opened)
            os.read(gate, 1)
            store = Store(tmp_path / f"root-{number % 2}")
            ledger = Ledger(store, url)
            ledger.join_run("taxi", "sha256:1", run=f"of-{number % 2}")
            for part in range(2):
                # The same step and key in every root, as when several try the same definition.
                execution = publish(store, f"of-{number % 2}", step=f"step_{part}")
                ledger.record_step(f"of-{number % 2}", step(f"step_{part}_{number}"), execution)

        pids = [children.start(lambda number=number: work(number)) for number in range(4)]
        os.close(gate)
        os.close(opened)

        assert [children.status(pid) for pid in pids] == [0] * 4
        for root in range(2):
            ledger = Ledger(Store(tmp_path / f"root-{root}"), url)
            record = ledger.run(f"of-{root}")
            assert sorted(found.step for found in record.steps) == sorted(
                f"step_{part}_{number}" for part in range(2) for number in (root, root + 2)
            )
            assert recorded_runs(ledger.store) == [record]
        rows = {
            table: count(server, url, table) for table in ("runs", "run_steps", "executions", "artifacts", "inputs")
        }
        assert rows == {"runs": 2, "run_steps": 8, "executions": 2, "artifacts": 2, "inputs": 2}

    def test_lose_nothing_while_the_ledger_is_dropped_and_made_again(
        self, server: Server, store: Store, publish: Publish, children: Children
    ) -> None:
        url = server.empty()
        Ledger(store, url).join_run("taxi", "sha256:1", run="b1946ac9")

        def work(number: int) -> None:
            ledger = Ledger(store, url)
            for part in range(6):
                name = f"step_{number}_{part}"
                ledger.record_step("b1946ac9", step(name), publish(store, "b1946ac9", step=name))

        pids = [children.start(lambda number=number: work(number)) for number in range(2)]
        ledger = Ledger(store, url)
        for _ in range(3):
            drop_tables(server, url)
            ledger.rebuild()

        assert [children.status(pid) for pid in pids] == [0, 0]
        (record,) = ledger.runs()
        assert len(record.steps) == 12
        assert [record] == recorded_runs(store)
        assert count(server, url, "run_steps") == 12
        assert count(server, url, "executions") == count(server, url, "artifacts") == 12

    def test_that_are_killed_at_any_statement_leave_all_rows_of_a_record_or_none(
        self, server: Server, store: Store, publish: Publish, children: Children
    ) -> None:
        url = server.empty()
        ledger = Ledger(store, url)
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        execution = publish(store, "b1946ac9")
        tables = ("run_steps", "executions", "artifacts", "inputs")
        seen = []
        for allowed in range(100):

            def work(allowed: int = allowed) -> None:
                _die_after(allowed)
                ledger.record_step("b1946ac9", step("trainer"), execution)

            status = children.status(children.start(work))
            seen.append({count(server, url, table) for table in tables})
            if status == 0:
                break
            assert status == -signal.SIGKILL
        assert seen[0] == {0}
        assert seen[-1] == {1}
        assert all(found in ({0}, {1}) for found in seen)
        assert len(seen) > 5, "it is killed between its statements too"


def _die_after(statements: int) -> None:
    """Have this process killed before its next statement or commit but so many."""
    from sqlalchemy import Engine, event

    left = [statements]

    def one(*_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, one)


class TestAServerThatGoesAway:
    def test_is_waited_for_while_it_restarts(self, server: Server, store: Store) -> None:
        ledger = Ledger(store, server.empty())
        ledger.start_run("taxi", "sha256:1", run="b1946ac9")
        server.stop()
        writer = threading.Thread(target=lambda: ledger.record_step("b1946ac9", step("trainer")))
        writer.start()

        server.start()
        writer.join()

        assert [found.step for found in ledger.run("b1946ac9").steps] == ["trainer"]

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
    def test_and_stays_away_is_an_error_and_what_was_recorded_meanwhile_is_not_lost(
        self, server: Server, store: Store, how: signal.Signals
    ) -> None:
        url = server.empty()
        ledger = Ledger(store, url, patience_s=0)
        ledger.start_run("taxi", "sha256:1", run="b1946ac9")
        server.stop(how)

        with pytest.raises(StoreError, match="Is the database up.*Nothing is lost") as caught:
            ledger.record_step("b1946ac9", step("trainer"))

        assert "sesame" not in str(caught.value)
        server.start()
        assert [found.step for found in ledger.run("b1946ac9").steps] == ["trainer"]

    def test_in_the_middle_of_a_run_stops_it_and_the_next_goes_on_from_what_is_finished(
        self, server: Server, project: Path
    ) -> None:
        graph = load("pipeline.yaml").graph.upto("judge")
        store = Store("store-root").open()
        url = server.empty()

        def stop_after_reading(event: Event) -> None:
            if isinstance(event, StepFinished) and event.step == "read":
                server.stop()

        def run(name: str, listener: Callable[[Event], None]) -> LocalRun:
            ledger = Ledger(store, url, patience_s=0)
            ledger.start_run("toy", graph.digest, run=name)
            made = LocalRun(graph=graph, store=store, ledger=ledger, run=name, listener=listener, parallel=1, warm=())
            made.execute()
            return made

        with pytest.raises(StoreError, match="cannot be used"):
            run("first", stop_after_reading)

        server.start()
        second = run("second", lambda _: None)
        # What count had made when it could not be recorded is in the store all the same.
        assert second.actions == {"read": "reuse", "count": "reuse", "judge": "run"}
        first = Ledger(store, url).run("first")
        assert {found.step: found.action for found in first.steps} == {"read": "run", "count": "run"}


class TestWhatIsWrong:
    @pytest.fixture
    def limited(self, server: Server) -> Callable[..., str]:
        """The URL of a user who may do little, after some statements."""

        def make(*statements: str) -> str:
            url = server.empty()
            schema = schema_of(url)
            server.sql(f"CREATE ROLE user_of_{schema} LOGIN PASSWORD 'sesame'")
            for statement in statements:
                server.sql(statement.format(schema=schema, user=f"user_of_{schema}"))
            more = f"&options=-csearch_path%3D{schema}"
            return str(server.url("postgres", f"user_of_{schema}", "sesame", more))

        return make

    def told(self, store: Store, url: str) -> str:
        store.open()
        with pytest.raises((StoreError, ConfigError)) as caught:
            Ledger(store, url, patience_s=0).start_run("taxi", "sha256:1")
        chain = [caught.value, caught.value.__cause__]
        assert not any("sesame" in str(error) for error in chain)
        assert recorded_runs(store) == [], "a run that cannot be recorded is none"
        return str(caught.value)

    def test_a_database_that_is_not_there(self, server: Server, store: Store) -> None:
        assert "Make it (`createdb nowhere`)" in self.told(store, server.url("nowhere"))

    def test_a_wrong_password(self, server: Server, store: Store) -> None:
        said = self.told(store, server.url("postgres", password="wrong-sesame"))

        assert 'password authentication failed for user "penstock"' in said
        assert "Look at user and password of the URL" in said

    def test_a_password_that_is_an_option_of_the_url(self, server: Server, store: Store) -> None:
        url = f"postgresql://penstock@/postgres?host={server.directory}&password=wrong-sesame&sslmode=disable"

        assert "Look at user and password of the URL" in self.told(store, url)

    def test_a_host_that_nobody_knows(self, store: Store) -> None:
        said = self.told(store, "postgresql://penstock:sesame@nowhere.invalid/ledger")

        assert "the ledger postgresql://penstock:***@nowhere.invalid/ledger cannot be used" in said
        assert "Look at the host in the URL" in said

    def test_nobody_listening(self, store: Store) -> None:
        said = self.told(store, "postgresql://penstock:sesame@127.0.0.1:1/ledger")

        assert "Is the database up" in said
        assert "the next run goes on from there" in said

    def test_an_option_that_libpq_has_not_shows_that_options_reach_it(self, server: Server, store: Store) -> None:
        said = self.told(store, server.url("postgres", more="&sslmode=sometimes"))

        assert 'invalid sslmode value: "sometimes"' in said
        assert "Look at sslmode in the URL: disable, prefer, require" in said

    def test_a_user_who_may_not_make_tables(self, limited: Callable[..., str], store: Store) -> None:
        url = limited("GRANT USAGE ON SCHEMA {schema} TO {user}")

        assert f"GRANT USAGE, CREATE ON SCHEMA {schema_of(url)} TO user_of_{schema_of(url)}" in self.told(store, url)

    def test_a_user_who_may_only_read(self, limited: Callable[..., str], server: Server, tmp_path: Path) -> None:
        url = limited("GRANT USAGE ON SCHEMA {schema} TO {user}")
        schema = schema_of(url)
        writes = Ledger(Store(tmp_path / "root"), server.url("postgres", more=f"&options=-csearch_path%3D{schema}"))
        record = writes.start_run("taxi", "sha256:1")
        server.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO user_of_{schema}")

        reads = Ledger(writes.store, url)
        assert reads.runs() == [record]
        with pytest.raises(StoreError, match="permission denied for table runs.*GRANT SELECT, INSERT, UPDATE, DELETE"):
            reads.end_run(record.id, "done")

    def test_a_schema_that_is_not_there(self, server: Server, store: Store) -> None:
        said = self.told(store, server.url("postgres", more="&options=-csearch_path%3Dnowhere"))

        assert "CREATE SCHEMA" in said


def test_the_server_is_told_who_it_is_and_when_to_give_up_on_it(server: Server) -> None:
    from sqlalchemy import text

    from pipeline.ledger.database import Database

    def setting(name: str, more: str = "") -> Any:
        database = Database(server.url("postgres", more=more), None, 0)
        return database.write(lambda connection: connection.execute(text(f"SHOW {name}")).scalar())

    assert setting("application_name") == "penstock"
    assert setting("application_name", "&application_name=nightly") == "nightly", "the URL's own options go before"
    assert setting("lock_timeout") == "30s"
    assert setting("idle_in_transaction_session_timeout") == "5min"


def test_the_password_may_come_from_where_libpq_looks_for_it(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.empty().replace(":open%3Asesame%2F50%25@", "@")
    monkeypatch.setenv("PGPASSWORD", "open:sesame/50%")

    assert Ledger(store, url).start_run("taxi", "sha256:1").state == "running"


def test_a_root_of_the_same_name_on_another_machine_does_not_make_it_forget(
    server: Server, tmp_path: Path, publish: Publish
) -> None:
    url = server.empty()
    store = Store(tmp_path / "root")
    Ledger(store, url).start_run("taxi", "sha256:1", run="there")
    store.root.rename(tmp_path / "away")
    here = Ledger(store, url)
    here.start_run("taxi", "sha256:1", run="here")
    here.record_step("here", step("trainer"), publish(store, "here"))

    assert {run.id for run in here.runs()} == {"there", "here"}


def test_several_rebuild_at_once(server: Server, store: Store, publish: Publish, children: Children) -> None:
    url = server.empty()
    ledger = Ledger(store, url)
    ledger.start_run("taxi", "sha256:1", run="b1946ac9")
    ledger.record_step("b1946ac9", step("trainer"), publish(store, "b1946ac9"))

    pids = [children.start(lambda: [Ledger(store, url).rebuild() for _ in range(3)] and None) for _ in range(4)]

    assert [children.status(pid) for pid in pids] == [0] * 4
    assert (count(server, url, "runs"), count(server, url, "artifacts")) == (1, 1)
