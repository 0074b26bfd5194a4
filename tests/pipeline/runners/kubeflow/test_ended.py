"""The last task of a run on Kubeflow ends its record and tells a webhook, whatever the other tasks left behind."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.notifications.ended_run import EndedRun
from pipeline.notifications.webhook import notify
from pipeline.runners.kubeflow.ended import end_run
from pipeline.runners.kubeflow.expectation import Expectation
from pipeline.store import Store
from schemas.errors import ConfigError

Cluster = Any  # of conftest.py, which cannot be imported

PUSHING = """\
  verdict: {uses: project_gate.Bless, with: {most: "${parameters.most}"}}
  push: {uses: project_steps.Push, with: {destination: serving}, inputs: {model: fit.model}}
"""

GATE = '''
from __future__ import annotations

import json
from dataclasses import dataclass

from schemas.artifacts import Blessing, Model, Statistics
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Bless:
    """Model, Statistics -> Blessing: of at most so many lines."""

    most: int = 100

    def run(self, model: Model, statistics: Statistics, blessing: Out[Blessing]) -> None:
        count = json.loads((statistics.path / "count.json").read_text())
        blessing.write((f"{count} lines are more than {self.most}",) if count > self.most else ())
'''

STEPS = ("read", "count", "apply", "fit", "verdict", "push")


Heard = Any  # of tests/pipeline/conftest.py, which cannot be imported


@pytest.fixture
def pushing(cluster: Cluster) -> Cluster:
    """The project with a verdict and a push, without the gate for anomalies."""
    Path("project_gate.py").write_text(GATE)
    definition = Path("pipeline.yaml")
    text = definition.read_text().replace(
        '  judge: {uses: project_steps.Judge, with: {most: "${parameters.most}"}}\n', ""
    )
    definition.write_text(text.replace("kubeflow:", f"{PUSHING}kubeflow:"))
    return cluster


@pytest.fixture
def all_done(cluster: Cluster) -> Cluster:
    """The project after a run in which every step was done."""
    for step in ("read", "count", "judge", "apply", "fit"):
        cluster.here(step)
    return cluster


def end(cluster: Cluster, run: str = "job-1", environ: dict[str, str] | None = None, **given: Any) -> EndedRun:
    values = {**cluster.definition().parameters, "penstock_run": run, **given}
    text = json.dumps(
        {
            "inputs": {"parameterValues": values},
            "outputs": {
                "artifacts": {"summary": {"artifacts": [{"uri": str(cluster.pods / "summary")}]}},
                "outputFile": str(cluster.pods / "ended.json"),
            },
        }
    )
    return end_run("pipeline.yaml", root=str(cluster.root), executor_input=text, environ=environ or {})


def test_a_run_that_did_everything_is_done_and_the_webhook_is_told(pushing: Cluster, server: Heard) -> None:
    for step in STEPS:
        pushing.here(step)

    ended = end(pushing, environ={"PENSTOCK_WEBHOOK": server.url, "PENSTOCK_WEBHOOK_TOKEN": "s3cr3t"})

    assert ended.outcome == "done"
    assert server.tokens == ["Bearer s3cr3t"]
    (told,) = server.bodies
    assert (told["pipeline"], told["run"], told["outcome"], told["error"]) == ("toy", "job-1", "done", "")
    assert {name: step["outcome"] for name, step in told["steps"].items()} == dict.fromkeys(STEPS, "done")
    assert told["metrics"] == {"sum": 12}
    assert told["paths"]["serving"] == str(Path("serving/1").absolute())
    assert told["paths"]["fit.model"].startswith(str(pushing.root / "store" / "fit"))
    assert pushing.record()["outcome"] == "done"
    page = (pushing.pods / "summary").read_text()
    assert "| verdict | done |" in page
    assert json.loads((pushing.pods / "ended.json").read_text())["artifacts"]["summary"]


def test_a_model_that_was_not_blessed_makes_the_run_a_refused_one_and_the_push_a_skipped_step(
    pushing: Cluster, server: Heard
) -> None:
    for step in STEPS[:-1]:  # Kubeflow does not enter the group that pushes
        pushing.here(step, most=2)

    ended = end(pushing, environ={"PENSTOCK_WEBHOOK": server.url}, most=2)

    assert ended.outcome == "refused"
    (told,) = server.bodies
    assert told["reasons"] == ["3 lines are more than 2"]
    assert told["steps"]["push"] == {
        "outcome": "skipped", "seconds": 0.0, "reason": "verdict did not bless the model", "message": "", "key": "",
    }  # fmt: skip
    assert pushing.record()["steps"]["push"]["action"] == "skipped"


def test_a_refusal_is_no_failure(cluster: Cluster) -> None:
    for step in ("read", "count", "judge", "apply", "fit"):
        if step == "fit":
            cluster.executions["job-1", "apply"] = cluster.executions["job-1", "read"]
        cluster.here(step, most=2)

    ended = end(cluster, most=2)

    assert (ended.outcome, ended.reasons, ended.error) == ("refused", ("3 lines are more than 2",), "")


def test_a_run_that_a_step_found_no_need_to_go_on_with_is_skipped_with_the_reason(
    pushing: Cluster, server: Heard
) -> None:
    definition = Path("pipeline.yaml")
    definition.write_text(
        definition.read_text().replace("  apply:", "  judge: {uses: project_steps.Judge, with: {fewest: 4}}\n  apply:")
    )
    for step in ("read", "count", "judge", "apply", "fit", "verdict"):  # what pushes is in a group that is not entered
        if step == "fit":
            pushing.executions["job-1", "apply"] = pushing.executions["job-1", "read"]
        pushing.here(step)

    ended = end(pushing, environ={"PENSTOCK_WEBHOOK": server.url})

    assert (ended.outcome, ended.reasons, ended.error) == ("skipped", ("3 lines are fewer than 4",), "")
    (told,) = server.bodies
    assert told["outcome"] == "skipped"
    assert {name: step["outcome"] for name, step in told["steps"].items()} == {
        "read": "done", "count": "done", "judge": "no need",
        "apply": "skipped", "fit": "skipped", "verdict": "skipped", "push": "skipped",
    }  # fmt: skip
    assert told["steps"]["push"]["reason"] == "judge found no need to go on"
    assert pushing.record()["outcome"] == "skipped"
    assert "toy: skipped" in (pushing.pods / "summary").read_text()


def test_a_step_that_was_killed_and_never_came_back_failed(cluster: Cluster) -> None:
    cluster.here("read")
    ledger = Ledger(Store(cluster.root), "none")
    ledger.begin_step("job-1", "count", "ab" * 32, "it never ran")

    ended = end(cluster)

    assert ended.outcome == "failed"
    assert ended.error == "count: it never reported: its pod was killed or evicted"
    steps = cluster.record()["steps"]
    assert steps["count"]["action"] == "failed"
    assert (steps["judge"]["action"], steps["judge"]["reason"]) == ("skipped", "count failed")
    assert (steps["apply"]["action"], steps["fit"]["action"]) == ("failed", "skipped")


def test_a_step_whose_pod_never_started_is_the_error(cluster: Cluster) -> None:
    ended = end(cluster)

    assert ended.outcome == "failed"
    assert ended.error == "read: it never began: its pod could not start, or the run was stopped before"
    assert [(step.step, step.action) for step in ended.steps][:2] == [("read", "failed"), ("count", "skipped")]


def test_an_image_whose_definition_cannot_be_read_ends_the_run_nevertheless(cluster: Cluster, server: Heard) -> None:
    cluster.here("read")
    Path("pipeline.yaml").rename("other.yaml")
    text = json.dumps(
        {
            "inputs": {"parameterValues": {"most": 100, "penstock_run": "job-1"}},
            "outputs": {"outputFile": str(cluster.pods / "ended.json")},
        }
    )

    ended = end_run(
        "pipeline.yaml", root=str(cluster.root), executor_input=text, environ={"PENSTOCK_WEBHOOK": server.url}
    )

    assert ended.outcome == "failed"
    assert ended.error.startswith("pipeline.yaml: there is no such file")
    assert server.bodies[0]["steps"]["read"]["outcome"] == "done"
    assert cluster.record()["outcome"] == "failed"


def test_an_image_of_another_version_is_a_warning(all_done: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(
        {
            "inputs": {"parameterValues": {"most": 100, "penstock_run": "job-1"}},
            "outputs": {"outputFile": str(all_done.pods / "ended.json")},
        }
    )
    expectation = Expectation(penstock="0", graph=all_done.definition().graph.digest).to_json()

    ended = end_run("pipeline.yaml", root=str(all_done.root), executor_input=text, expect=expectation, environ={})

    assert ended.outcome == "done"
    assert "the package was compiled by Penstock 0, and the image holds Penstock" in capfd.readouterr().out


def test_an_index_that_is_away_is_a_warning_since_the_store_has_the_record(all_done: Cluster) -> None:
    ended = end(all_done, environ={"PENSTOCK_LEDGER": "postgresql://penstock:hunter2@127.0.0.1:1/penstock"})

    assert ended.outcome == "done"
    (warning,) = ended.warnings
    assert "The store has the run's record" in warning
    assert "hunter2" not in warning
    assert all_done.record()["outcome"] == "done"


def test_a_metric_that_is_no_number_keeps_nothing_from_being_told(server: Heard) -> None:
    assert notify(server.url, {"metrics": {"auc": float("nan")}}) is None


def test_a_run_that_nobody_recorded_cannot_be_ended_without_the_definition(cluster: Cluster) -> None:
    text = json.dumps({"inputs": {"parameterValues": {"penstock_run": "job-9"}}, "outputs": {"outputFile": "/x"}})

    with pytest.raises(ConfigError, match="there is no such file"):
        end_run("other.yaml", root=str(cluster.root), executor_input=text, environ={})


class TestWebhook:
    """Who cannot be told is a warning."""

    def test_that_refuses_is_asked_once_and_does_not_fail_the_task(
        self, all_done: Cluster, server: Heard, capfd: pytest.CaptureFixture[str]
    ) -> None:
        server.answer = 403

        ended = end(all_done, environ={"PENSTOCK_WEBHOOK": server.url})

        assert ended.outcome == "done"
        assert len(server.bodies) == 1
        said = capfd.readouterr().out
        assert "warning: the webhook at 127.0.0.1 answered 403 Forbidden" in said
        assert "secret-path" not in said

    def test_that_is_in_trouble_is_asked_again(self, server: Heard) -> None:
        server.answer = 503

        assert notify(server.url, {}) == "the webhook at 127.0.0.1 answered 503 Service Unavailable"
        assert len(server.bodies) == 2

    @pytest.mark.parametrize("answer", [301, 302, 303, 307])
    def test_that_sends_elsewhere_is_not_followed_which_would_lose_what_is_said(
        self, server: Heard, answer: int
    ) -> None:
        server.answer = answer

        problem = notify(server.url, {}, "token")

        assert problem is not None
        assert problem.endswith(", which names another address: give that one")
        assert server.tokens == ["Bearer token"]

    def test_that_is_not_there(self) -> None:
        with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
            port = closed.server_port

        problem = notify(f"http://127.0.0.1:{port}/secret-path", {})

        assert problem is not None
        assert problem.startswith("the webhook at 127.0.0.1 cannot be reached: ")
        assert "secret-path" not in problem

    @pytest.mark.parametrize("address", ["ftp://host/x", "hooks.example.com/x", "http://[::1/x", "https://:80"])
    def test_whose_address_is_none(self, address: str) -> None:
        problem = notify(address, {})

        assert problem is not None
        assert address not in problem
