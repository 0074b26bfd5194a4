"""`pipeline runs` lists what was run, newest first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.runs import list_runs, runs_text
from pipeline.ledger import Ledger, StepRecord, recorded_runs
from pipeline.store import Store
from schemas.errors import ConfigError

Command = Callable[..., Any]  # of conftest.py, which cannot be imported


def test_the_text_says_when_what_and_how_it_ended(ran: Path) -> None:
    head, line = runs_text(list_runs("store-root")).splitlines()

    assert head.split() == ["RUN", "STARTED", "PIPELINE", "OUTCOME", "TOOK", "STEPS"]
    assert line.split()[0] == next((ran / "store-root/runs").iterdir()).name
    assert "  toy  " in line
    assert "  done  " in line.replace("done     ", "done  ")
    assert line.endswith("5 run")


def test_a_run_that_goes_on_and_one_that_failed_are_told_apart(project: Path) -> None:
    ledger = Ledger(Store("store-root").open())
    going_on = ledger.start_run("toy", "sha256:0", run="run-1")
    failed = ledger.start_run("toy", "sha256:0", run="run-2")
    ledger.record_step(failed.id, StepRecord(step="read", action="failed", message="no"))
    ledger.end_run(failed.id, "failed")

    states = {record.id: record.state for record in list_runs("store-root")}

    assert states == {going_on.id: "running", failed.id: "failed"}
    assert [record.id for record in list_runs("store-root", limit=1)] == ["run-2"]


def test_without_runs_it_says_so_and_without_a_root_that_it_is_wrong(project: Path) -> None:
    Store("store-root").open()

    assert runs_text(list_runs("store-root")) == "no runs yet"
    with pytest.raises(ConfigError, match="elsewhere: there is no such directory; `pipeline run` makes it"):
        list_runs("elsewhere")


def test_steps_that_are_at_work_are_counted_too(project: Path) -> None:
    ledger = Ledger(Store("store-root").open(), "none")
    ledger.join_run("toy", "sha256:0", run="b1946ac9")
    ledger.record_step("b1946ac9", StepRecord(step="read", action="run"))
    ledger.begin_step("b1946ac9", "count", "", "")
    ledger.begin_step("b1946ac9", "apply", "", "")

    _, line = runs_text(list_runs("store-root")).splitlines()

    assert line.split()[-5:] == ["running", "1", "run,", "2", "running"]


@pytest.mark.parametrize("where", ["option", "environment"])
def test_without_a_ledger_the_store_alone_is_enough(
    ran: Path, command: Command, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (ran / "store-root/ledger.sqlite").unlink()
    if where == "environment":
        monkeypatch.setenv("PENSTOCK_LEDGER", "none")
    option = ["--ledger", "none"] if where == "option" else []
    (made,) = recorded_runs(Store("store-root"))

    listed = command("runs", "--root", "store-root", *option)
    shown = command("show", made.id[:13], "--root", "store-root", *option)
    step = command("show", "latest", "fit", "--root", "store-root", *option)
    again = command("run", "pipeline.yaml", "--json", *option)
    removed = command("gc", "--root", "store-root", "--keep-runs", "1", "--yes", *option)

    assert [said.code for said in (listed, shown, step, again, removed)] == [0] * 5
    assert made.id in listed.out
    assert shown.out.startswith(f"toy  run {made.id}  done")
    assert step.out.startswith("fit: run")
    assert again.data["outcome"] == "nothing new"
    assert not (ran / "store-root/ledger.sqlite").exists()


def test_a_ledger_that_the_environment_names_goes_before_the_definitions(
    ran: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ran / "store-root/ledger.sqlite").unlink()
    monkeypatch.setenv("PENSTOCK_LEDGER", f"sqlite:///{ran / 'elsewhere.sqlite'}")

    assert command("run", "pipeline.yaml", "--set", "ledger=none", "--json").data["outcome"] == "nothing new"

    assert (ran / "elsewhere.sqlite").exists()
    assert not (ran / "store-root/ledger.sqlite").exists()


def test_a_definition_may_say_that_there_is_no_ledger(ran: Path, command: Command) -> None:
    (ran / "store-root/ledger.sqlite").unlink()
    with (ran / "pipeline.yaml").open("a") as file:
        file.write("ledger: none\n")

    assert command("run", "pipeline.yaml", "--json").data["outcome"] == "nothing new"

    assert not (ran / "store-root/ledger.sqlite").exists()
