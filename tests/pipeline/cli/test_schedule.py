"""`pipeline schedule`: a process that runs definitions by the clock, what it does next, and the same for other schedulers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.schedules.state import LastRun, State, States

REPOSITORY = Path(__file__).parents[3]
NOW = datetime.now(UTC)
HOUR = (NOW.hour + 12) % 24  # whenever the tests are run, no firing is near
CRON = f"0 {HOUR} * * *"
FILE = f"""\
schedules:
  nightly: {{pipeline: pipeline.yaml, cron: "{CRON}", parameters: {{most: 90}}}}
"""


@pytest.fixture
def schedule(project: Path) -> States:
    """A schedule of the project's definition that has missed some nights. Its states."""
    (project / "schedule.yaml").write_text(FILE)
    states = States.of(project / "schedule.yaml")
    states.directory.mkdir(parents=True)
    states.write("nightly", State(CRON, "UTC", NOW - timedelta(days=3)))
    return states


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pipeline.cli.main", "schedule", "run", "schedule.yaml", *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines_until(process: subprocess.Popen[str], what: str) -> str:
    """What it said, as far as the line with `what`, which it must come to."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if what in line:
            return said
    raise AssertionError(f"it never said '{what}':\n{said}")


def state_of(states: States) -> State:
    found = states.read("nightly")
    assert found is not None
    return found


@pytest.mark.slow
def test_what_was_missed_is_run_at_once_and_sigterm_ends_it_well(schedule: States, command: Callable[..., Any]) -> None:
    with start() as process:
        said = lines_until(process, "nightly: done")
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read() if process.stdout else ""

    assert process.returncode == 0
    assert "nightly: missed 3 firings; runs for " in said
    assert rest.endswith("stopped\n")
    last = state_of(schedule).last
    assert last is not None
    assert last.run is not None
    shown = command("show", last.run, "--root", "store-root")
    assert "done" in shown.out


@pytest.mark.slow
def test_a_run_that_was_stopped_with_it_is_gone_on_with_by_the_next(schedule: States, project: Path) -> None:
    definition = (project / "pipeline.yaml").read_text()
    slow = "fit: {uses: project_steps.Fit, with: {pause_s: 1000}}"
    (project / "pipeline.yaml").write_text(definition.replace("fit: {uses: project_steps.Fit}", slow))
    with start() as process:
        lines_until(process, "nightly: missed 3 firings; runs for ")
        while not list((project / "store-root" / "scratch").glob("fit/*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stdout.read() if process.stdout else ""

    assert process.returncode == 130
    assert "goes on with the next start of the scheduler" in said
    state = state_of(schedule)
    assert state.last is not None
    assert state.last.outcome == "interrupted"
    assert state.unfinished == state.last.due

    (project / "pipeline.yaml").write_text(definition)
    with start() as process:
        lines_until(process, "nightly: goes on with the run for ")
        assert process.stdout is not None
        process.stdout.close()  # as `| head` does: no reason to end
        while state_of(schedule).unfinished:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)

    assert process.returncode == 0
    last = state_of(schedule).last
    assert last is not None
    assert last.outcome == "done"


def test_a_second_scheduler_of_a_file_is_refused(schedule: States, command: Callable[..., Any]) -> None:
    with schedule.held(Path("schedule.yaml")):
        said = command("schedule", "run", "schedule.yaml")

    assert said.code == 2
    assert (
        f"schedule.yaml: process {os.getpid()} (pipeline schedule run schedule.yaml) schedules it already" in said.err
    )


def test_a_file_with_mistakes_is_refused_at_the_start_with_all_of_them(
    project: Path, command: Callable[..., Any]
) -> None:
    (project / "schedule.yaml").write_text(
        'schedules:\n  a: {pipeline: pipeline.yaml, cron: "0 0 3 * * *"}\n  b: {pipeline: other.yaml, cron: "@daily"}\n'
    )

    for verb in (["run", "schedule.yaml"], ["list", "schedule.yaml"], ["print", "schedule.yaml", "--as", "cron"]):
        said = command("schedule", *verb, "--json")
        assert said.code == 2
        assert [problem.split(":")[1] for problem in said.data["problems"]] == ["2", "3"]


@pytest.mark.usefixtures("schedule")
def test_list_says_what_comes_next_and_that_nobody_schedules(command: Callable[..., Any]) -> None:
    said = command("schedule", "list", "schedule.yaml", "--json")

    (nightly,) = said.data["schedules"]
    moments = [datetime.fromisoformat(moment) for moment in nightly["next"]]
    assert said.data["scheduler"] is False
    assert (nightly["cron"], nightly["timezone"], nightly["parameters"]) == (CRON, "UTC", {"most": 90})
    assert [(moment.hour, moment.minute) for moment in moments] == [(HOUR, 0)] * 3
    assert moments == [moments[0] + timedelta(days=day) for day in range(3)]


def test_list_shows_how_the_last_run_ended(schedule: States, command: Callable[..., Any]) -> None:
    at = datetime(2026, 8, 14, 3, 0, tzinfo=UTC)
    last = LastRun(at, at, at + timedelta(minutes=7), "failed", "the disk is full", "20260814-0300-ab", "nightly/x.log")
    schedule.write("nightly", State(CRON, "UTC", at, last=last))

    said = command("schedule", "list", "schedule.yaml")

    assert "failed 2026-08-14 03:07" in said.out
    assert "run 20260814-0300-ab" in said.out
    assert "log nightly/x.log" in said.out
    assert "no scheduler is at work; start one with: pipeline schedule run schedule.yaml" in said.out


def test_list_shows_what_runs_and_what_was_cut_short(schedule: States, command: Callable[..., Any]) -> None:
    from schemas.owner import Owner

    at = datetime(2026, 8, 14, 3, 0, tzinfo=UTC)
    state = State(CRON, "UTC", at, unfinished=at, began=at, process=Owner.current().to_json())
    schedule.write("nightly", state)
    assert "runs since 2026-08-14 03:00" in command("schedule", "list", "schedule.yaml").out

    schedule.write("nightly", State(CRON, "UTC", at, unfinished=at, began=at))
    with schedule.held(Path("schedule.yaml")):
        said = command("schedule", "list", "schedule.yaml")
    assert "not at its end: that for 2026-08-14 03:00" in said.out
    assert "no scheduler" not in said.out


@pytest.mark.usefixtures("schedule")
def test_print_is_one_document_also_as_data(command: Callable[..., Any]) -> None:
    said = command("schedule", "print", "schedule.yaml", "--as", "cron", "--directory", "/srv/taxi", "--json")

    assert said.data["outcome"] == "printed"
    assert f"\n{CRON} cd /srv/taxi && " in said.data["files"]["crontab"]
    assert said.data["files"]["crontab"].endswith(" trigger pipeline.yaml --set parameters.most=90")
