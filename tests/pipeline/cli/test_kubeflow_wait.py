"""`pipeline kubeflow wait` tells of every change of a task until the run ends, and how it ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline import log
from pipeline.ledger import Ledger, StepRecord
from pipeline.runners.kubeflow.api import Access, connect
from pipeline.runners.kubeflow.follow import Follower
from pipeline.store import Store
from schemas.errors import Interrupted, PenstockError, Unreachable

Command = Any
Api = Any


@pytest.fixture
def run(command: Command, kfp_api: Api, toy_package: Path) -> str:
    """The id of a run that has been taken and has not begun."""
    return str(command("kubeflow", "run", str(toy_package), "--name", "toy run", "--json").data["run"])


def follower(kfp_api: Api, run: str, events: list[Any], **options: Any) -> Follower:
    """Follows without pauses."""
    return Follower(connect(Access(endpoint=kfp_api.url)), run, events.append, sleep=lambda _: None, **options)


def to_the_end(workflow: Any) -> None:
    """All goes well."""
    workflow.start()
    workflow.enter("exit-handler-1")
    for task in ("read", "fit-model", "judge"):
        workflow.finish(task)
    workflow.enter("condition-2")
    workflow.finish("push")
    workflow.leave("condition-2")
    workflow.leave("exit-handler-1")
    workflow.finish("ended")
    workflow.end()


def refused(workflow: Any) -> None:
    """The judge has not blessed, so nothing is pushed."""
    workflow.start()
    workflow.enter("exit-handler-1")
    for task in ("read", "fit-model", "judge"):
        workflow.finish(task)
    workflow.skip("condition-2")
    workflow.leave("exit-handler-1")
    workflow.finish("ended")
    workflow.end()


def failed(workflow: Any) -> None:
    """The second task is killed, whatever follows is left out."""
    workflow.start()
    workflow.enter("exit-handler-1")
    workflow.finish("read")
    workflow.run("fit-model")
    workflow.retry("fit-model", "OOMKilled (exit code 137)")
    workflow.fail("fit-model", "OOMKilled (exit code 137)")
    workflow.omit("judge")
    workflow.leave("exit-handler-1", "Failed")
    workflow.finish("ended")
    workflow.end("Failed")


def test_changes_are_told_as_they_happen(kfp_api: Api, run: str) -> None:
    kfp_api.on_read[run] = [
        lambda _: None,
        lambda workflow: (workflow.start(), workflow.enter("exit-handler-1"), workflow.prepare("read")),
        lambda workflow: workflow.run("read"),
        lambda workflow: (workflow.finish("read"), workflow.run("fit-model")),
        lambda workflow: (workflow.finish("fit-model"), workflow.finish("judge"), workflow.skip("condition-2")),
        lambda workflow: (workflow.leave("exit-handler-1"), workflow.finish("ended"), workflow.end()),
    ]
    events: list[Any] = []

    view = follower(kfp_api, run, events).follow()

    assert events[0] == log.RunStarted("toy run", run, ("read", "fit_model", "judge", "push", "ended"))
    assert [(type(event).__name__, event.step) for event in events[1:]] == [
        ("StepStarted", "read"),
        ("StepFinished", "read"),
        ("StepStarted", "fit_model"),
        ("StepFinished", "fit_model"),
        ("StepFinished", "judge"),
        ("StepFinished", "push"),
        ("StepFinished", "ended"),
    ]
    assert events[6].action == "skipped"
    assert events[6].reason == "no blessing from judge"
    assert view.outcome == "refused"


def test_a_run_that_is_done_is_exit_0_with_a_table(command: Command, kfp_api: Api, run: str) -> None:
    to_the_end(kfp_api.workflows[run])

    said = command("kubeflow", "wait", run)

    table = said.out[said.out.index("TASK") :].splitlines()
    assert said.code == 0
    assert f"run {run}  done, " in said.out
    assert [line.split()[:2] for line in table[1:]] == [
        ["read", "done"],
        ["fit_model", "done"],
        ["judge", "done"],
        ["push", "done"],
        ["ended", "done"],
    ]


def test_a_refusal_is_exit_3_and_names_who_refused(command: Command, kfp_api: Api, run: str) -> None:
    refused(kfp_api.workflows[run])

    said = command("kubeflow", "wait", run, "--json")

    assert said.code == 3
    assert said.data["outcome"] == "refused"
    assert said.data["state"] == "SUCCEEDED"
    assert said.data["refused_by"] == ["judge"]
    assert said.data["tasks"]["push"] == {
        "state": "skipped",
        "began_at": None,
        "seconds": None,
        "message": "no blessing from judge",
    }


def test_a_failure_is_exit_1_with_kubernetes_reason_and_where_its_log_is(
    command: Command, kfp_api: Api, run: str
) -> None:
    failed(kfp_api.workflows[run])

    said = command("kubeflow", "wait", run)

    assert said.code == 1
    assert "OOMKilled (exit code 137), attempt 2" in said.out
    assert f"pipeline kubeflow logs {run} fit_model" in said.out
    assert f"run {run}  failed, " in said.err
    judge = next(line for line in said.err.splitlines() if line.startswith("judge"))
    assert " ".join(judge.split()) == "judge not reached what it needs did not succeed"


def test_the_store_says_what_kubeflow_takes_for_success(
    command: Command, kfp_api: Api, run: str, tmp_path: Path
) -> None:
    # As with `gate: false`: all tasks are there, and one of them has refused.
    to_the_end(kfp_api.workflows[run])
    ledger = Ledger(Store(tmp_path / "store").open(), "none")
    ledger.join_run("toy", "sha256:0", run=run)
    for step in (
        StepRecord(step="read", action="reuse", reason="nothing changed"),
        StepRecord(step="fit_model", action="run"),
        StepRecord(step="judge", action="refused", message="accuracy 0.41 is below 0.60"),
        StepRecord(step="push", action="skipped", reason="judge was refused"),
    ):
        ledger.record_step(run, step)

    assert command("kubeflow", "wait", run).code == 0
    said = command("kubeflow", "wait", run, "--root", str(tmp_path / "store"), "--json")

    assert said.code == 3
    assert said.data["refused_by"] == ["judge"]
    assert {name: (task["state"], task["message"]) for name, task in said.data["tasks"].items()} == {
        "read": ("reused", "nothing changed"),
        "fit_model": ("done", ""),
        "judge": ("refused", "accuracy 0.41 is below 0.60"),
        "push": ("skipped", "judge was refused"),
        "ended": ("done", ""),
    }


def test_the_store_says_that_there_was_no_need_of_a_blessing(
    command: Command, kfp_api: Api, run: str, tmp_path: Path
) -> None:
    refused(kfp_api.workflows[run])  # as it looks to Kubeflow
    ledger = Ledger(Store(tmp_path / "store").open(), "none")
    ledger.join_run("toy", "sha256:0", run=run)
    for step in (
        StepRecord(step="read", action="no need", message="no drift"),
        StepRecord(step="fit_model", action="skipped", reason="read found no need to go on"),
        StepRecord(step="judge", action="skipped", reason="fit_model was not done"),
    ):
        ledger.record_step(run, step)

    said = command("kubeflow", "wait", run, "--root", str(tmp_path / "store"))

    assert said.code == 0
    assert f"run {run}  skipped by read, " in said.out
    assert "no drift" in said.out


def test_a_root_that_is_not_mounted_here_is_told(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "wait", run, "--root", "/mnt/elsewhere")

    assert said.code == 2
    assert "--root /mnt/elsewhere: there is no such directory here" in said.err


def test_a_failure_is_told_where_kubeflow_has_no_v1beta1_any_more(command: Command, kfp_api: Api, run: str) -> None:
    failed(kfp_api.workflows[run])
    kfp_api.has_v1 = False

    said = command("kubeflow", "wait", run, "--json")

    assert said.code == 1
    assert said.data["tasks"]["fit_model"]["state"] == "failed"


def test_a_task_that_kubeflow_cannot_prepare_has_failed(command: Command, kfp_api: Api, run: str) -> None:
    workflow = kfp_api.workflows[run]
    workflow.start()
    workflow.enter("exit-handler-1")
    workflow.prepare("read", "Failed", "Error (exit code 1)")
    workflow.omit("read")
    workflow.leave("exit-handler-1", "Failed")
    workflow.end("Failed")

    task = command("kubeflow", "wait", run, "--json").data["tasks"]["read"]

    assert task["state"] == "failed"
    assert task["message"] == "Kubeflow could not prepare it: its driver failed: Error (exit code 1)"


def test_a_run_that_somebody_stopped_is_exit_1(command: Command, kfp_api: Api, run: str) -> None:
    kfp_api.runs.items[run]["state"] = "CANCELED"

    said = command("kubeflow", "wait", run, "--json")

    assert said.code == 1
    assert said.data["outcome"] == "stopped"


def test_retries_and_waiting_for_a_node_are_told_once(kfp_api: Api, run: str) -> None:
    unschedulable = "Unschedulable: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    kfp_api.on_read[run] = [
        lambda workflow: (workflow.start(), workflow.enter("exit-handler-1"), workflow.finish("read")),
        lambda workflow: workflow.run("fit-model", unschedulable),
        lambda _: None,
        lambda workflow: workflow.retry("fit-model", "OOMKilled (exit code 137)"),
        lambda _: None,
        to_the_end,
    ]
    events: list[Any] = []

    follower(kfp_api, run, events, pod_looks_s=0.0).follow()

    assert [event for event in events if isinstance(event, log.StepWaiting)] == [
        log.StepWaiting("fit_model", unschedulable)
    ]
    assert [event for event in events if isinstance(event, log.StepNote)] == [
        log.StepNote("fit_model", "attempt 1 failed: OOMKilled (exit code 137). Kubeflow tries again")
    ]


def test_short_failures_of_the_network_are_waited_out(kfp_api: Api, run: str) -> None:
    events: list[Any] = []
    kfp_api.on_read[run] = [
        lambda workflow: (workflow.start(), workflow.enter("exit-handler-1"), workflow.run("read")),
        lambda _: (kfp_api.drop(3), kfp_api.fail(1, 503, b"upstream connect error")),
        to_the_end,
    ]

    assert follower(kfp_api, run, events).follow().outcome == "done"

    notes = [event.message for event in events if isinstance(event, log.StepNote)]
    assert len(notes) == 2
    assert notes[0].endswith("Asking again")
    assert notes[1] == "it answers again"


def test_a_lasting_failure_ends_the_wait(kfp_api: Api, run: str) -> None:
    following = follower(kfp_api, run, [], patience_s=0.0)
    kfp_api.fail(100, 503, b"no healthy upstream")

    with pytest.raises(Unreachable, match="it says 503: no healthy upstream"):
        following.follow()


def test_a_token_that_expires_meanwhile_ends_the_wait(command: Command, kfp_api: Api, run: str) -> None:
    kfp_api.on_read[run] = [lambda _: None, lambda _: setattr(kfp_api, "token", "new")]
    following = follower(kfp_api, run, [])

    with pytest.raises(PenstockError, match="no token was given. Set KFP_TOKEN"):
        following.follow()


def test_after_the_timeout_the_run_goes_on(command: Command, kfp_api: Api, run: str) -> None:
    workflow = kfp_api.workflows[run]
    workflow.start()
    workflow.enter("exit-handler-1")
    workflow.run("read")

    said = command("kubeflow", "wait", run, "--timeout", "1s")

    assert said.code == 1
    assert (
        f"run {run} has not ended in 1.0 s (read at work). The run goes on; `pipeline kubeflow wait {run}`" in said.err
    )
    assert "POST" not in "".join(kfp_api.requests[-5:])


def test_a_timeout_that_is_no_time_is_refused(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "wait", run, "--timeout", "soon")

    assert said.code == 2
    assert "--timeout: 'soon' is no length of time" in said.err


def test_ctrl_c_leaves_the_run_alone(kfp_api: Api, run: str) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    following = follower(kfp_api, run, [])
    following.sleep = interrupt

    with pytest.raises(Interrupted, match=f"The run goes on; `pipeline kubeflow wait {run}` follows it again"):
        following.follow()
    assert kfp_api.calls("POST /apis/v2beta1/runs/") == []


def test_ctrl_c_is_exit_130(command: Command, kfp_api: Api, run: str) -> None:
    # The second look at the run is within the wait: the first finds out whether there is such a run.
    kfp_api.on_read[run] = [lambda _: None, lambda _: os.kill(os.getpid(), signal.SIGINT)]

    said = command("kubeflow", "wait", run, "--json")

    assert said.code == 130
    assert said.data["outcome"] == "interrupted"
    assert "Traceback" not in said.err


def test_a_run_is_found_by_its_name_unless_several_have_it(
    command: Command, kfp_api: Api, run: str, toy_package: Path
) -> None:
    to_the_end(kfp_api.workflows[run])
    assert command("kubeflow", "wait", "toy run", "--json").data["run"] == run

    other = command("kubeflow", "run", str(toy_package), "--name", "toy run", "--json").data["run"]
    said = command("kubeflow", "wait", "toy run")
    assert said.code == 2
    assert "2 runs are called 'toy run'; give the id of one:" in said.err
    assert run in said.err
    assert other in said.err


def test_a_name_may_hold_any_characters(command: Command, kfp_api: Api, toy_package: Path) -> None:
    name = 'rate+0.5 at 100% "of" 7\u00b0'
    run = command("kubeflow", "run", str(toy_package), "--name", name, "--json").data["run"]
    to_the_end(kfp_api.workflows[run])

    assert command("kubeflow", "wait", name, "--json").data["run"] == run


def test_a_run_that_is_not_there_is_told(command: Command, kfp_api: Api) -> None:
    said = command("kubeflow", "wait", "5e7813f9")

    assert said.code == 2
    assert "there is no run '5e7813f9'; `pipeline kubeflow run` prints a run's id" in said.err


def test_a_run_of_a_deleted_version_is_followed_by_what_its_pods_tell(command: Command, kfp_api: Api, run: str) -> None:
    to_the_end(kfp_api.workflows[run])
    kfp_api.versions.items.clear()

    said = command("kubeflow", "wait", run, "--json")

    assert said.code == 0
    assert said.data["tasks"]["fit-model"]["state"] == "done"


def test_run_and_wait_in_one(command: Command, kfp_api: Api, toy_package: Path) -> None:
    def end(request: Any) -> None:
        for workflow in kfp_api.workflows.values():
            if request.path.startswith("/apis/v2beta1/runs/") and not workflow.nodes:
                refused(workflow)

    kfp_api.before = end

    said = command("kubeflow", "run", str(toy_package), "--wait", "--json")

    assert said.code == 3
    assert said.data["outcome"] == "refused"
    assert said.data["uploaded"] is True


def test_run_and_wait_in_one_hear_from_the_store_too(
    command: Command, kfp_api: Api, toy_package: Path, tmp_path: Path
) -> None:
    """A step that publishes and refuses has succeeded before Kubeflow."""
    ledger = Ledger(Store(tmp_path / "store").open(), "none")

    def end(request: Any) -> None:
        for run, workflow in kfp_api.workflows.items():
            if request.path.startswith("/apis/v2beta1/runs/") and not workflow.nodes:
                to_the_end(workflow)
                ledger.join_run("toy", "sha256:0", run=run)
                ledger.record_step(run, StepRecord(step="push", action="refused", message="60 MB are more than 50 MB"))

    kfp_api.before = end

    elsewhere = command("kubeflow", "run", str(toy_package), "--wait", "--root", "/mnt/elsewhere")
    assert (elsewhere.code, len(kfp_api.workflows)) == (2, 0)
    said = command("kubeflow", "run", str(toy_package), "--wait", "--root", str(tmp_path / "store"), "--json")

    assert said.code == 3
    assert said.data["refused_by"] == ["push"]
