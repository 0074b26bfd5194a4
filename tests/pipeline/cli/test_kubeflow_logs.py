"""`pipeline kubeflow logs` prints what a run's steps wrote, and says so when it is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.kubeflow.api import Access, connect
from pipeline.runners.kubeflow.task_logs import follow_log

Command = Any
Api = Any


@pytest.fixture
def run(command: Command, kfp_api: Api, toy_package: Path) -> str:
    """The id of a run whose first task is done and whose second is at its second attempt."""
    run = str(command("kubeflow", "run", str(toy_package), "--name", "toy run", "--json").data["run"])
    workflow = kfp_api.workflows[run]
    workflow.start()
    workflow.enter("exit-handler-1")
    workflow.finish("read")
    workflow.run("fit-model")
    workflow.retry("fit-model", "OOMKilled (exit code 137)")
    (read,), attempts = workflow.attempts("read"), workflow.attempts("fit-model")
    kfp_api.logs |= {read: "read 3 lines\n", attempts[0]: "step 1\n", attempts[1]: "step 1\nstep 2\n"}
    return run


@pytest.mark.parametrize("ui", [True, False], ids=["the UI's server", "the API server"])
def test_a_steps_log_is_printed(command: Command, kfp_api: Api, run: str, ui: bool) -> None:
    kfp_api.ui = ui

    said = command("kubeflow", "logs", run, "read")

    assert (said.code, said.out) == (0, "read 3 lines\n")


def test_of_a_step_that_was_retried_the_last_attempt_is_printed(command: Command, kfp_api: Api, run: str) -> None:
    assert command("kubeflow", "logs", run, "fit_model").out == "(attempt 2 of 2)\nstep 1\nstep 2\n"


def test_when_the_last_attempts_pod_is_gone_the_one_before_is_printed(command: Command, kfp_api: Api, run: str) -> None:
    del kfp_api.logs[kfp_api.workflows[run].attempts("fit-model")[1]]

    assert command("kubeflow", "logs", run, "fit_model").out == "(attempt 1 of 2)\nstep 1\n"


@pytest.mark.parametrize("spelling", ["fit_model", "fit-model"])
def test_a_step_is_known_by_its_id_and_by_kubeflows_spelling(
    command: Command, kfp_api: Api, run: str, spelling: str
) -> None:
    assert command("kubeflow", "logs", "toy run", spelling).code == 0


def test_without_a_step_all_are_printed_each_under_its_name(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "logs", run)

    assert said.code == 0
    assert "==> read <==\nread 3 lines\n" in said.out
    assert "==> fit_model <==\n(attempt 2 of 2)\nstep 1\nstep 2\n" in said.out
    assert "==> push <==\npush has not started" in said.out


def test_as_data_each_log_says_where_it_was_read(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "logs", run, "--json").data

    assert said["outcome"] == "read"
    assert said["logs"]["read"] == {
        "text": "read 3 lines\n",
        "source": f"pod {kfp_api.workflows[run].attempts('read')[0]}",
        "gone": None,
    }
    assert said["logs"]["push"]["gone"] == "push has not started"


@pytest.mark.parametrize("ui", [True, False], ids=["the UI's server", "the API server"])
def test_a_log_that_went_with_its_pod_is_told(command: Command, kfp_api: Api, run: str, ui: bool) -> None:
    kfp_api.ui = ui
    (pod,) = kfp_api.workflows[run].attempts("read")
    kfp_api.logs.clear()

    said = command("kubeflow", "logs", run, "read")

    assert said.code == 1
    assert said.out == ""
    assert f"the log of read is gone: {pod} is no longer there, and this Kubeflow keeps no archive of logs" in said.err
    assert "--root DIR reads the log that the step wrote there" in said.err


@pytest.mark.parametrize("ui", [True, False], ids=["the UI's server", "the API server"])
def test_a_pod_that_is_being_made_has_no_log_yet(command: Command, kfp_api: Api, run: str, ui: bool) -> None:
    kfp_api.ui = ui
    workflow = kfp_api.workflows[run]
    workflow.run("judge", "ContainerCreating")
    kfp_api.logs[workflow.attempts("judge")[0]] = None

    said = command("kubeflow", "logs", run, "judge")

    assert said.code == 1
    assert said.err == "judge has not started: ContainerCreating\n"


def test_the_stores_log_outlives_the_pod(command: Command, kfp_api: Api, run: str, tmp_path: Path) -> None:
    kfp_api.logs.clear()
    (tmp_path / "store/runs" / run).mkdir(parents=True)
    (tmp_path / "store/runs" / run / "fit_model.log").write_text("from the store\n")

    said = command("kubeflow", "logs", run, "fit_model", "--root", str(tmp_path / "store"))

    assert (said.code, said.out) == (0, "from the store\n")


def test_a_root_that_is_not_mounted_here_is_told(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "logs", run, "read", "--root", "/mnt/elsewhere")

    assert said.code == 2
    assert (
        "--root /mnt/elsewhere: there is no such directory here; leave it out when the store is not mounted" in said.err
    )


def test_of_a_task_that_kubeflow_could_not_prepare_the_drivers_log_is_printed(
    command: Command, kfp_api: Api, run: str
) -> None:
    workflow = kfp_api.workflows[run]
    workflow.prepare("judge", "Failed", "Error (exit code 1)")
    driver = next(node for node in workflow.nodes.values() if node["displayName"] == "judge-driver")
    kfp_api.logs[workflow.pod_name(driver)] = "cannot resolve the inputs\n"

    said = command("kubeflow", "logs", run, "judge")

    assert said.out == "(what follows is of Kubeflow's own pod, which prepares the task)\ncannot resolve the inputs\n"


def test_a_step_that_the_runs_pipeline_has_not_is_told(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "logs", run, "fit_modle")
    assert said.code == 2
    assert f"run {run} ('toy run') has no step 'fit_modle'. Did you mean 'fit_model'?" in said.err

    said = command("kubeflow", "logs", run, "transform")
    assert "It has: read, fit_model, judge, push, ended" in said.err


def test_what_kubeflow_no_longer_knows_is_told(command: Command, kfp_api: Api, run: str) -> None:
    kfp_api.has_v1 = False

    said = command("kubeflow", "logs", run, "read")

    assert said.code == 1
    assert "Kubeflow does not say which pod ran it" in said.err


def test_a_log_is_followed_until_its_step_has_ended(kfp_api: Api, run: str) -> None:
    workflow, written = kfp_api.workflows[run], []
    pod = workflow.attempts("fit-model")[1]
    grown = [
        lambda: kfp_api.logs.update({pod: "step 1\nstep 2\nstep 3\n"}),
        lambda: workflow.finish("fit-model"),
    ]

    def sleep(_: float) -> None:
        grown.pop(0)()

    ended = follow_log(connect(Access(endpoint=kfp_api.url)), run, "fit_model", written.append, sleep=sleep)

    assert "".join(written) == "(attempt 2 of 2)\nstep 1\nstep 2\nstep 3\n"
    assert ended.exit_code == 0


def test_which_log_to_follow_must_be_said(command: Command, kfp_api: Api, run: str) -> None:
    said = command("kubeflow", "logs", run, "--follow")

    assert said.code == 2
    assert "--follow: say the log of which step" in said.err
