"""A scheduler starts what is due when it is due, once, whatever happens to it and to the clock."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.schedules.clock import Wake
from pipeline.schedules.launch import Ended, Firing, Running
from pipeline.schedules.scheduler import Line, Scheduler
from pipeline.schedules.state import State, States
from schemas.errors import ConfigError, StoreError

DEFINITION = "name: toy\nparameters: {steps: 20}\nsteps: {read: {uses: project_steps.Read}}\n"


class FakeClock:
    """Time passes only in `wait_until`, and then at once. What is planned with `at` happens on the way."""

    def __init__(self, now: str) -> None:
        self._now = datetime.fromisoformat(now)
        self._planned: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._now.astimezone(UTC)

    def at(self, moment: str | datetime, what: Callable[[], None]) -> None:
        when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        heapq.heappush(self._planned, (when, next(self._order), what))

    def set(self, moment: str) -> None:
        self._now = datetime.fromisoformat(moment)

    def wait_until(self, moment: datetime | None, wake: Wake) -> None:
        if wake.wait(0):
            return
        if self._planned and (moment is None or self._planned[0][0] <= moment):
            when, _, what = heapq.heappop(self._planned)
            self._now = max(self._now, when)
            what()
            return
        assert moment is not None, "nothing is planned, and the scheduler would wait for ever"
        self._now = max(self._now, moment)


@dataclass
class FakeRun:
    """A run that lasts until its time is up, or it is stopped."""

    firing: Firing
    pid: int
    ended: Ended | None = None
    finish: Callable[[Ended], None] = lambda ended: None
    stops_when_asked: bool = True
    asked: list[str] = field(default_factory=list)

    @property
    def process(self) -> Mapping[str, Any] | None:
        return {"pid": self.pid}

    def poll(self) -> Ended | None:
        return self.ended

    def stop(self) -> None:
        self.asked.append("stop")
        if self.stops_when_asked:
            self.finish(Ended("interrupted", "stopped"))

    def kill(self) -> None:
        self.asked.append("kill")
        self.finish(Ended("failed", "it was killed by SIGKILL and said nothing", said=False))


class FakeLauncher:
    """Starts runs on the fake clock: each takes `takes` and comes to `outcome`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.takes = timedelta()
        self.outcome: Callable[[Firing], Ended] = lambda firing: Ended(
            "done", run=f"run-{firing.due.astimezone(UTC):%d-%H%M}"
        )
        self.stops_when_asked = True
        self.started: list[tuple[str, str, str]] = []  # schedule, due, when
        self.runs: list[FakeRun] = []
        self.left: dict[int, FakeRun] = {}  # of a scheduler that is gone, by process
        self.most = 0  # runs at the same time

    def start(self, firing: Firing, ended: Callable[[], None]) -> Running:
        now = self.clock.now()
        self.started.append((firing.schedule.name, f"{firing.due.astimezone(UTC):%d %H:%M}", f"{now:%d %H:%M}"))
        run = FakeRun(firing, 100 + len(self.runs), stops_when_asked=self.stops_when_asked)

        def finish(how: Ended) -> None:
            if run.ended is None:
                run.ended = how
                ended()

        run.finish = finish
        self.runs.append(run)
        self.most = max(self.most, sum(1 for other in self.runs if other.ended is None))
        if self.takes:
            self.clock.at(now + self.takes, lambda: finish(self.outcome(firing)))
        else:
            finish(self.outcome(firing))
        return run

    def find(self, firing: Firing, process: Mapping[str, Any] | None, ended: Callable[[], None]) -> Running | None:
        return self.left.get(process["pid"]) if process else None


class Killed(BaseException):
    """What a fake clock raises in the place of SIGKILL: nothing is tidied up."""


class Machine:
    """One machine's clock, disk and processes; schedulers on it come and go."""

    def __init__(self, directory: Path, now: str) -> None:
        self.clock = FakeClock(now)
        self.launcher = FakeLauncher(self.clock)
        self.file = directory / "schedule.yaml"
        self.states = States(directory / "states")
        self.lines: list[str] = []

    def schedule(self, **schedules: str) -> None:
        """The file, with the rest of each schedule: `daily="cron: '0 3 * * *', missed: skip"`."""
        written = "".join(
            f"  {name.replace('_', '-')}: {{{f'pipeline: {name}.yaml, ' if 'pipeline:' not in rest else ''}{rest}}}\n"
            for name, rest in schedules.items()
        )
        for name in schedules:
            Path(f"{name}.yaml").write_text(DEFINITION)
        self.file.write_text(f"schedules:\n{written}")

    def run(self, until: str, *, kill: bool = False) -> list[str]:
        """A scheduler from its start to `until`, when it is stopped or killed; what it said."""

        def say(line: Line) -> None:
            self.lines.append(f"{line.at:%d %H:%M} {f'{line.schedule}: ' if line.schedule else ''}{line.text}")

        def end() -> None:
            if kill:
                raise Killed
            scheduler.stop()

        scheduler = Scheduler(
            self.file, states=self.states, clock=self.clock, launcher=self.launcher, tell=say, stop_s=30
        )
        self.clock.at(until, end)
        begun = len(self.lines)
        with self.states.held(self.file), contextlib.suppress(Killed):
            scheduler.run()
        return self.lines[begun:]

    @property
    def started(self) -> list[tuple[str, str, str]]:
        """Schedule, firing and moment of each run that was begun: day and time in UTC."""
        return self.launcher.started

    def state(self, name: str) -> State:
        found = self.states.read(name)
        assert found is not None
        return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which it is noon on a Friday, 14 August 2026."""
    monkeypatch.chdir(tmp_path)
    return Machine(tmp_path, "2026-08-14T12:00:00+00:00")


def test_each_firing_is_one_run_and_each_line_says_what_comes_next(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *', timezone: Europe/Berlin")

    said = machine.run("2026-08-16T12:00:00+00:00")

    assert machine.started == [("daily", "15 01:00", "15 01:00"), ("daily", "16 01:00", "16 01:00")]
    assert said[1:4] == [
        "14 14:00 daily: daily.yaml at '0 3 * * *' (Europe/Berlin); next 2026-08-15 03:00 CEST",
        "15 03:00 daily: runs for 2026-08-15 03:00, as process 100",
        "15 03:00 daily: done after 0.0 s, run run-15-0100; next 2026-08-16 03:00 CEST",
    ]
    assert said[-1].endswith("stopped")


def test_on_the_first_start_ever_nothing_was_missed(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    machine.clock.set("2026-08-14T03:04:00+00:00")

    machine.run("2026-08-14T23:00:00+00:00")

    assert machine.started == []


def test_schedules_run_at_the_same_time_and_none_twice(machine: Machine) -> None:
    machine.schedule(a="cron: '0 13 * * *'", b="cron: '0 13 * * *'", c="cron: '*/10 13 * * *', missed: skip")
    machine.launcher.takes = timedelta(minutes=25)

    machine.run("2026-08-14T13:55:00+00:00")

    assert machine.launcher.most == 3
    assert machine.started == [
        ("a", "14 13:00", "14 13:00"),
        ("b", "14 13:00", "14 13:00"),
        ("c", "14 13:00", "14 13:00"),
        ("c", "14 13:30", "14 13:30"),
    ]


def test_what_fires_while_its_own_run_goes_on_was_missed(machine: Machine) -> None:
    machine.schedule(a="cron: '0,10,20,50 13 * * *'")
    machine.launcher.takes = timedelta(minutes=21)

    said = machine.run("2026-08-14T14:30:00+00:00")

    assert machine.started == [
        ("a", "14 13:00", "14 13:00"),
        ("a", "14 13:20", "14 13:21"),
        ("a", "14 13:50", "14 13:50"),
    ]
    assert any(line == "14 13:21 a: missed 2 firings; runs for 2026-08-14 13:20, as process 101" for line in said)


def test_two_schedules_of_one_definition_wait_for_each_other(machine: Machine) -> None:
    machine.schedule(
        a="cron: '0 13 * * *', pipeline: ./a.yaml", b="cron: '0 13 * * *', pipeline: a.yaml, parameters: {steps: 9}"
    )
    machine.launcher.takes = timedelta(minutes=3)

    said = machine.run("2026-08-14T14:00:00+00:00")

    assert machine.started == [("a", "14 13:00", "14 13:00"), ("b", "14 13:00", "14 13:03")]
    assert machine.launcher.most == 1
    assert [line for line in said if "waits" in line] == ["14 13:00 b: waits for a, which runs a.yaml too"]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("cron: '0 3 * * *'", [("daily", "17 03:00", "17 09:00"), ("daily", "18 03:00", "18 03:00")]),
        ("cron: '0 3 * * *', missed: skip", [("daily", "18 03:00", "18 03:00")]),
        (
            "cron: '0 3 * * *', missed: skip, grace: 6h",
            [("daily", "17 03:00", "17 09:00"), ("daily", "18 03:00", "18 03:00")],
        ),
        ("cron: '0 3 * * *', paused: true", []),
    ],
    ids=["once", "skip", "within the grace", "paused"],
)
def test_what_was_missed_while_no_scheduler_ran_is_made_up_for_as_the_file_says(
    machine: Machine, rest: str, expected: list[tuple[str, str, str]]
) -> None:
    machine.schedule(daily=rest)
    machine.run("2026-08-14T13:00:00+00:00")
    machine.clock.set("2026-08-17T09:00:00+00:00")

    machine.run("2026-08-18T12:00:00+00:00")

    assert machine.started == expected


def test_what_was_missed_is_counted(machine: Machine) -> None:
    machine.schedule(
        daily="cron: '0 3 * * *'", daily_skip="cron: '0 3 * * *', missed: skip", often="cron: '* * * * *', missed: skip"
    )
    machine.run("2026-08-14T12:00:00+00:00")
    machine.clock.set("2026-08-17T09:06:30+00:00")

    said = machine.run("2026-08-17T09:06:40+00:00")

    assert "17 09:06 daily: missed 3 firings; runs for 2026-08-17 03:00, as process 100" in said
    assert (
        "17 09:06 daily-skip: missed 3 firings; the last that of 2026-08-17 03:00; skipped; next 2026-08-18 03:00 UTC"
        in said
    )
    assert "17 09:06 often: missed 1000 firings or more; runs for 2026-08-17 09:06, as process 101" in said


def test_killed_while_a_run_goes_on_it_begins_that_run_again_at_once(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *', missed: skip")
    machine.launcher.takes = timedelta(hours=2)
    machine.run("2026-08-15T04:00:00+00:00", kill=True)
    machine.clock.set("2026-08-15T09:00:00+00:00")

    said = machine.run("2026-08-15T12:00:00+00:00")

    assert machine.started == [("daily", "15 03:00", "15 03:00"), ("daily", "15 03:00", "15 09:00")]
    assert "15 09:00 daily: goes on with the run for 2026-08-15 03:00, as process 101" in said
    assert machine.state("daily").unfinished is None


def test_a_run_that_is_gone_on_with_stands_for_what_was_missed_since(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    machine.launcher.takes = timedelta(hours=2)
    machine.run("2026-08-15T04:00:00+00:00", kill=True)
    machine.clock.set("2026-08-17T09:00:00+00:00")

    said = machine.run("2026-08-17T12:00:00+00:00")

    assert machine.started == [("daily", "15 03:00", "15 03:00"), ("daily", "15 03:00", "17 09:00")]
    assert "17 09:00 daily: missed 2 firings; goes on with the run for 2026-08-15 03:00, as process 101" in said


def test_a_run_that_outlived_its_scheduler_is_waited_for(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    machine.launcher.takes = timedelta(hours=2)
    machine.run("2026-08-15T04:00:00+00:00", kill=True)
    machine.launcher.left = {100: machine.launcher.runs[0]}

    said = machine.run("2026-08-15T12:00:00+00:00")

    assert machine.started == [("daily", "15 03:00", "15 03:00")]
    assert said[1] == ("15 04:00 daily: still runs for 2026-08-15 03:00, as process 100: an earlier scheduler began it")
    last = machine.state("daily").last
    assert last is not None
    assert (last.outcome, last.run, f"{last.ended:%H:%M}") == ("done", "run-15-0300", "05:00")


def test_killed_at_any_write_of_a_state_no_firing_is_lost_and_none_runs_twice_to_its_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.schedule(daily="cron: '0 3 * * *', missed: skip, grace: 2d")
    machine.launcher.takes = timedelta(minutes=1)
    write, left = machine.states.write, 0

    def doomed(name: str, state: State) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(name, state)

    monkeypatch.setattr(machine.states, "write", doomed)

    for life in range(80):  # each of three hours, or until the first write that is one too many
        left = life % 6
        machine.run(f"{machine.clock.now() + timedelta(hours=3)}")

    left = 80
    machine.run("2026-08-31T12:00:00+00:00")

    assert sorted({due for _, due, _ in machine.started}) == [f"{day} 03:00" for day in range(15, 32)]
    assert machine.state("daily").unfinished is None


def test_asked_to_stop_it_stops_its_runs_and_goes_on_with_them_next_time(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'", other="cron: '0 4 * * *'")
    machine.launcher.takes = timedelta(hours=2)

    said = machine.run("2026-08-15T03:30:00+00:00")

    assert [run.asked for run in machine.launcher.runs] == [["stop"]]
    assert said[-3:] == [
        said[-3],
        "15 03:30 daily: interrupted after 30m 00s; goes on with the next start of the scheduler",
        said[-1],
    ]
    assert said[-3].endswith("stopping; these runs have 30.0 s to stop first: daily")
    last = machine.state("daily").last
    assert last is not None
    assert last.outcome == "interrupted"

    machine.run("2026-08-15T12:00:00+00:00")

    assert machine.started[1:] == [("daily", "15 03:00", "15 03:30"), ("other", "15 04:00", "15 04:00")]


def test_a_run_that_does_not_stop_is_killed(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    machine.launcher.takes = timedelta(hours=2)
    machine.launcher.stops_when_asked = False

    said = machine.run("2026-08-15T03:30:00+00:00")

    assert [run.asked for run in machine.launcher.runs] == [["stop", "kill"]]
    assert "15 03:30 daily: did not stop and is killed" in said
    assert machine.state("daily").unfinished is not None


def test_a_run_that_ends_by_itself_while_it_is_stopped_has_ended(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    machine.launcher.takes = timedelta(minutes=30, seconds=10)
    machine.launcher.stops_when_asked = False

    machine.run("2026-08-15T03:30:00+00:00")

    state = machine.state("daily")
    assert state.unfinished is None
    assert state.last is not None
    assert state.last.outcome == "done"


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (Ended("nothing new", "nothing new since span 41"), "nothing new since span 41; next"),
        (Ended("busy", "run 7 goes on"), "busy: run 7 goes on; next"),
        (Ended("skipped", "no drift", "r1"), "skipped after 0.0 s, run r1: no drift; next"),
        (Ended("refused", "accuracy 0.4\nauc 0.5", "r1"), "refused after 0.0 s, run r1: accuracy 0.4; auc 0.5; next"),
        (Ended("failed", "it was killed by SIGKILL and said nothing", said=False), "failed after 0.0 s: it was killed"),
        (Ended("interrupted", "", "r1"), "interrupted after 0.0 s, run r1; next 2026-08-16 03:00 UTC"),
    ],
    ids=lambda value: value.outcome if isinstance(value, Ended) else "",
)
def test_however_a_run_ends_it_is_said_and_kept_and_the_schedule_goes_on(
    machine: Machine, ended: Ended, line: str
) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    machine.launcher.outcome = lambda firing: ended

    said = machine.run("2026-08-16T12:00:00+00:00")

    assert f"15 03:00 daily: {line}" in "\n".join(said)
    assert [due for _, due, _ in machine.started] == ["15 03:00", "16 03:00"]
    last = machine.state("daily").last
    assert last is not None
    assert (last.outcome, last.reason, last.run) == (ended.outcome, ended.reason, ended.run)


def test_a_look_for_new_data_is_one_line_unless_it_goes_on(machine: Machine) -> None:
    machine.schedule(often="cron: '0 * * * *', if_new_data: true")
    machine.launcher.outcome = lambda firing: Ended("nothing new", "nothing new since span 41")
    machine.run("2026-08-14T13:30:00+00:00")
    machine.launcher.outcome = lambda firing: Ended("done", "span 42 is new", "r1")
    machine.launcher.takes = timedelta(minutes=2)

    machine.run("2026-08-14T14:30:00+00:00")

    assert [line for line in machine.lines if "often: " in line and "'0 * * * *'" not in line] == [
        "14 13:00 often: nothing new since span 41; next 2026-08-14 14:00 UTC",
        "14 14:00 often: runs for 2026-08-14 14:00, as process 101",
        "14 14:02 often: done after 2m 00s, run r1: span 42 is new; next 2026-08-14 15:00 UTC",
    ]


def test_the_log_of_a_run_that_failed_is_named_where_there_is_anything_in_it(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")

    def fail(firing: Firing) -> Ended:
        firing.log.write_text("Segmentation fault\n" if firing.due.day == 15 else "")
        return Ended("failed", "it was killed by SIGSEGV and said nothing", said=False)

    machine.launcher.outcome = fail

    said = machine.run("2026-08-16T12:00:00+00:00")

    log = machine.states.directory / "daily" / "20260815T030000Z.log"
    assert log.read_text() == "Segmentation fault\n"
    assert f"said nothing; log {log}; next 2026-08-16 03:00 UTC" in "\n".join(said)
    assert "said nothing; next 2026-08-17 03:00 UTC" in "\n".join(said)


def test_the_newest_logs_are_kept(machine: Machine) -> None:
    machine.schedule(often="cron: '0 * * * *'")

    def fail(firing: Firing) -> Ended:
        firing.log.write_text("no")
        return Ended("failed")

    machine.launcher.outcome = fail

    machine.run("2026-08-16T12:30:00+00:00")

    kept = sorted(path.name for path in (machine.states.directory / "often").glob("*.log"))
    assert (len(kept), kept[-1]) == (20, "20260816T120000Z.log")


def test_a_state_that_cannot_be_written_is_said_once_and_nothing_is_lost(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.schedule(daily="cron: '0 3 * * *'", often="cron: '*/10 * * * *', missed: skip, grace: 1s")
    write = machine.states.write

    def full(name: str, state: State) -> None:
        if datetime(2026, 8, 15, 2, 55, tzinfo=UTC) < machine.clock.now() < datetime(2026, 8, 15, 3, 35, tzinfo=UTC):
            raise StoreError("cannot write it: no space left on device.")
        write(name, state)

    monkeypatch.setattr(machine.states, "write", full)

    said = machine.run("2026-08-15T04:05:00+00:00")

    assert len([line for line in said if "no space left" in line]) == 1
    assert [entry for entry in machine.started if entry[0] == "daily"] == [("daily", "15 03:00", "15 03:40")]
    assert [when for name, _, when in machine.started if name == "often"][-4:] == [
        "15 02:50",
        "15 03:40",
        "15 03:50",
        "15 04:00",
    ]


def test_an_end_that_could_not_be_written_is_written_later(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.schedule(daily="cron: '0 3 * * *'", often="cron: '*/10 * * * *', missed: skip, grace: 1s")
    machine.launcher.takes = timedelta(minutes=5)
    write = machine.states.write

    def full(name: str, state: State) -> None:
        if name == "daily" and datetime(2026, 8, 15, 3, 1, tzinfo=UTC) < machine.clock.now() < datetime(
            2026, 8, 15, 3, 35, tzinfo=UTC
        ):
            raise StoreError("cannot write it: no space left on device.")
        write(name, state)

    monkeypatch.setattr(machine.states, "write", full)

    machine.run("2026-08-15T04:05:00+00:00")

    last = machine.state("daily").last
    assert last is not None
    assert last.outcome == "done"
    assert [due for name, due, _ in machine.started if name == "daily"] == ["15 03:00"]


def test_a_machine_that_can_start_no_process_is_tried_again_at_the_next_firing(machine: Machine) -> None:
    machine.schedule(daily="cron: '0 3 * * *'")
    start, failures = machine.launcher.start, iter([OSError(12, "Cannot allocate memory")])

    def full(firing: Firing, ended: Callable[[], None]) -> Running:
        for failure in failures:
            raise failure
        return start(firing, ended)

    machine.launcher.start = full  # type: ignore[method-assign]

    said = machine.run("2026-08-16T12:00:00+00:00")

    assert any("failed after 0.0 s: no process could be started: [Errno 12] Cannot allocate memory" in s for s in said)
    assert machine.started == [("daily", "16 03:00", "16 03:00")]


def test_a_clock_that_is_set_back_fires_nothing_twice_and_it_is_said_when_it_goes_on(machine: Machine) -> None:
    machine.schedule(often="cron: '*/30 * * * *'")
    machine.clock.at("2026-08-14T14:10:00+00:00", lambda: machine.clock.set("2026-08-14T12:50:00+00:00"))

    said = machine.run("2026-08-14T14:40:00+00:00")

    assert [due for _, due, _ in machine.started] == ["14 12:30", "14 13:00", "14 13:30", "14 14:00", "14 14:30"]
    assert any("the clock was set back by at least 1h 10m: what has fired does not fire again" in line for line in said)
    assert "14 12:50 often: last fired at 2026-08-14 14:00, which is still to come; next 2026-08-14 14:30 UTC" in said


def test_a_clock_that_was_set_back_while_no_scheduler_ran_fires_nothing_twice(machine: Machine) -> None:
    machine.schedule(often="cron: '*/30 * * * *'")
    machine.run("2026-08-14T14:10:00+00:00")
    machine.clock.set("2026-08-14T12:50:00+00:00")

    said = machine.run("2026-08-14T14:40:00+00:00")

    assert [due for _, due, _ in machine.started] == ["14 12:30", "14 13:00", "14 13:30", "14 14:00", "14 14:30"]
    assert any("which is still to come; next 2026-08-14 14:30 UTC" in line for line in said)


def test_after_a_clock_that_was_years_ahead_it_goes_on_from_now(machine: Machine) -> None:
    machine.schedule(often="cron: '0 * * * *', missed: skip")
    machine.clock.at("2026-08-14T12:10:00+00:00", lambda: machine.clock.set("2036-08-14T12:59:00+00:00"))
    machine.run("2036-08-14T13:10:00+00:00")
    machine.clock.set("2026-08-14T12:20:00+00:00")

    said = machine.run("2026-08-14T14:30:00+00:00")

    assert [when for _, _, when in machine.started] == ["14 13:00", "14 13:00", "14 14:00"]
    assert any("by a clock that was wrong: goes on from now; next 2026-08-14 13:00 UTC" in line for line in said)


def test_a_clock_that_is_set_ahead_is_like_a_scheduler_that_was_away(machine: Machine) -> None:
    machine.schedule(once="cron: '0 * * * *'", skip="cron: '0 * * * *', missed: skip")
    machine.clock.at("2026-08-14T12:10:00+00:00", lambda: machine.clock.set("2026-08-14T17:40:00+00:00"))

    machine.run("2026-08-14T18:10:00+00:00")

    assert machine.started == [
        ("once", "14 17:00", "14 17:40"),
        ("once", "14 18:00", "14 18:00"),
        ("skip", "14 18:00", "14 18:00"),
    ]


def test_a_file_that_changes_is_read_again(machine: Machine) -> None:
    machine.schedule(a="cron: '0 * * * *'", b="cron: '0 * * * *'")
    machine.clock.at(
        "2026-08-14T13:10:00+00:00", lambda: machine.schedule(a="cron: '30 * * * *'", c="cron: '0 14 * * *'")
    )

    said = machine.run("2026-08-14T14:20:00+00:00")

    assert machine.started == [
        ("a", "14 13:00", "14 13:00"),
        ("b", "14 13:00", "14 13:00"),
        ("a", "14 13:30", "14 13:30"),
        ("c", "14 14:00", "14 14:00"),
    ]
    assert any(line.endswith("b: no longer in the file") for line in said)


def test_a_schedule_that_comes_back_into_the_file_has_missed_nothing(machine: Machine) -> None:
    both = {"a": "cron: '0 * * * *'", "b": "cron: '0 * * * *'"}
    machine.schedule(**both)
    machine.clock.at("2026-08-14T13:10:00+00:00", lambda: machine.schedule(a=both["a"]))
    machine.clock.at("2026-08-14T17:10:00+00:00", lambda: machine.schedule(**both))

    machine.run("2026-08-14T18:20:00+00:00")

    assert [when for name, _, when in machine.started if name == "b"] == ["14 13:00", "14 18:00"]


def test_a_changed_file_with_mistakes_is_said_and_what_it_said_before_holds(machine: Machine) -> None:
    machine.schedule(a="cron: '0 * * * *'")
    machine.clock.at("2026-08-14T13:10:00+00:00", lambda: machine.schedule(a="cron: '0 * * *'"))

    said = machine.run("2026-08-14T14:20:00+00:00")

    assert [due for _, due, _ in machine.started] == ["14 13:00", "14 14:00"]
    assert any("error: " in line and "has four fields" in line for line in said)


@pytest.mark.parametrize(
    ("before", "after"),
    [("cron: '0 13 * * *'", "cron: '0 14 * * *'"), ("cron: '0 14 * * *', paused: true", "cron: '0 14 * * *'")],
    ids=["another time", "no longer paused"],
)
def test_what_was_not_asked_for_at_the_time_was_not_missed(machine: Machine, before: str, after: str) -> None:
    machine.schedule(a=before)
    machine.run("2026-08-14T13:30:00+00:00")
    machine.clock.set("2026-08-14T18:00:00+00:00")
    machine.schedule(a=after)
    machine.launcher.started.clear()

    machine.run("2026-08-15T12:00:00+00:00")

    assert machine.started == []


def test_there_is_one_scheduler_of_one_file(machine: Machine) -> None:
    machine.schedule(a="cron: '0 13 * * *'")

    with machine.states.held(machine.file), pytest.raises(ConfigError, match=r"process \d+ .* schedules it already"):
        machine.run("2026-08-14T13:30:00+00:00")


def test_a_state_that_is_none_is_named_with_what_to_do(machine: Machine) -> None:
    machine.schedule(a="cron: '0 13 * * *'")
    machine.states.directory.mkdir()
    (machine.states.directory / "a.json").write_text("[]")

    with pytest.raises(StoreError, match="a.json: no schedule's state .* Remove it"):
        machine.run("2026-08-14T13:30:00+00:00")
