"""The command: exit codes, one JSON document whatever happens, every mistake at once, and nothing heavy for --help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

HEAVY = ("tensorflow", "apache_beam", "kfp", "tfx", "sqlalchemy", "pydantic", "rich", "ruamel", "pyarrow", "numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom pipeline.cli.main import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([name for name in sys.modules if name.partition('.')[0] in {HEAVY}])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_process_of_a_step_begins_without_what_reads_definitions() -> None:
    """There may be hundreds of them, and each would make the models that a definition is checked against."""
    code = "import sys, pipeline.runners.local\nprint({'schemas.config', 'pipeline.loading', 'pydantic'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_the_version_is_the_distributions(command: Command) -> None:
    assert command("--version").out == f"penstock {version('penstock')}\n"


def test_every_verb_has_help(command: Command) -> None:
    listed = command("--help").out
    for verb in (
        "run",
        "trigger",
        "backfill",
        "plan",
        "check",
        "dag",
        "runs",
        "show",
        "step",
        "gc",
        "serve",
        "export-mlmd",
    ):
        assert f"\n  {verb} " in listed
    for verb in ("run", "trigger", "backfill", "plan", "check", "dag", "runs", "show", "gc", "serve", "export-mlmd"):
        said = command(verb, "--help")
        assert said.code == 0
        assert "--json" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rn"], "No such command 'rn'. Did you mean 'run', 'runs'?"),
        (["run"], "Missing argument 'CONFIG'"),
        (["run", "pipeline.yaml", "--forse", "x"], "No such option: --forse"),
        (["runs", "--limit", "none"], "Invalid value for '--limit'"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(command: Command, arguments: list[str], message: str) -> None:
    said = command(*arguments)

    assert said.code == 2
    assert message in said.err
    assert said.out == ""


def test_a_wrong_definition_ends_with_2_and_every_mistake_on_a_line(command: Command, project: Path) -> None:
    said = command("run", "pipeline.yaml", "--set", "seed=-1", "--set", "trainer.x=1", "--set", "steps.read.cash=no")

    assert said.code == 2
    lines = said.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: --set ") for line in lines)
    assert not (project / "store-root").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "outcome"),
    [
        (["plan", "pipeline.yaml"], 0, "planned"),
        (["check", "pipeline.yaml"], 0, "ok"),
        (["check", "pipeline.yaml", "--set", "seed=x"], 2, "wrong"),
        (["dag", "pipeline.yaml"], 0, "drawn"),
        (["runs", "--root", "store-root"], 0, "listed"),
        (["show", "--root", "store-root"], 0, "done"),
        (["show", "latest", "read", "--root", "store-root"], 0, "run"),
        (["gc", "--root", "store-root"], 0, "listed"),
        (["run", "pipeline.yaml"], 0, "nothing new"),
        (["run", "pipeline.yaml", "--set", "seed=x"], 2, "error"),
        (["run", "pipeline.yaml", "--to", "reed"], 2, "error"),
        (["run", "nothing.yaml"], 2, "error"),
        (["show", "20", "--root", "nowhere"], 2, "error"),
        (["plan"], 2, "error"),
        (["gc", "--root", "nowhere"], 2, "error"),
    ],
)
def test_json_is_one_document_with_an_outcome(
    command: Command, ran: Path, arguments: list[str], code: int, outcome: str
) -> None:
    said = command(*arguments, "--json")

    assert (said.code, said.data["outcome"]) == (code, outcome)
    if outcome == "error":
        assert said.data["problems"]


def test_json_stands_alone_whatever_the_users_modules_print(command: Command, ran: Path) -> None:
    with (ran / "project_steps.py").open("a") as file:
        file.write("\nimport os\nprint('loaded')\nos.write(1, b'from C++')\n")

    said = command("plan", "pipeline.yaml", "--json")

    assert said.data["outcome"] == "planned"
    assert "loaded" in said.err
    assert "from C++" in said.err


def test_a_mistake_of_ours_is_one_too(command: Command, ran: Path) -> None:
    (manifest,) = (ran / "store-root/store/read").glob("*/manifest.json")
    manifest.write_text(manifest.read_text().replace('"records": {', '"records": 3, "x": {'))

    said = command("run", "pipeline.yaml", "--json")

    assert said.code == 1
    assert said.data["outcome"] == "error"
    assert "This is a mistake in Penstock" in said.data["problems"][0]
    assert "Traceback" in said.err


def test_a_reader_who_has_enough_does_not_end_a_run(project: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "run", "pipeline.yaml"],
        stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")
    assert (project / "store-root/store/fit").is_dir()


def test_a_reader_who_has_enough_gets_no_complaint(project: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "dag", "pipeline.yaml"],
        stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")
