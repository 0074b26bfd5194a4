"""A run on this machine tells how it ended, however it ends, whom its definition names; who cannot be told is a warning."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from pipeline import log
from pipeline.cli.run import RunResult, run_pipeline
from pipeline.definition import Pipeline
from pipeline.interrupts import like_ctrl_c
from pipeline.loading import load
from pipeline.notifications.ended_run import EndedRun
from pipeline.notifications.notification import tell
from schemas.config import NotificationConfig
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

Heard = Any  # of tests/pipeline/conftest.py, which cannot be imported

STEP = TypeAdapter(dict[str, dict[str, str | float]])


def valid(said: dict[str, Any]) -> dict[str, Any]:
    """What was sent, if it is what EndedRun.as_json promises."""
    assert set(said) == {
        "pipeline", "run", "outcome", "seconds", "steps", "metrics", "reasons", "paths", "error"
    }  # fmt: skip
    assert all(isinstance(said[name], str) for name in ("pipeline", "run", "outcome", "error"))
    assert said["outcome"] in ("done", "nothing new", "skipped", "refused", "failed", "interrupted")
    assert said["seconds"] is None or said["seconds"] >= 0
    for step in STEP.validate_python(said["steps"], strict=True).values():
        assert set(step) == {"outcome", "seconds", "reason", "message", "key"}
        assert step["outcome"] in ("done", "reused", "refused", "no need", "skipped", "failed")
    assert all(value is None or isinstance(value, float | int) for value in said["metrics"].values())
    assert all(isinstance(reason, str) for reason in said["reasons"])
    assert all(Path(path).is_absolute() for path in said["paths"].values())
    return said


def definition(heard: Heard, more: str = "") -> None:
    """Have the project's definition tell `heard`."""
    file = Path("pipeline.yaml")
    file.write_text(file.read_text() + f"notify: {{webhook: '{heard.url}'{more}}}\n")


def run(*overrides: str, **options: Any) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=overrides, **options)


class TestWhatIsTold:
    def test_a_run_that_is_done(self, ran: Path, server: Heard) -> None:
        definition(server)

        result = run("seed=8")

        assert result.outcome == "done"
        assert result.warnings == ()
        (said,) = server.bodies
        assert valid(said)["outcome"] == "done"
        assert said["pipeline"] == "toy"
        assert said["run"] == result.run
        assert {name: step["outcome"] for name, step in said["steps"].items()} == {
            "read": "reused", "count": "reused", "judge": "reused", "apply": "reused", "fit": "done"
        }  # fmt: skip
        assert said["metrics"] == {"sum": 12}
        assert said["paths"] == {"fit.model": str(Path("store-root/store").absolute() / result.paths["fit.model"][17:])}
        assert (said["reasons"], said["error"]) == ([], "")
        assert server.tokens == [None]

    def test_a_run_in_which_nothing_was_new_only_if_that_is_asked_for(self, ran: Path, server: Heard) -> None:
        definition(server)
        assert run().outcome == "nothing new"
        assert server.bodies == []

        assert run("notify.on=[nothing new]").outcome == "nothing new"

        assert valid(server.bodies[0])["outcome"] == "nothing new"

    def test_a_run_that_is_refused_says_why(self, ran: Path, server: Heard) -> None:
        definition(server)

        assert run("parameters.most=2").outcome == "refused"

        (said,) = server.bodies
        assert valid(said)["outcome"] == "refused"
        assert said["reasons"] == ["3 lines are more than 2"]
        assert said["steps"]["judge"]["outcome"] == "refused"

    def test_a_run_that_is_skipped_says_why(self, ran: Path, server: Heard) -> None:
        definition(server)

        assert run("judge.fewest=4").outcome == "skipped"

        (said,) = server.bodies
        assert valid(said)["outcome"] == "skipped"
        assert said["reasons"] == ["3 lines are fewer than 4"]
        assert said["steps"]["judge"]["outcome"] == "no need"

    def test_a_run_whose_step_fails_says_how(self, ran: Path, server: Heard) -> None:
        definition(server)
        Path("project_functions.py").write_text("def double(line):\n    raise ValueError('no')\n")

        assert run().outcome == "failed"

        (said,) = server.bodies
        assert valid(said)["outcome"] == "failed"
        assert said["error"] == "apply: project_functions.py:2 in double: ValueError: no"
        assert said["reasons"] == []
        assert said["steps"]["fit"]["outcome"] == "skipped"

    def test_a_run_that_is_interrupted(self, project: Path, server: Heard) -> None:
        definition(server)
        Path("numbers.txt").write_text("1\n" * 90)
        scratch = project / "store-root/scratch/fit"

        def stop() -> None:
            deadline = time.monotonic() + 60
            while not list(scratch.glob("*/position.json")) and time.monotonic() < deadline:
                time.sleep(0.02)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

        stopping = threading.Thread(target=stop)
        stopping.start()
        with like_ctrl_c(), pytest.raises(KeyboardInterrupt):
            run("fit.pause_s=0.7")
        stopping.join()

        (said,) = server.bodies
        assert valid(said)["outcome"] == "interrupted"
        assert said["steps"]["read"]["outcome"] == "done"
        assert said["steps"]["fit"]["outcome"] == "skipped"
        assert said["error"] == ""


