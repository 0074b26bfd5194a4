"""What nobody needs is listed with its reason, removed on request, and never while somebody uses it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.garbage import Garbage, RunsSince, collect, find_garbage
from pipeline.ledger import Ledger, StepRecord
from pipeline.store import Execution, Store

Children = Any  # of conftest.py, which cannot be imported

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def publish(store: Store, *, key: str = KEY) -> Execution:
    with store.stage("trainer", key) as staging:
        (staging.output("model") / "saved_model.pb").write_text("graph")
        return staging.publish(
            component="components.model.trainer.Trainer",
            pipeline="taxi",
            run="run-1",
            seconds=1.5,
            key_parts={},
            inputs={},
            outputs={"model": ("Model", {})},
        )


def killed_at_work(store: Store, children: Children) -> None:
    def work() -> None:
        with store.stage("trainer", KEY):
            os.kill(os.getpid(), signal.SIGKILL)

    assert children.status(children.start(work)) == -signal.SIGKILL


class TestGarbage:
    def test_is_what_nobody_keeps_and_collecting_it_removes_it(self, store: Store, children: Children) -> None:
        kept, dropped = publish(store), publish(store, key=OTHER_KEY)
        store.scratch("evaluator", KEY)
        (store.scratch("tuner", KEY) / "trial").write_text("12345")
        killed_at_work(store, children)
        store.write_run("run-1", {})
        store.write_run("run-2", {})

        garbage = find_garbage(store, {("trainer", KEY), ("evaluator", KEY)}, drop_runs={"run-1"})

        found = {item.path.relative_to(store.root).parts[:2]: item for item in garbage}
        assert set(found) - {("staging", p) for _, p in found} == {
            ("store", "trainer"),
            ("scratch", "tuner"),
            ("runs", "run-1"),
        }
        assert len(garbage) == 4
        assert found["scratch", "tuner"].bytes == 5
        assert found["store", "trainer"].path == dropped.path
        assert dropped.path.exists(), "only looking removes nothing"

        assert collect(store, garbage) == garbage
        assert store.executions() == [kept]
        assert not (store.root / "scratch" / "tuner").exists()
        assert (store.root / "scratch" / "evaluator" / KEY).is_dir()
        assert list(store.run_records()) == ["run-2"]
        assert list((store.root / "staging").iterdir()) == []

    def test_includes_a_corrupt_execution(self, store: Store) -> None:
        path = publish(store).path
        (path / "manifest.json").unlink()

        collect(store, find_garbage(store, set()))

        assert not path.exists()

    def test_includes_the_scratch_of_a_published_step_even_when_that_is_kept(self, store: Store) -> None:
        publish(store)
        scratch = store.scratch("trainer", KEY)

        assert [item.path for item in find_garbage(store, {("trainer", KEY)})] == [scratch]

    def test_keeps_the_records_of_runs_that_it_is_not_told_of(self, store: Store) -> None:
        store.write_run("run-1", {})

        assert find_garbage(store, set()) == []

    @pytest.mark.parametrize("how", ["in_use", "execution_lock"])
    def test_leaves_alone_what_another_process_uses(self, store: Store, how: str, children: Children) -> None:
        path = publish(store).path
        listed = find_garbage(store, set())
        ready, told = os.pipe()

        def use() -> None:
            with getattr(store, how)("trainer", KEY):
                os.write(told, b".")
                time.sleep(600)

        user = children.start(use)
        os.read(ready, 1)
        try:
            assert find_garbage(store, set()) == []
            assert collect(store, listed) == []
            assert path.is_dir()
        finally:
            os.kill(user, signal.SIGKILL)
            children.status(user)
        assert collect(store, listed) == listed

    def test_may_be_used_by_several_at_once(self, store: Store) -> None:
        publish(store)

        with store.in_use("trainer", KEY):
            with store.in_use("trainer", KEY):
                assert find_garbage(store, set()) == []
            assert find_garbage(store, set()) == []
        assert len(find_garbage(store, set())) == 1
        assert list((store.root / "locks").iterdir()) == []

    def test_that_is_gone_already_is_not_counted_as_removed(self, store: Store) -> None:
        publish(store)
        garbage = find_garbage(store, set())
        collect(store, garbage)

        assert collect(store, garbage) == []

    def test_is_not_what_a_run_recorded_since_it_was_looked_for(self, store: Store) -> None:
        # A pod used it and is gone; the run's next pod will want it.
        kept = publish(store)
        dropped = publish(store, key=OTHER_KEY)
        ledger = Ledger(store, "none")
        ledger.join_run("taxi", "sha256:0", run="b1946ac9")
        since = RunsSince(store)
        garbage = find_garbage(store, set())
        ledger.record_step("b1946ac9", StepRecord(step="trainer", key=KEY, action="reuse"))

        removed = collect(store, garbage, since=since)

        assert [item.path for item in removed] == [dropped.path]
        assert kept.path.is_dir()

    def test_is_no_run_that_goes_on_again_since_it_was_looked_for(self, store: Store) -> None:
        ledger = Ledger(store, "none")
        for run in ("ended", "retried"):
            ledger.join_run("taxi", "sha256:0", run=run)
            ledger.end_run(run, "failed")
        since = RunsSince(store)
        garbage = find_garbage(store, set(), drop_runs=["ended", "retried"])
        ledger.join_run("taxi", "sha256:0", run="retried")

        collect(store, garbage, since=since)

        assert list(store.run_records()) == ["retried"]

    def test_never_half_removes_an_execution_whenever_collecting_is_killed(
        self, store: Store, children: Children
    ) -> None:
        publish(store)
        garbage = find_garbage(store, set())
        for _ in children.killed_before_each_call(lambda: collect(store, garbage) and None):
            found = store.find("trainer", KEY)
            if found is not None:
                store.verify(found)
            else:
                publish(store)


def test_garbage_says_why(store: Store) -> None:
    publish(store)

    (item,) = find_garbage(store, set())

    assert isinstance(item, Garbage)
    assert item.why == "no kept run and no pushed model needs it"
