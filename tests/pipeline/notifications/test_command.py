"""A command of the user's is told by its standard input, for a bounded time, and its failures are told and not raised."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.notifications.command import run_command
from schemas.owner import is_at_work

SAID = {"outcome": "refused", "metrics": {"auc": float("nan")}, "reasons": ["ß is below 0.7"]}


def test_it_gets_the_json_on_its_standard_input_and_its_output_is_kept(tmp_path: Path) -> None:
    kept, log = tmp_path / "kept.json", tmp_path / "notify.log"
    log.write_text("before\n")

    problem = run_command(["sh", "-c", f"echo told; echo badly >&2; cat > {kept}"], SAID, log)

    assert problem is None
    assert json.loads(kept.read_text()) == {**SAID, "metrics": {"auc": "nan"}}
    assert log.read_text() == "before\ntold\nbadly\n"


def test_without_a_log_its_output_is_this_process_s_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sh", "-c", "echo told"], SAID) is None

    assert capfd.readouterr() == ("", "told\n")


def test_one_that_reads_nothing_is_told_all_the_same(tmp_path: Path) -> None:
    assert run_command(["true"], {"reasons": ["x" * 200_000]}, tmp_path / "log") is None


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["sh", "-c", "exit 7"], "the command sh ended with exit code 7; what it said is in {log}"),
        (["sh", "-c", "kill -TERM $$"], "the command sh was ended by SIGTERM; what it said is in {log}"),
        (["no-such-program", "-x"], "the command no-such-program cannot be run: there is no such program"),
        (["/"], "the command / cannot be run: Permission denied"),
        (["a\0b"], "the command a\0b cannot be run: ValueError"),
    ],
    ids=["exit code", "signal", "no program", "no file", "no name"],
)
def test_what_goes_wrong_is_said_and_not_raised(tmp_path: Path, argv: list[str], problem: str) -> None:
    log = tmp_path / "notify.log"

    assert run_command(argv, SAID, log) == problem.format(log=log)


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    assert run_command(["true"], SAID, tmp_path / "none/log") == (
        f"the command true cannot be run: {tmp_path}/none/log: No such file or directory"
    )


def test_one_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    waits = f"sleep 600 & echo $$ $! > {pids}; wait"
    communicate = subprocess.Popen.communicate

    def once_it_began(process: subprocess.Popen[bytes], said: bytes, timeout_s: float) -> object:
        while not pids.exists() or not pids.read_text().endswith("\n"):
            assert process.poll() is None
            time.sleep(0.01)
        return communicate(process, said, timeout_s)

    monkeypatch.setattr(subprocess.Popen, "communicate", once_it_began)

    problem = run_command(["sh", "-c", waits], SAID, tmp_path / "log", timeout_s=0.1)

    assert problem == "the command sh was ended: it took more than 0.1 s"
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    deadline = time.monotonic() + 60
    while any(is_at_work(pid) for pid in started):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_json_is_not_among_its_arguments_nor_in_its_environment(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv[1:], [v for v in os.environ.values() if 'below' in v])"

    assert run_command([sys.executable, "-c", code, "one"], SAID, tmp_path / "log") is None

    assert (tmp_path / "log").read_text() == "['one'] []\n"