class TestARunThatNeverBegins:
    def test_since_its_definition_is_wrong_elsewhere(self, project: Path, server: Heard) -> None:
        definition(server)

        with pytest.raises(ConfigError) as wrong:
            run("steps.read.cash=no", "notify.on=[failed]")

        (said,) = server.bodies
        assert valid(said)["outcome"] == "failed"
        assert (said["pipeline"], said["run"], said["steps"]) == ("toy", "", {})
        assert said["error"] == str(wrong.value)
        assert not Path("store-root").exists()

    def test_since_an_input_file_is_missing(self, project: Path, server: Heard) -> None:
        definition(server)
        Path("numbers.txt").unlink()

        with pytest.raises(ConfigError):
            run()

        (said,) = server.bodies
        assert "numbers.txt: there is no such file" in valid(said)["error"]

    def test_since_its_definition_is_gone_is_told_whom_the_environment_names(
        self, project: Path, server: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PENSTOCK_WEBHOOK", server.url)
        monkeypatch.setenv("PENSTOCK_WEBHOOK_TOKEN", "of-the-secret")

        with pytest.raises(ConfigError):
            run_pipeline("gone.yaml")

        (said,) = server.bodies
        assert valid(said)["error"].startswith("gone.yaml: there is no such file")
        assert server.tokens == ["Bearer of-the-secret"]

    @pytest.mark.parametrize(
        "text", ["- notify\n", "notify: {webhook: 3}\n", "notify: [\n"], ids=["list", "number", "half"]
    )
    def test_and_whose_notify_cannot_be_read_tells_nobody(self, project: Path, server: Heard, text: str) -> None:
        Path("pipeline.yaml").write_text(text)

        with pytest.raises(ConfigError):
            run()

        assert server.bodies == []


class TestAWarning:
    def test_is_what_a_webhook_makes_that_does_not_take_it(self, ran: Path, server: Heard) -> None:
        definition(server)
        server.answer = 403
        printed = io.StringIO()

        result = run("parameters.most=2", listener=log.PlainDisplay(printed))

        assert result.outcome == "refused"
        assert result.as_json()["warnings"] == ["the webhook at 127.0.0.1 answered 403 Forbidden"]
        assert "warning: the webhook at 127.0.0.1 answered 403 Forbidden" in printed.getvalue()
        assert "secret-path" not in printed.getvalue()

    def test_is_what_a_command_makes_that_fails_and_the_webhook_is_told_all_the_same(
        self, ran: Path, server: Heard
    ) -> None:
        definition(server, ", command: [sh, -c, 'echo no; exit 4']")

        result = run("parameters.most=2")

        output = Path("store-root/runs").absolute() / result.run / "notify.log"
        assert result.warnings == (f"the command sh ended with exit code 4; what it said is in {output}",)
        assert output.read_text() == "no\n"
        assert len(server.bodies) == 1


def test_a_command_is_told_what_a_webhook_is(ran: Path, server: Heard) -> None:
    definition(server, ", command: [tee, told.json]")

    run("parameters.most=2")

    assert [valid(json.loads(Path("told.json").read_text()))] == server.bodies


@pytest.mark.parametrize("asked", [None, []], ids=["not said", "nothing"])
def test_outcomes_that_are_not_asked_for_are_not_told(server: Heard, asked: list[Any] | None) -> None:
    ended = EndedRun(pipeline="toy", run="1", outcome="nothing new" if asked is None else "failed")

    assert tell(NotificationConfig(webhook=server.url, on=asked), ended, environ={}) == ()

    assert server.bodies == []


def test_an_interrupted_run_waits_for_nobody(server: Heard) -> None:
    server.answer = 503  # asked twice of any other run

    (warning,) = tell(
        NotificationConfig(webhook=server.url), EndedRun(pipeline="toy", run="1", outcome="interrupted"), environ={}
    )

    assert "503" in warning
    assert len(server.bodies) == 1


def test_the_environments_address_goes_before_the_definitions(server: Heard) -> None:
    ended = EndedRun(pipeline="toy", run="1", outcome="done")

    assert tell(NotificationConfig(webhook="http://192.0.2.1/"), ended, environ={"PENSTOCK_WEBHOOK": server.url}) == ()

    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        (
            "{webhook: hooks.example.com/T0/secret}",
            "notify.webhook: what stands here is not valid here: expected an address",
        ),
        ("{command: tee told.json}", "notify.command: "),
        ("{command: []}", "notify.command: "),
        ("{command: ['']}", "notify.command.0: "),
        ("{on: [finished]}", "notify.on.0: "),
        ("{x: 1}", "notify.x: no such setting. There are: webhook, command, on"),
    ],
)
def test_a_wrong_notify_is_an_error_that_repeats_no_address(project: Path, notify: str, message: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        load("pipeline.yaml", [f"notify={notify}"])

    (problem,) = wrong.value.problems
    assert message in problem
    assert "secret" not in problem


def test_a_pipeline_in_python_says_it_too(project: Path) -> None:
    made = Pipeline(name="toy", notify={"command": ["true"], "on": ["failed"]})
    made.step("read", resolve("project_steps.Read")(source="numbers.txt"))

    assert made.definition().notify == NotificationConfig(command=["true"], on=["failed"])
    with pytest.raises(ConfigError, match="notify.command"):
        Pipeline(name="toy", notify={"command": []}).definition()
