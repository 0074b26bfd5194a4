"""The ledger finds runs, what they made and from what, and loses nothing that the store has."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.garbage import collect, find_garbage
from pipeline.ledger import Ledger, StepRecord
from pipeline.manifest import InputRecord
from pipeline.store import Execution, Store
from schemas.errors import ConfigError, StoreError
from schemas.owner import Owner

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


def publish(store: Store, run: str, *, auc: float = 0.75) -> Execution:
    with store.stage("trainer", KEY) as staging:
        (staging.output("model") / "saved_model.pb").write_text("graph")
        return staging.publish(
            component="components.model.trainer.Trainer",
            pipeline="taxi",
            run=run,
            seconds=1.5,
            key_parts={},
            inputs={"examples": InputRecord("transform", OTHER_KEY, "examples", "Examples", "sha256:0")},
            outputs={"model": ("Model", {"metrics": {"auc": auc}})},
        )


def in_another_process(root: Path, code: str) -> subprocess.Popen[str]:
    """Run `code`, which finds a `ledger` and a `store` at `root`, in a Python of its own."""
    head = (
        "import os, sys\nfrom pipeline.ledger import Ledger, StepRecord\nfrom pipeline.store import Store\n"
        f"store = Store({str(root)!r})\nledger = Ledger(store)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


class TestRuns:
    def test_are_listed_newest_first_with_their_steps_in_order(self, ledger: Ledger) -> None:
        first = ledger.start_run("taxi", "sha256:1", {"train_steps": 20})
        ledger.record_step(first.id, StepRecord(step="trainer", key=KEY, action="run", reason="new", seconds=1.5))
        ledger.record_step(first.id, StepRecord(step="evaluator", key=OTHER_KEY, action="refused", message="auc 0.4"))
        ended = ledger.end_run(first.id, "refused")
        second = ledger.start_run("taxi", "sha256:1")

        assert ledger.runs() == [second, ended]
        assert [step.step for step in ended.steps] == ["trainer", "evaluator"]
        assert ended.steps[1].message == "auc 0.4"
        assert ended.parameters == {"train_steps": 20}
        assert ended.seconds is not None
        assert ledger.runs(1) == [second]

    def test_can_be_listed_for_one_pipeline(self, ledger: Ledger) -> None:
        ledger.start_run("taxi", "sha256:1")
        other = ledger.start_run("churn", "sha256:2")

        assert ledger.runs(pipeline="churn") == [other]

    def test_a_step_that_is_recorded_again_is_replaced(self, ledger: Ledger) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", action="failed", message="no memory"))
        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"))

        assert ledger.run(run).steps == (StepRecord(step="trainer", key=KEY, action="run"),)

    def test_looking_at_them_makes_no_root(self, ledger: Ledger, store: Store) -> None:
        assert ledger.runs() == []
        with pytest.raises(ConfigError, match="there is no run '2026'"):
            ledger.run("2026")
        assert not store.root.exists()


class TestFindingARun:
    def test_by_its_id_by_its_beginning_and_as_the_latest(self, ledger: Ledger) -> None:
        older = ledger.start_run("taxi", "sha256:1", run="20261121-100000-aaaa")
        newer = ledger.start_run("taxi", "sha256:1", run="20261121-110000-bbbb")

        assert ledger.run(older.id) == older
        assert ledger.run("20261121-11") == newer
        assert ledger.run("latest") == newer

    def test_by_an_id_that_is_the_beginning_of_another(self, ledger: Ledger) -> None:
        short = ledger.start_run("taxi", "sha256:1", run="nightly")
        ledger.start_run("taxi", "sha256:1", run="nightly-2")

        assert ledger.run("nightly") == short

    def test_by_what_begins_several_lists_them(self, ledger: Ledger) -> None:
        for end in "ab":
            ledger.start_run("taxi", "sha256:1", run=f"20261121-{end}")

        with pytest.raises(ConfigError, match="several runs: 20261121-a, 20261121-b"):
            ledger.run("20261121")

    @pytest.mark.parametrize("asked", ["nothing", "%", "_", "latest"])
    def test_that_is_not_there_is_an_error(self, ledger: Ledger, store: Store, asked: str) -> None:
        store.open()
        if asked != "latest":
            ledger.start_run("taxi", "sha256:1")

        with pytest.raises(ConfigError, match="there is no run"):
            ledger.run(asked)


class TestState:
    def test_of_a_run_is_running_until_it_ends(self, ledger: Ledger) -> None:
        run = ledger.start_run("taxi", "sha256:1")

        assert run.state == "running"
        assert ledger.end_run(run.id, "done").state == "done"

    def test_of_a_run_whose_process_was_killed_is_interrupted(self, ledger: Ledger, store: Store) -> None:
        process = in_another_process(
            store.root, "print(ledger.start_run('taxi', 'sha256:1').id, flush=True)\nsys.stdin.read()"
        )
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        before = ledger.run(run).state
        process.send_signal(signal.SIGKILL)
        process.communicate()

        assert (before, ledger.run(run).state) == ("running", "interrupted")

    def test_of_a_run_on_another_host_is_not_guessed(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        record = store.run_records()[run]
        record["owner"] |= {"host": "elsewhere", "boot_id": "other", "pid": 1}
        store.write_run(run, record)
        ledger.rebuild()

        assert ledger.run(run).state == "running"

    def test_of_a_run_whose_pid_another_process_has_now_is_interrupted(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        record = store.run_records()[run]
        record["owner"]["started"] = "1"
        store.write_run(run, record)
        ledger.rebuild()

        assert ledger.run(run).state == "interrupted"


class TestARunOfManyProcesses:
    def test_is_made_by_the_first_that_joins_and_is_running_until_it_is_ended(self, ledger: Ledger) -> None:
        made = ledger.join_run("taxi", "sha256:1", {"train_steps": 20}, run="b1946ac9")
        joined = ledger.join_run("taxi", "sha256:1", {"train_steps": 20}, run="b1946ac9")

        assert joined == made
        assert (made.owner, made.state, made.parameters) == (None, "running", {"train_steps": 20})
        assert ledger.runs() == [made]
        assert ledger.end_run("b1946ac9", "done").state == "done"

    def test_goes_on_when_it_is_joined_after_its_end(self, ledger: Ledger) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        ledger.record_step("b1946ac9", StepRecord(step="read", key=KEY, action="run"))
        ledger.end_run("b1946ac9", "failed")

        again = ledger.join_run("taxi", "sha256:1", run="b1946ac9")

        assert (again.state, again.ended_at) == ("running", None)
        assert [step.step for step in again.steps] == ["read"]
        assert ledger.run("b1946ac9") == again

    def test_cannot_be_one_of_two_pipelines(self, ledger: Ledger) -> None:
        ledger.join_run("taxi", "sha256:1", run="nightly")

        with pytest.raises(ConfigError, match="run nightly is one of pipeline taxi"):
            ledger.join_run("churn", "sha256:2", run="nightly")

    @pytest.mark.parametrize("id_", ["", "../elsewhere", "{{$.pipeline_job_uuid}}", "x" * 65, ".hidden"])
    def test_has_an_id_that_can_be_a_directory(self, ledger: Ledger, store: Store, id_: str) -> None:
        with pytest.raises(ConfigError, match="cannot be the id of a run"):
            ledger.join_run("taxi", "sha256:1", run=id_)
        assert not store.root.exists()

    def test_says_which_steps_are_at_work_and_since_when(self, ledger: Ledger) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")

        assert ledger.begin_step("b1946ac9", "trainer", KEY, "train_steps changed") is None

        (step,) = ledger.run("b1946ac9").steps
        assert (step.action, step.key, step.reason) == ("running", KEY, "train_steps changed")
        assert step.owner == Owner.current()
        assert step.started_at is not None

    def test_hands_the_next_attempt_the_record_of_one_that_never_ended(self, ledger: Ledger, store: Store) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        killed = in_another_process(
            store.root, "ledger.begin_step('b1946ac9', 'trainer', '', 'new')\nos.kill(os.getpid(), 9)"
        )
        killed.communicate()

        stale = ledger.begin_step("b1946ac9", "trainer", KEY, "new")

        assert stale is not None
        assert stale.owner is not None
        assert (stale.owner.pid, stale.owner.is_dead()) == (killed.pid, True)
        ledger.record_step("b1946ac9", StepRecord(step="trainer", key=KEY, action="run"))
        assert ledger.begin_step("b1946ac9", "trainer", KEY, "new") is None

    def test_that_ends_calls_a_step_failed_that_never_reported(self, ledger: Ledger) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        ledger.record_step("b1946ac9", StepRecord(step="read", key=KEY, action="run"))
        ledger.begin_step("b1946ac9", "trainer", OTHER_KEY, "new")

        ended = ledger.end_run("b1946ac9", "failed")

        assert [step.action for step in ended.steps] == ["run", "failed"]
        assert ended.steps[1].message == "it never reported: its pod was killed or evicted"
        assert ledger.run("b1946ac9") == ended


class TestExecutions:
    def test_have_artifacts_and_edges_in_both_directions(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        execution = publish(store, run)
        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), execution)

        (model,) = ledger.artifacts("trainer", KEY)
        assert model.path == execution.output("model")
        assert model.digest == execution.manifest.outputs["model"].digest
        assert (model.type, model.bytes, model.properties) == ("Model", 5, {"metrics": {"auc": 0.75}})
        (edge,) = ledger.inputs_of("trainer", KEY)
        assert (edge.port, edge.from_step, edge.from_output) == ("examples", "transform", "examples")
        assert ledger.readers_of("transform", OTHER_KEY) == [edge]
        assert ledger.readers_of("trainer", KEY) == []

    def test_may_have_a_metric_that_is_not_a_number(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", action="run"), publish(store, run, auc=math.nan))

        assert ledger.artifacts("trainer", KEY)[0].properties == {"metrics": {"auc": "nan"}}


class TestRebuilding:
    def test_a_deleted_ledger_comes_back_by_itself(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))
        ledger.end_run(run, "done")
        before = (ledger.runs(), ledger.artifacts("trainer", KEY), ledger.inputs_of("trainer", KEY))

        (store.root / "ledger.sqlite").unlink()

        again = Ledger(store)
        assert (again.runs(), again.artifacts("trainer", KEY), again.inputs_of("trainer", KEY)) == before

    def test_it_may_be_deleted_while_a_run_goes_on(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        (store.root / "ledger.sqlite").unlink()

        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))

        assert [step.step for step in ledger.run(run).steps] == ["trainer"]
        assert len(ledger.artifacts("trainer", KEY)) == 1

    def test_forgets_what_the_store_no_longer_has(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))
        ledger.end_run(run, "done")
        collect(store, find_garbage(store, set(), drop_runs=[run]))

        assert ledger.rebuild() == (0, 0)
        assert ledger.runs() == []
        assert ledger.artifacts("trainer", KEY) == []
        assert ledger.inputs_of("trainer", KEY) == []

    def test_leaves_out_a_run_record_that_is_not_one(self, ledger: Ledger, store: Store) -> None:
        store.write_run("strange", {"outcome": "done"})
        good = ledger.start_run("taxi", "sha256:1")

        ledger.rebuild()

        assert ledger.runs() == [good]

    def test_finds_artifacts_again_after_the_root_was_moved(self, ledger: Ledger, store: Store, tmp_path: Path) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))

        store.root.rename(tmp_path / "moved")

        moved = Ledger(Store(tmp_path / "moved"))
        assert moved.artifacts("trainer", KEY)[0].path.is_dir()
        assert moved.rebuild() == (1, 1)
        assert len(moved.runs()) == 1

    def test_in_a_shared_database_keeps_the_rows_of_other_roots(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
        one, other = (Ledger(Store(tmp_path / name), url) for name in ("one", "other"))
        first = one.start_run("taxi", "sha256:1").id
        one.record_step(first, StepRecord(step="trainer", key=KEY, action="run"), publish(one.store, first))
        second = other.start_run("churn", "sha256:2")
        other.record_step(second.id, StepRecord(step="trainer", action="failed", message="no memory"))

        collect(one.store, find_garbage(one.store, set(), drop_runs=[first]))
        one.rebuild()

        assert [run.id for run in one.runs()] == [second.id]
        assert [step.message for step in one.run(second.id).steps] == ["no memory"]
        assert one.artifacts("trainer", KEY) == []


class TestSeveralProcesses:
    def test_record_at_once_and_lose_nothing(self, ledger: Ledger, store: Store) -> None:
        # Four processes find no ledger, make it at the same time, and each records a run of ten steps.
        code = """
        sys.stdin.readline()
        run = ledger.start_run("taxi", "sha256:1").id
        for number in range(10):
            ledger.record_step(run, StepRecord(step=f"step_{number}", action="run"))
        ledger.end_run(run, "done")
        """
        processes = [in_another_process(store.root, code) for _ in range(4)]

        for process in processes:
            assert process.stdin is not None
            process.stdin.close()

        assert [process.wait() for process in processes] == [0] * 4
        runs = ledger.runs()
        assert [(run.state, len(run.steps)) for run in runs] == [("done", 10)] * 4
        assert len(runs) == 4

    def test_forked_ones_use_the_same_ledger_object(self, ledger: Ledger) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ledger.record_step(run, StepRecord(step="trainer", action="run"))
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        ledger.record_step(run, StepRecord(step="evaluator", action="run"))

        assert [step.step for step in ledger.run(run).steps] == ["trainer", "evaluator"]

    def test_wait_for_one_another_instead_of_failing(self, ledger: Ledger, store: Store) -> None:
        ledger.start_run("taxi", "sha256:1")
        busy = sqlite3.connect(store.root / "ledger.sqlite", isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")

        writer = in_another_process(store.root, "ledger.start_run('taxi', 'sha256:1', run='waits')\nprint('done')")
        assert len(ledger.runs()) == 1  # and readers do not wait at all
        busy.execute("COMMIT")
        busy.close()

        assert writer.communicate()[0] == "done\n"
        assert ledger.run("waits").pipeline == "taxi"


class TestDatabase:
    def test_that_is_not_a_url_is_a_mistake_in_the_config(self, store: Store) -> None:
        with pytest.raises(ConfigError, match="ledger: 'somewhere' is not a database URL"):
            Ledger(store, "somewhere").runs()

    def test_whose_driver_is_missing_says_what_to_install(self, store: Store) -> None:
        with pytest.raises(ConfigError, match="ledger: oracledb is not installed"):
            Ledger(store, "oracle://user:secret@host/x").runs()

    def test_that_is_corrupt_may_be_removed(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1")
        file = store.root / "ledger.sqlite"
        file.write_text("not a database " * 1000)

        with pytest.raises(StoreError, match="file is not a database") as caught:
            ledger.runs()

        assert f"when you remove {file}" in str(caught.value)
        file.unlink()
        assert ledger.runs() == [run]

    def test_has_types_that_postgresql_and_mysql_have_too(self) -> None:
        from sqlalchemy.dialects import mysql, postgresql
        from sqlalchemy.schema import CreateIndex, CreateTable

        from pipeline.ledger.tables import metadata

        for dialect in (postgresql.dialect(), mysql.dialect()):
            for table in metadata().sorted_tables:
                assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
                for index in table.indexes:
                    assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))


def test_importing_the_ledger_does_not_import_sqlalchemy() -> None:
    code = (
        "import sys, json, pipeline.ledger; print(json.dumps([m for m in sys.modules if m.startswith('sqlalchemy')]))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []
