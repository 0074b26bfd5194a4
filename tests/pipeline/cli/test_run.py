"""`pipeline run` ends with what happened as its exit code, and stops cleanly however it is told to."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.store import Store

Command = Callable[..., Any]


class TestTheExitCode:
    def test_is_0_when_done_and_when_nothing_is_new(self, command: Command, ran: Path) -> None:
        said = command("run", "pipeline.yaml", "--json")

        assert (said.code, said.data["outcome"]) == (0, "nothing new")
        assert said.data["steps"]["fit"]["action"] == "reuse"
        assert Path(said.data["steps"]["fit"]["outputs"]["model"]).is_dir()

    def test_is_3_when_a_gate_refuses(self, command: Command, ran: Path) -> None:
        said = command("run", "pipeline.yaml", "--set", "parameters.most=2", "--to", "judge")

        assert said.code == 3
        assert "judge" in said.out
        assert "3 lines are more than 2" in said.out

    def test_is_0_when_a_step_finds_no_need_to_go_on_which_reads_as_no_refusal(
        self, command: Command, ran: Path
    ) -> None:
        said = command("run", "pipeline.yaml", "--set", "steps.judge.with.fewest=4", "--to", "judge")

        (found,) = [line for line in said.out.splitlines() if line.endswith("3 lines are fewer than 4")]
        assert said.code == 0
        assert found.startswith("✓ judge ")
        assert said.out.splitlines()[-1].startswith("skipped after ")
        assert said.out.splitlines()[-1].endswith("  2 reused, 1 run")

    def test_is_1_when_a_step_fails_and_the_command_to_repeat_it_works(self, command: Command, ran: Path) -> None:
        functions = ran / "project_functions.py"
        functions.write_text("def double(line):\n    raise ValueError('no')\n")

        said = command("run", "pipeline.yaml")

        assert said.code == 1
        assert "project_functions.py:2 in double: ValueError: no" in said.out
        (again,) = [line.split("again", 1)[1].strip() for line in said.out.splitlines() if "again  pipeline" in line]
        functions.write_text("def double(line):\n    return 2 * int(line)\n")
        repeated = pipeline(*again.split()[1:], "--json")
        output, _ = repeated.communicate(timeout=60)
        assert repeated.returncode == 0
        assert json.loads(output)["outcome"] == "done"


def pipeline(*arguments: str, marker: str = "", **options: Any) -> subprocess.Popen[str]:
    """The command, in a process group of its own. `marker` goes into the environment of all that it starts."""
    environment = {**os.environ, "PIPELINE_TEST_MARKER": marker, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("CI", None)
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": hear_a_closed_terminal}
    command = [sys.executable, "-m", "pipeline.cli.main", *arguments]
    return subprocess.Popen(command, env=environment, **(usual | options))


def hear_a_closed_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests (nohup) may have it ignored


def marked(marker: str) -> list[int]:
    """The processes that were started, directly or not, with that marker."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                if f"PIPELINE_TEST_MARKER={marker}".encode() in (directory / "environ").read_bytes():
                    found.append(int(directory.name))
            except OSError:
                continue
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def position(project: Path) -> int:
    files = list((project / "store-root/scratch/fit").glob("*/position.json"))
    return json.loads(files[0].read_text())[0] if files else 0


@pytest.fixture
def slow(project: Path) -> Path:
    """The project with so many numbers that `fit` takes a minute."""
    (project / "numbers.txt").write_text("1\n" * 90)
    return project


STOPPED = "error: stopped; what had finished is kept, and the next run goes on from there"
SLOWLY = ("run", "pipeline.yaml", "--set", "fit.pause_s=0.7")


def assert_stopped_cleanly(project: Path) -> None:
    assert list((project / "store-root/staging").iterdir()) == []
    (record,) = Ledger(Store(project / "store-root")).runs()
    assert record.outcome == "interrupted"
    assert {step.step: step.action for step in record.steps}["fit"] == "skipped"
    assert position(project) >= 1, "scratch is what the next run goes on from"


class TestStopping:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
    def test_with_a_signal_to_the_command_alone_ends_every_process(self, slow: Path, how: signal.Signals) -> None:
        process = pipeline(*SLOWLY, marker=str(slow))
        wait_for(lambda: position(slow) >= 1)

        process.send_signal(how)

        output, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors.strip() == STOPPED
        assert "interrupted after" in output
        assert marked(str(slow)) == []
        assert_stopped_cleanly(slow)

    def test_is_told_as_json_too(self, slow: Path) -> None:
        process = pipeline(*SLOWLY, "--json")
        wait_for(lambda: position(slow) >= 1)

        process.send_signal(signal.SIGTERM)

        output, _ = process.communicate(timeout=30)
        assert json.loads(output)["outcome"] == "interrupted"

    def test_with_ctrl_c_gives_the_terminal_back(self, slow: Path) -> None:
        terminal, inside = pty.openpty()
        before = termios.tcgetattr(inside)

        def control() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = pipeline(*SLOWLY, marker=str(slow), stdin=inside, stdout=inside, stderr=inside, preexec_fn=control)
        shown = bytearray()
        os.set_blocking(terminal, False)

        def read() -> None:
            try:
                while piece := os.read(terminal, 65536):
                    shown.extend(piece)
            except OSError:
                pass  # nothing more for now, or ever

        def reading(condition: Callable[[], object]) -> Callable[[], object]:
            return lambda: (read(), condition())[1]

        wait_for(reading(lambda: position(slow) >= 1 and b"of 90 numbers" in shown))

        os.write(terminal, b"\x03")

        wait_for(reading(lambda: process.poll() is not None))
        read()
        after = termios.tcgetattr(inside)
        os.close(inside)
        os.close(terminal)
        text = shown.decode()
        assert process.returncode == 130
        assert STOPPED.removeprefix("error: ") in text
        assert "Traceback" not in text
        assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0, "the cursor is shown again"
        assert after == before
        assert marked(str(slow)) == []
        assert_stopped_cleanly(slow)

    def test_a_signal_that_is_ignored_stays_so(self, ran: Path) -> None:
        process = pipeline(
            "run", "pipeline.yaml", "--force", "fit", "--set", "fit.pause_s=0.5",
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
        )  # fmt: skip
        wait_for(lambda: position(ran) >= 1)

        process.send_signal(signal.SIGHUP)

        assert process.wait(60) == 0
