"""An export onto a database in SQLite's WAL mode, which others may have made so: written whole, or left as it is."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.export_mlmd import export_runs
from pipeline.cli.run import run_pipeline
from schemas.errors import StoreError

EXPORT: dict[str, str] = {"root": "store-root"}
HOLDER = """
import sqlite3, sys
held = sqlite3.connect("lineage.db")
held.execute("PRAGMA journal_mode = WAL")
held.execute("CREATE TABLE theirs (said TEXT)")
held.execute("INSERT INTO theirs VALUES ('ours')")
held.commit()
print("open", flush=True)
sys.stdin.read()
if "killed" in sys.argv:
    import os
    os._exit(1)
held.close()
"""


@pytest.fixture
def exported(project: Path) -> Path:
    """The project's directory, with lineage.db of one run, and another run since."""
    run_pipeline("pipeline.yaml")
    export_runs(Path("lineage.db"), **EXPORT)
    run_pipeline("pipeline.yaml", overrides=["parameters.most=99"])
    return project


def executions(file: str = "lineage.db") -> int:
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (count,) = database.execute("SELECT count(*) FROM Execution").fetchone()
    return int(count)


def test_one_that_another_process_has_open_is_left_as_it_is_and_written_when_it_is_closed(exported: Path) -> None:
    before = executions()
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()

        with pytest.raises(
            StoreError, match=r"lineage.db: database is locked: another process has it open, .*Close it"
        ):
            export_runs(Path("lineage.db"), **EXPORT)

        assert executions() == before
        holder.stdin.close()
    export_runs(Path("lineage.db"), **EXPORT)

    assert executions() > before
    with contextlib.closing(sqlite3.connect("lineage.db")) as database:
        assert database.execute("SELECT said FROM theirs").fetchall() == [("ours",)]
    assert sorted(path.name for path in exported.glob("*lineage.db*")) == ["lineage.db"]


def test_the_log_that_a_killed_process_left_is_part_of_what_is_written(exported: Path) -> None:
    before = executions()
    killed = subprocess.run([sys.executable, "-c", HOLDER, "killed"], stdin=subprocess.DEVNULL, check=False)
    assert killed.returncode == 1
    assert (exported / "lineage.db-wal").stat().st_size > 0

    export_runs(Path("lineage.db"), **EXPORT)

    assert executions() > before
    with contextlib.closing(sqlite3.connect("lineage.db")) as database:
        assert database.execute("SELECT said FROM theirs").fetchall() == [("ours",)]
    assert sorted(path.name for path in exported.glob("*lineage.db*")) == ["lineage.db"]
