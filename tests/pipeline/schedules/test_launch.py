"""A run is a process whose answer is read from a file, by whichever scheduler is there when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.cron import Cron
from pipeline.schedules.launch import Ended, Firing, ProcessLauncher, Running, trigger_arguments
from pipeline.schedules.reading import Schedule
from schemas.owner import Owner
from schemas.schedule import KubeflowScheduleConfig

PATIENCE_S = 60
MORNING = datetime(2026, 8, 14, 3, tzinfo=UTC)


def schedule(**parameters: object) -> Schedule:
    return Schedule(
        "daily", "a b.yaml", Cron.parse("0 3 * * *"), True, parameters, "once", 300, False, KubeflowScheduleConfig()
    )  # type: ignore[arg-type]


@pytest.fixture
def firing(tmp_path: Path) -> Firing:
    return Firing(schedule(), MORNING, MORNING, tmp_path / "run.log", tmp_path / "run.json")


def launcher(program: str) -> ProcessLauncher:
    return ProcessLauncher((sys.executable, "-c", program))


def ended(program: str, firing: Firing) -> Ended:
    over = threading.Event()
    running = launcher(program).start(firing, over.set)
    assert over.wait(PATIENCE_S)
    found = running.poll()
    assert found is not None
    return found


def test_a_run_is_given_what_the_schedule_says() -> None:
    assert trigger_arguments(schedule(steps=7, note="a b")) == [
        "trigger",
        "a b.yaml",
        "--if-new-data",
        "--set",
        "parameters.steps=7",
        "--set",
        'parameters.note="a b"',
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"outcome": "done", "reason": "span 42 is new", "run": "r1"}', Ended("done", "span 42 is new", "r1")),
        ('{"outcome": "busy", "reason": "process 7 runs it", "run": null}', Ended("busy", "process 7 runs it")),
        ('{"outcome": "error", "error": "ConfigError", "problems": ["a", "b"]}', Ended("failed", "a; b")),
        ('{"outcome": "interrupted", "problems": ["stopped"]}', Ended("interrupted", "stopped")),
    ],
    ids=["done", "busy", "error", "interrupted"],
)
def test_what_a_run_says_at_its_end_is_what_it_came_to(firing: Firing, said: str, expected: Ended) -> None:
    assert ended(f"print('''{said}'''); raise SystemExit(3)", firing) == expected


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "it was killed by SIGKILL and said nothing"),
        ("raise SystemExit(7)", "it ended with exit code 7 and said nothing"),
        ("print('{\"outcome\": ')", "it ended with exit code 0 and said nothing"),
        ('print(\'{"outcome": "nonsense"}\')', "it ended with exit code 0 and said nothing"),
        ("print('[]')", "it ended with exit code 0 and said nothing"),
    ],
    ids=["killed", "exit code", "half an answer", "another answer", "no object"],
)
def test_a_run_that_says_nothing_has_failed(firing: Firing, program: str, reason: str) -> None:
    assert ended(program, firing) == Ended("failed", reason, said=False)


def test_what_a_run_writes_beside_its_answer_is_in_its_log_after_what_was_there(firing: Firing) -> None:
    firing.log.write_text("before\n")

    ended("import sys; print('step 1 of 3', file=sys.stderr)", firing)

    assert firing.log.read_text() == "before\nstep 1 of 3\n"


def test_a_program_that_is_not_there_is_an_os_error(firing: Firing) -> None:
    with pytest.raises(FileNotFoundError):
        ProcessLauncher(("/nowhere/pipeline",)).start(firing, lambda: None)


WAITS = """
import signal, sys, time
def stop(*_):
    print('{"outcome": "interrupted", "reason": "asked to", "run": "r1"}', flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", file=sys.stderr, flush=True)
while True:
    time.sleep(1)
"""


def started(program: str, firing: Firing, over: threading.Event) -> Running:
    """A run, once it is ready for signals."""
    running = launcher(program).start(firing, over.set)
    while "ready" not in firing.log.read_text():
        assert not over.wait(0.02)
    return running


def test_a_run_goes_on_until_it_is_asked_to_stop(firing: Firing) -> None:
    over = threading.Event()
    running = started(WAITS, firing, over)
    assert running.poll() is None

    running.stop()

    assert over.wait(PATIENCE_S)
    assert running.poll() == Ended("interrupted", "asked to", "r1")


def test_ctrl_c_at_the_terminal_does_not_reach_it(firing: Firing) -> None:
    over = threading.Event()
    running = started(WAITS, firing, over)
    assert running.process is not None

    assert os.getsid(running.process["pid"]) != os.getsid(0)

    running.kill()
    assert over.wait(PATIENCE_S)


def test_killed_it_goes_with_all_its_processes(firing: Firing, tmp_path: Path) -> None:
    over = threading.Event()
    child = tmp_path / "child"
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        f"    open({str(child)!r}, 'w').write(str(os.getpid()))\n"
        "    print('ready', file=sys.stderr, flush=True)\n"
        "time.sleep(1000)\n"
    )
    running = started(program, firing, over)
    running.stop()
    assert running.poll() is None

    running.kill()

    assert over.wait(PATIENCE_S)
    descendant = Owner.of(int(child.read_text()))
    while descendant.is_alive():  # it is ended by the system in its own time
        assert not threading.Event().wait(0.01)
    assert running.poll() == Ended("failed", "it was killed by SIGKILL and said nothing", said=False)


def test_a_run_that_outlives_its_scheduler_is_found_and_what_it_says_is_read(firing: Firing) -> None:
    first, second = threading.Event(), threading.Event()
    process = started(WAITS, firing, first).process

    found = launcher("raise SystemExit").find(firing, process, second.set)

    assert found is not None
    assert found.poll() is None
    assert found.process == process
    found.stop()
    assert second.wait(PATIENCE_S)
    assert found.poll() == Ended("interrupted", "asked to", "r1")


def test_one_that_ended_meanwhile_has_ended_as_it_said(firing: Firing) -> None:
    firing.answer.write_text('{"outcome": "done", "run": "r1"}')

    found = launcher("").find(firing, None, lambda: None)

    assert found is not None
    assert found.poll() == Ended("done", "", "r1")


@pytest.mark.parametrize("left", ["", '{"outcome": "interrupted", "run": "r1"}'], ids=["nothing", "interrupted"])
def test_one_that_never_came_to_its_end_is_found_nowhere(firing: Firing, left: str) -> None:
    over = threading.Event()
    running = started(WAITS, firing, over)
    process = running.process
    running.kill()
    assert over.wait(PATIENCE_S)
    running.poll()
    firing.answer.write_text(left)

    assert launcher("").find(firing, process, lambda: None) is None
    assert launcher("").find(firing, {"pid": "nonsense"}, lambda: None) is None


def test_what_an_earlier_attempt_said_is_not_taken_for_what_this_one_says(firing: Firing) -> None:
    firing.answer.write_text('{"outcome": "interrupted", "run": "r1"}')

    assert ended("raise SystemExit(7)", firing).reason == "it ended with exit code 7 and said nothing"


def test_one_that_ends_just_when_it_is_to_be_stopped_is_no_error(
    firing: Firing, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    child = launcher("pass").start(firing, over.set)
    process = child.process
    assert over.wait(PATIENCE_S)
    monkeypatch.setattr(Owner, "is_alive", lambda owner: True)
    orphan = launcher("").find(firing, process, lambda: None)
    assert orphan is not None

    orphan.stop()
    orphan.kill()
    monkeypatch.setattr(subprocess.Popen, "poll", lambda popen: None)
    child.stop()
    child.kill()
