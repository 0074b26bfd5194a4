"""`pipeline show` tells what a run did, and everything about one of its steps."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from pipeline.cli.run import run_pipeline
from pipeline.cli.show import show_run, show_step
from pipeline.ledger import Ledger
from pipeline.store import Store
from schemas.errors import ConfigError


def test_a_run_has_a_line_per_step_and_the_paths_of_what_was_made(ran: Path) -> None:
    shown = show_run("store-root")

    text = shown.as_text().splitlines()
    assert text[0].startswith(f"toy  run {shown.record.id}  done, ")
    assert text[1] == "parameters: most=100"
    assert {line.split()[0]: line.split()[1] for line in text[4:]} == dict.fromkeys(
        ("read", "count", "judge", "apply", "fit"), "run"
    )
    assert (shown.outputs["fit"]["model"] / "Format-Serving/saved_model.pb").read_text() == "19"


def test_a_run_is_found_by_the_beginning_of_its_id(ran: Path) -> None:
    run = show_run("store-root").record.id

    assert show_run("store-root", run[:13]).record.id == run
    with pytest.raises(ConfigError, match="there is no run '1999'"):
        show_run("store-root", "1999")


def test_a_step_has_settings_inputs_outputs_and_its_log(ran: Path) -> None:
    shown = show_step("store-root", "latest", "fit")

    text = shown.as_text()
    assert "component  project_steps.Fit" in text
    assert "  pause_s: 0.0" in text
    assert "  examples: apply.transformed_examples  sha256:" in text
    assert "  model: Model, 1 files, 2 bytes  sha256:" in text
    assert '    metrics: {"sum": 12}' in text
    assert shown.log is not None
    assert shown.log.read_text() == "going on from 0\n"


def test_a_step_says_how_long_it_took_and_how_much_memory(ran: Path) -> None:
    text = show_step("store-root", "latest", "fit").as_text()

    assert re.search(r"^took       .+, at most \d+ MB of memory$", text, re.MULTILINE)


def test_a_step_that_was_reused_has_the_log_of_the_run_that_made_it(ran: Path) -> None:
    made = show_step("store-root", "latest", "fit")
    run_pipeline("pipeline.yaml")

    shown = show_step("store-root", "latest", "fit")

    assert shown.record.action == "reuse"
    assert shown.log == made.log


def test_a_step_that_failed_has_its_message_and_its_own_log(ran: Path) -> None:
    (ran / "project_functions.py").write_text("def double(line):\n    raise ValueError('no')\n")
    failed = run_pipeline("pipeline.yaml", to="apply")

    shown = show_step("store-root", failed.run, "apply")

    assert shown.as_text().splitlines()[:3] == [
        "apply: failed (project_functions.py: double, unused changed, project_helpers.py is no longer imported)",
        "",
        "project_functions.py:2 in double: ValueError: no",
    ]
    assert shown.log == ran / "store-root/runs" / failed.run / "apply.log"
    assert "ValueError: no" in shown.log.read_text()


def test_a_step_that_is_not_there_has_a_suggestion(ran: Path) -> None:
    with pytest.raises(ConfigError, match="has no step 'fitt'. Did you mean 'fit'"):
        show_step("store-root", "latest", "fitt")


def test_a_step_that_is_at_work_says_who_is_since_when_and_that_it_is_dead(project: Path) -> None:
    ledger = Ledger(Store("store-root").open(), "none")
    ledger.join_run("toy", "sha256:0", run="b1946ac9")
    ledger.begin_step("b1946ac9", "fit", "ab" * 32, "its inputs changed")
    ledger.begin_step("b1946ac9", "judge", "cd" * 32, "")
    change_owner("judge", started="0")
    ledger.begin_step("b1946ac9", "count", "ef" * 32, "")
    change_owner("count", host="toy-4711-pod", boot_id="another", pid=7)

    shown = show_run("store-root", "b1946ac9", ledger="none")
    fit, judge, count = (
        re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "THEN", line) for line in shown.as_text().splitlines()[3:]
    )

    assert shown.as_text().startswith("toy  run b1946ac9  running\n")
    assert fit.split(maxsplit=3) == [
        "fit",
        "running",
        "ab" * 6,
        f"process {os.getpid()} since THEN: its inputs changed",
    ]
    assert judge.endswith(f"process {os.getpid()} since THEN (dead by now)")
    assert count.endswith("process 7 on toy-4711-pod since THEN")
    text = show_step("store-root", "b1946ac9", "count", ledger="none").as_text()
    assert text.startswith("count: running\n\nprocess 7 on toy-4711-pod since ")


def change_owner(step: str, **fields: object) -> None:
    path = Path("store-root/runs/b1946ac9/run.json")
    record = json.loads(path.read_text())
    (found,) = [found for found in record["steps"] if found["step"] == step]
    found["owner"] |= fields
    path.write_text(json.dumps(record))
