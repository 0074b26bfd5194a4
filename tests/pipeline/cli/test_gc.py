"""`pipeline gc` says what it would remove, and removes nothing that a kept run or a pushed model needs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli.gc import Collected, collect_garbage
from pipeline.cli.plan import plan_pipeline
from pipeline.cli.run import RunResult, run_pipeline
from pipeline.ledger import Ledger, recorded_runs
from pipeline.store import Store
from schemas.errors import ArtifactError, ConfigError, StoreError


def run(*overrides: str) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=overrides)


def gc(keep_runs: int = 1, *, remove: bool = True) -> Collected:
    return collect_garbage("store-root", keep_runs=keep_runs, remove=remove)


def listed(found: Collected) -> set[tuple[str, ...]]:
    """Area and step of all that was found."""
    return {item.path.relative_to(found.root).parts[:2] for item in found.garbage}


def steps_in_store(project: Path) -> dict[str, int]:
    return {step.name: len(list(step.iterdir())) for step in sorted((project / "store-root/store").iterdir())}


def test_what_only_an_old_run_needs_is_listed_first_and_removed_when_asked(ran: Path) -> None:
    run("parameters.most=50")

    would = gc(remove=False)

    assert listed(would) == {("store", "judge")}
    assert "say --yes" in would.as_text()
    assert steps_in_store(ran)["judge"] == 2

    removed = gc()

    assert listed(removed) == {("store", "judge")}
    assert steps_in_store(ran)["judge"] == 1
    assert run("parameters.most=50").outcome == "nothing new"
    assert gc(keep_runs=2).garbage == ()


def test_an_old_run_that_made_what_is_kept_keeps_its_log_and_others_leave_the_ledger_too(ran: Path) -> None:
    (made_it,) = [path.name for path in (ran / "store-root/runs").iterdir()]
    idle = run().run
    run()

    gc()

    ids = [record.id for record in Ledger(Store("store-root")).runs(None)]
    assert made_it in ids
    assert idle not in ids
    assert not (ran / "store-root/runs" / idle).exists()


def test_the_newest_runs_of_each_pipeline_are_kept(ran: Path) -> None:
    (ran / "other.yaml").write_text((ran / "pipeline.yaml").read_text().replace("name: toy", "name: other"))
    run_pipeline("other.yaml", overrides=["parameters.most=50"])

    assert listed(gc(remove=False)) == set()


def add_push(project: Path) -> None:
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  push: {uses: project_steps.Push, with: {destination: serving}}\n")


def test_a_pushed_models_ancestors_are_kept_for_as_long_as_its_version_is_there(ran: Path) -> None:
    add_push(ran)
    run()
    (ran / "numbers.txt").write_text("5\n")
    run()  # nothing of the first run is used again

    assert listed(gc(remove=False)) == set()

    shutil.rmtree(ran / "serving/1")
    assert {area for area, _ in listed(gc(remove=False))} == {"store", "runs"}
    assert {step for area, step in listed(gc(remove=False)) if area == "store"} == {
        "read", "count", "judge", "apply", "fit", "push",
    }  # fmt: skip


def test_the_serving_directory_is_found_from_any_working_directory(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_push(ran)
    run()
    monkeypatch.chdir(tmp_path)

    found = collect_garbage(str(ran / "store-root"), keep_runs=0)

    assert ("store", "fit") not in listed(found)
    assert ("store", "judge") not in listed(found), "what judged the model is part of its passport"


def test_what_was_pushed_to_nobody_knows_where_is_no_obstacle(ran: Path) -> None:
    add_push(ran)
    run()
    (manifest,) = (ran / "store-root/store/push").glob("*/manifest.json")
    known = json.loads(manifest.read_text())
    known["outputs"]["pushed_model"]["properties"] = {}
    manifest.write_text(json.dumps(known))

    assert listed(gc()) == set()


def test_nothing_is_removed_when_a_passport_cannot_be_read(ran: Path) -> None:
    add_push(ran)
    run()
    run("parameters.most=50")
    (ran / "serving/1/assets.extra/passport.json").write_text("{")
    before = steps_in_store(ran)

    with pytest.raises(ArtifactError, match=r"passport\.json.*Nothing was removed"):
        gc()

    assert steps_in_store(ran) == before


def test_nothing_is_removed_when_the_ledger_cannot_be_reached(ran: Path) -> None:
    before = steps_in_store(ran)

    with pytest.raises(StoreError, match="ledger"):
        collect_garbage("store-root", ledger="sqlite:////nowhere/ledger.sqlite", keep_runs=0, remove=True)

    assert steps_in_store(ran) == before


def test_a_root_that_is_not_there_is_said_to_be_wrong(project: Path) -> None:
    with pytest.raises(ConfigError, match="elsewhere: there is no such directory"):
        collect_garbage("elsewhere")


def start(*overrides: str) -> subprocess.Popen[str]:
    code = (
        "import sys\nfrom pipeline.cli.run import run_pipeline\nrun_pipeline('pipeline.yaml', overrides=sys.argv[1:])"
    )
    return subprocess.Popen([sys.executable, "-c", code, *overrides], stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def position(project: Path) -> int:
    files = list((project / "store-root/scratch/fit").glob("*/position.json"))
    return json.loads(files[0].read_text())[0] if files else 0


def test_the_scratch_of_a_killed_run_is_kept_and_its_dead_staging_is_not(project: Path) -> None:
    (project / "numbers.txt").write_text("\n".join(map(str, range(90))))
    process = start("fit.pause_s=0.5")
    wait_for(lambda: position(project) >= 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ((record),) = Ledger(Store("store-root")).runs()
    assert "fit" not in {step.step for step in record.steps}, "only its order tells that it had begun"
    wait_for(lambda: ("staging",) in {path[:1] for path in listed(gc(remove=False))})

    found = gc()

    assert {path[:1] for path in listed(found)} == {("staging",)}
    assert position(project) >= 1
    assert ("scratch", "fit") in listed(gc(keep_runs=0, remove=False))


def test_a_run_that_is_going_on_loses_nothing(project: Path) -> None:
    (project / "numbers.txt").write_text("\n".join(map(str, range(90))))
    process = start("fit.pause_s=0.5")
    wait_for(lambda: position(project) >= 1 and (project / "store-root/store/judge").is_dir())

    assert gc(keep_runs=0).garbage == ()

    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    planned = {step.step: step.action for step in plan_pipeline("pipeline.yaml", overrides=["fit.pause_s=0.5"])}
    assert planned == {"read": "reuse", "count": "reuse", "judge": "reuse", "apply": "reuse", "fit": "run"}
    assert ("store", "read") in listed(gc(keep_runs=0, remove=False)), (
        "once it is over, its executions are like any others"
    )


class TestARunOfManyProcesses:
    """One that was made on a cluster: no process of this machine tells whether it goes on."""

    def join(self, run: str, silent_days: float) -> Path:
        """Take over all that the newest run made or used, long ago."""
        store = Store("store-root")
        newest = recorded_runs(store)[0]
        ledger = Ledger(store)
        ledger.join_run("toy", "sha256:0", run=run)
        for step in newest.steps:
            ledger.record_step(run, step)
        self.quiet(store.root / "runs" / run, silent_days)
        return store.root / "runs" / run

    def quiet(self, directory: Path, days: float) -> None:
        then = time.time() - days * 86400
        for path in [*directory.rglob("*"), directory]:
            os.utime(path, (then, then))

    def test_that_has_not_ended_keeps_what_it_made_however_many_follow(self, ran: Path) -> None:
        run("parameters.most=50")
        directory = self.join("b1946ac9", silent_days=6)
        run()

        assert gc(keep_runs=0).lost == ()

        assert directory.is_dir()
        assert steps_in_store(ran) == {"apply": 1, "count": 1, "fit": 1, "judge": 1, "read": 1}

    def test_that_nothing_was_heard_of_for_a_week_is_like_any_old_one(self, ran: Path) -> None:
        run("parameters.most=50")
        directory = self.join("b1946ac9", silent_days=8)
        run()

        gc(keep_runs=1)

        assert not directory.exists()
        assert steps_in_store(ran)["judge"] == 1

    def test_that_is_lost_and_kept_is_ended(self, ran: Path) -> None:
        self.join("b1946ac9", silent_days=8)
        Ledger(Store("store-root")).begin_step("b1946ac9", "push", "ab" * 32, "new")
        self.quiet(ran / "store-root/runs/b1946ac9", 8)

        would = gc(keep_runs=5, remove=False)
        assert would.lost == ("b1946ac9",)
        assert "would end  run b1946ac9, as interrupted: nothing was heard of it for long" in would.as_text()
        assert Ledger(Store("store-root")).run("b1946ac9").state == "running"

        assert gc(keep_runs=5).as_json()["lost"] == ["b1946ac9"]
        ended = Ledger(Store("store-root")).run("b1946ac9")
        assert ended.state == "interrupted"
        assert ended.steps[-1].message == "it never reported: its pod was killed or evicted"
        assert gc(keep_runs=5).lost == ()

    def test_is_not_lost_while_one_of_its_steps_is_locked(self, ran: Path) -> None:
        directory = self.join("b1946ac9", silent_days=8)
        store = Store("store-root")
        Ledger(store).begin_step("b1946ac9", "push", "ab" * 32, "new")
        self.quiet(directory, 8)

        with store.in_use("push", "ab" * 32):
            assert gc().lost == ()

        assert gc().lost == ("b1946ac9",)

    def test_of_another_machines_process_is_judged_in_the_same_way(self, ran: Path) -> None:
        store = Store("store-root")
        record = Ledger(store).start_run("toy", "sha256:0", run="from-a-container").to_json()
        store.write_run("from-a-container", record | {"owner": record["owner"] | {"host": "gone", "boot_id": "other"}})
        assert gc(keep_runs=0, remove=False).lost == ()
        self.quiet(store.root / "runs/from-a-container", 8)

        assert ("runs", "from-a-container") in listed(gc(keep_runs=0))
        assert "from-a-container" not in store.run_records()

    def test_of_a_process_of_this_machine_that_lives_is_never_lost(self, ran: Path) -> None:
        store = Store("store-root")
        Ledger(store).start_run("toy", "sha256:0", run="paused")
        self.quiet(store.root / "runs/paused", 800)

        assert gc(keep_runs=0).lost == ()
        assert "paused" in store.run_records()


def test_what_a_pod_left_half_made_on_another_machine_is_removed_when_it_is_old(ran: Path) -> None:
    store = Store("store-root")
    with store.stage("fit", "ab" * 32) as staging:
        left = staging.execution_path.parent
        shutil.copytree(left, left.with_name("fit-of-a-pod"))
    left = left.with_name("fit-of-a-pod")
    owner = json.loads((left / "owner.json").read_text()) | {"host": "pod", "boot_id": "another"}
    (left / "owner.json").write_text(json.dumps(owner))
    assert gc(remove=False).garbage == ()

    TestARunOfManyProcesses().quiet(left, 8)
    (found,) = gc().garbage

    assert found.path == left
    assert not left.exists()
