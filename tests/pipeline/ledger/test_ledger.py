"""Every kind of ledger finds runs, what they made and from what, and loses nothing that the store has."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.garbage import collect, find_garbage
from pipeline.ledger import Ledger, StepRecord, recorded_runs
from pipeline.store import Execution, Store
from schemas.errors import ConfigError, StoreError
from schemas.owner import Owner

Children = Any  # of conftest.py, which cannot be imported
Publish = Callable[..., Execution]

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


def holding_on(work: Callable[[], object], children: Children) -> tuple[int, str]:
    """Do `work` in a process that then does nothing more; gives its pid and what it said."""
    ours, theirs = os.pipe()

    def do() -> None:
        os.write(theirs, str(work()).encode())
        time.sleep(600)

    pid = children.start(do)
    return pid, os.read(ours, 1000).decode()


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

    def test_of_a_run_whose_process_was_killed_is_interrupted(self, ledger: Ledger, children: Children) -> None:
        pid, run = holding_on(lambda: ledger.start_run("taxi", "sha256:1").id, children)
        before = ledger.run(run).state
        os.kill(pid, signal.SIGKILL)
        children.status(pid)

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

    def test_hands_the_next_attempt_the_record_of_one_that_never_ended(
        self, ledger: Ledger, children: Children
    ) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        killed, _ = holding_on(lambda: ledger.begin_step("b1946ac9", "trainer", "", "new"), children)
        os.kill(killed, signal.SIGKILL)
        children.status(killed)

        stale = ledger.begin_step("b1946ac9", "trainer", KEY, "new")

        assert stale is not None
        assert stale.owner is not None
        assert (stale.owner.pid, stale.owner.is_dead()) == (killed, True)
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


class TestRecords:
    def test_say_what_the_store_says(self, ledger: Ledger, store: Store, publish: Publish) -> None:
        ledger.join_run("taxi", "sha256:1", {"train_steps": 20, "rate": 0.1, "name": "a", "gate": True}, run="b1946ac9")
        ledger.begin_step("b1946ac9", "trainer", KEY, "new")
        ledger.record_step("b1946ac9", StepRecord(step="read", key=KEY, action="reuse", seconds=0.123), None)

        assert ledger.runs() == recorded_runs(store)

    def test_of_an_earlier_version_can_be_read(self, ledger: Ledger, store: Store) -> None:
        owner = {"host": "a", "boot_id": "b", "pid_namespace": "c", "pid": 1, "started": "2"}
        step = {"step": "read", "key": KEY, "action": "run", "reason": "", "seconds": 1.0, "message": ""}
        record = {"id": "old", "pipeline": "taxi", "graph_digest": "sha256:1", "outcome": None, "ended_at": None,
                  "started_at": "2026-01-01T00:00:00.000+00:00", "parameters": {}, "root": "/x", "owner": owner,
                  "steps": [step], "format": 1}  # fmt: skip
        store.write_run("old", record)

        (found,) = ledger.runs()

        assert (found.id, found.state, found.steps[0].step) == ("old", "running", "read")
        assert ledger.end_run("old", "interrupted").state == "interrupted"
        assert ledger.run("old").state == "interrupted"

    def test_may_hold_any_text_that_an_error_has(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        message = "no such file: caf\udce9.csv \0 " + "x" * 100_000

        ledger.record_step(run, StepRecord(step="read", action="failed", message=message, reason="\0"))

        assert ledger.run(run).steps[0].message.startswith("no such file: caf")
        assert recorded_runs(store)[0].steps[0].message == message


class TestARecordThatIsGone:
    def test_is_an_error_that_says_so_and_comes_back_for_nobody(self, ledger: Ledger, store: Store) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        collect(store, find_garbage(store, set(), drop_runs=[run]))

        with pytest.raises(StoreError, match=f"the record of run {run}.*Was it removed while the run went on"):
            ledger.record_step(run, StepRecord(step="trainer", action="run"))
        assert not (store.root / "runs" / run).exists()

    def test_is_not_made_anew_over_one_that_cannot_be_read(self, ledger: Ledger, store: Store) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        (store.root / "runs/b1946ac9/run.json").write_text("{")

        with pytest.raises(StoreError, match="the record of run b1946ac9"):
            ledger.join_run("taxi", "sha256:1", run="b1946ac9")


class TestExecutions:
    def test_have_artifacts_and_edges_in_both_directions(self, ledger: Ledger, store: Store, publish: Publish) -> None:
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

    def test_may_have_a_metric_that_is_not_a_number(self, ledger: Ledger, store: Store, publish: Publish) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", action="run"), publish(store, run, auc=math.nan))

        (model,) = ledger.artifacts("trainer", KEY)
        assert str(model.properties["metrics"]["auc"]) == "nan"


class TestRebuilding:
    def test_forgets_what_the_store_no_longer_has(self, ledger: Ledger, store: Store, publish: Publish) -> None:
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

    def test_finds_artifacts_again_after_the_root_was_moved(
        self, ledger: Ledger, store: Store, url: str | None, publish: Publish, tmp_path: Path
    ) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        ledger.record_step(run, StepRecord(step="trainer", key=KEY, action="run"), publish(store, run))

        store.root.rename(tmp_path / "moved")

        moved = Ledger(Store(tmp_path / "moved"), url)
        assert moved.artifacts("trainer", KEY)[0].path.is_dir()
        assert moved.rebuild() == (1, 1)
        assert len(moved.runs()) == 1

    @pytest.mark.parametrize(
        "url",
        [pytest.param(None, id="sqlite"), pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres)],
        indirect=True,
    )
    def test_in_a_shared_database_keeps_the_rows_of_other_roots(
        self, url: str | None, tmp_path: Path, publish: Publish
    ) -> None:
        shared = url or f"sqlite:///{tmp_path / 'shared.sqlite'}"
        one, other = (Ledger(Store(tmp_path / name), shared) for name in ("one", "other"))
        first = one.start_run("taxi", "sha256:1").id
        one.record_step(first, StepRecord(step="trainer", key=KEY, action="run"), publish(one.store, first))
        second = other.start_run("churn", "sha256:2")
        other.record_step(second.id, StepRecord(step="trainer", action="failed", message="no memory"))

        collect(one.store, find_garbage(one.store, set(), drop_runs=[first]))
        one.rebuild()

        assert [run.id for run in one.runs()] == [second.id]
        assert [step.message for step in one.run(second.id).steps] == ["no memory"]
        assert one.artifacts("trainer", KEY) == []


class TestARootOfSeveralLedgers:
    def test_shows_in_each_what_was_recorded_with_another(self, ledger: Ledger, store: Store, publish: Publish) -> None:
        before = ledger.start_run("taxi", "sha256:1", run="before")
        ledger.end_run("before", "done")
        on_a_cluster = Ledger(store, "none")
        on_a_cluster.join_run("taxi", "sha256:1", run="b1946ac9")
        on_a_cluster.begin_step("b1946ac9", "trainer", KEY, "new")
        running = ledger.run("b1946ac9")
        on_a_cluster.record_step(
            "b1946ac9", StepRecord(step="trainer", key=KEY, action="run"), publish(store, "b1946ac9")
        )
        ended = on_a_cluster.end_run("b1946ac9", "done")

        assert [step.action for step in running.steps] == ["running"]
        assert ledger.runs(1) == [ended]
        assert len(ledger.artifacts("trainer", KEY)) == 1
        assert ledger.run("before").id == before.id


class TestSeveralProcesses:
    def test_record_at_once_and_lose_nothing(
        self, ledger: Ledger, store: Store, url: str | None, publish: Publish, children: Children
    ) -> None:
        # Four processes find no ledger, make it at the same time, and each adds to one run of theirs all and to one of its own.
        gate, opened = os.pipe()

        def work(number: int) -> None:
            os.close(opened)
            os.read(gate, 1)  # until the last writer is gone: all begin at once
            mine = Ledger(store, url)
            mine.join_run("taxi", "sha256:1", run="shared")
            own = mine.start_run("taxi", "sha256:1", run=f"own-{number}").id
            for part in range(3):
                step = f"step_{number}_{part}"
                mine.begin_step("shared", step, KEY, "new")
                mine.record_step(
                    "shared", StepRecord(step=step, key=KEY, action="run"), publish(store, "shared", step=step)
                )
                mine.record_step(own, StepRecord(step=step, key=KEY, action="reuse"))
            mine.end_run(own, "done")

        pids = [children.start(lambda number=number: work(number)) for number in range(4)]
        os.close(gate)
        os.close(opened)

        assert [children.status(pid) for pid in pids] == [0] * 4
        runs = {run.id: run for run in ledger.runs()}
        steps = {f"step_{number}_{part}" for number in range(4) for part in range(3)}
        assert set(runs) == {"shared", "own-0", "own-1", "own-2", "own-3"}
        assert sorted(step.step for step in runs["shared"].steps) == sorted(steps)
        assert {step.action for step in runs["shared"].steps} == {"run"}
        assert [(runs[f"own-{n}"].state, len(runs[f"own-{n}"].steps)) for n in range(4)] == [("done", 3)] * 4
        assert {run.id: run for run in recorded_runs(store)} == runs
        assert all(len(ledger.artifacts(step, KEY)) == 1 for step in steps)

    def test_forked_ones_use_the_same_ledger_object(self, ledger: Ledger, children: Children) -> None:
        run = ledger.start_run("taxi", "sha256:1").id
        pid = children.start(lambda: ledger.record_step(run, StepRecord(step="trainer", action="run")))
        assert children.status(pid) == 0

        ledger.record_step(run, StepRecord(step="evaluator", action="run"))

        assert [step.step for step in ledger.run(run).steps] == ["trainer", "evaluator"]

    def test_that_are_killed_leave_nothing_half_recorded(
        self, ledger: Ledger, store: Store, publish: Publish, children: Children
    ) -> None:
        ledger.join_run("taxi", "sha256:1", run="b1946ac9")
        execution = publish(store, "b1946ac9")
        before = StepRecord(step="trainer", key=KEY, action="run")

        def work() -> None:
            _count_statements()
            ledger.record_step("b1946ac9", StepRecord(step="evaluator", key=KEY, action="run"), execution)

        ledger.record_step("b1946ac9", before)
        seen = set()
        for _ in children.killed_before_each_call(work):
            (record,) = recorded_runs(store)
            assert record.step("trainer") == before
            assert [record] == ledger.runs(), "the index says what the store says"
            seen.add(len(record.steps))
        assert seen == {1, 2}
        assert len(ledger.artifacts("trainer", KEY)) == len(ledger.inputs_of("trainer", KEY)) == 1


def _count_statements() -> None:
    """Have each statement of SQL, and each commit, count as a call at which the process may be killed."""
    from sqlalchemy import Engine, event

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, lambda *_: sys.audit("os.sql"))


def test_importing_the_ledger_does_not_import_sqlalchemy() -> None:
    code = (
        "import sys, json, pipeline.ledger; print(json.dumps([m for m in sys.modules if m.startswith('sqlalchemy')]))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []
