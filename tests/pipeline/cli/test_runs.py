"""`pipeline runs` lists what was run, newest first."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.runs import list_runs, runs_text
from pipeline.ledger import Ledger, StepRecord
from pipeline.store import Store
from schemas.errors import ConfigError


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
