"""The scheduler: waits for each schedule's moments, starts its runs, and keeps what it needs to go on after being killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.log import duration
from pipeline.schedules.clock import Clock, Wake
from pipeline.schedules.due import MANY, Due, due
from pipeline.schedules.launch import Ended, Firing, Launcher, Running
from pipeline.schedules.reading import Schedule, read_schedules
from pipeline.schedules.state import LastRun, State, States
from schemas.errors import ConfigError, StoreError

_SET_BACK = timedelta(hours=26)  # a clock that is behind by more was wrong before, and not for an hour of summer time
_UNSEEN_S = 1.0  # clocks are put right by less than this all the time
_QUIET = timedelta(seconds=30)  # a look for new data that takes longer is said to go on
_AFTER_KILL_S = 5.0
_NOTHING_RAN = ("nothing new", "busy")


@dataclass(frozen=True)
class Line:
    """Something that happened. `schedule` is None where it concerns all."""

    at: datetime  # in the schedule's time zone
    schedule: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.at.isoformat(sep=' ', timespec='seconds')} {f'{self.schedule}: ' if self.schedule else ''}{self.text}"


class Scheduler:
    """Runs the schedules of one file until it is stopped.

    Different definitions run at the same time, one definition never twice. A firing that comes while an earlier run of its
    schedule goes on was missed; one that comes while another schedule runs the same definition waits for that. The file is
    read again when it has changed; while there are mistakes in it, what it said before holds.
    """

    def __init__(
        self,
        file: Path,
        *,
        states: States,
        clock: Clock,
        launcher: Launcher,
        tell: Callable[[Line], None],
        stop_s: float = 30.0,
    ) -> None:
        self._file = file
        self._states = states
        self._clock = clock
        self._launcher = launcher
        self._tell = tell
        self._stop_s = stop_s
        self._wake = Wake()
        self._stops = 0
        self._schedules: dict[str, Schedule] = {}
        self._known: dict[str, State] = {}
        self._running: dict[str, tuple[Running, Firing]] = {}
        self._waiting: dict[str, str] = {}  # for which other schedule's run
        self._unsaid: dict[str, str] = {}  # that a run has begun
        self._complaint = ""
        self._read_as: object = None
        self._seen = datetime.min.replace(tzinfo=UTC)

    def stop(self) -> None:
        """Begin no more runs, stop those that go on, and return from `run`. Asked twice, kill them. Signal handlers may call it."""
        self._stops += 1
        self._wake.set()

    def run(self) -> None:
        """Schedule until `stop`.

        Raises ConfigError for a file with mistakes at the start, StoreError for a state that cannot be read or written then.
        Later it says so and tries again.
        """
        self._read_as = _signature(self._file)
        schedules, now = read_schedules(self._file), self._clock.now()
        count = "1 schedule" if len(schedules) == 1 else f"{len(schedules)} schedules"
        self._say(now, None, f"{self._file}: {count}; what ran is kept in {self._states.directory}")
        self._take(schedules, now)
        while not self._stops:
            self._tried(self._look)
            if not self._stops:
                self._clock.wait_until(self._next_look(), self._wake)
        self._end_all()

    def _look(self) -> None:
        """Do what is to be done at this moment."""
        now = self._clock.now()
        self._look_at_the_clock(now)
        self._look_at_the_file(now)
        self._look_at_the_runs(now)
        for schedule in list(self._schedules.values()):
            if not (schedule.paused or schedule.name in self._running or self._stops):
                self._look_at(schedule, now)

    def _tried(self, what: Callable[[], None]) -> None:
        """Do it, or say why not. Nothing is lost: what was not brought to the disk is not taken for done."""
        try:
            what()
            self._complaint = ""
        except StoreError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._say(self._clock.now(), None, f"error: {error} It is tried again and again")

    def _next_look(self) -> datetime | None:
        free = [s for s in self._schedules.values() if not s.paused and s.name not in self._running]
        moments = [self._next(schedule) for schedule in free]
        unsaid = [self._running[name][1].began + _QUIET for name in self._unsaid if not self._complaint]
        return min((moment for moment in [*moments, *unsaid] if moment), default=None)

    # The file

    def _look_at_the_file(self, now: datetime) -> None:
        signature = _signature(self._file)
        if signature == self._read_as:
            return
        try:
            schedules = read_schedules(self._file)
        except ConfigError as error:
            self._read_as = signature
            for problem in error.problems:
                self._say(now, None, f"error: {problem}")
            self._say(now, None, f"{self._file} has changed and is wrong; what it said before holds")
            return
        self._say(now, None, f"{self._file} has changed")
        for name in self._schedules.keys() - schedules.keys():
            self._keep(name, replace(self._known[name], paused=True))  # it may come back, and has missed nothing then
            self._say(now, name, "no longer in the file")
            del self._schedules[name]
        self._take(schedules, now)
        self._read_as = signature

    def _take(self, schedules: dict[str, Schedule], now: datetime) -> None:
        """Begin with these schedules, from where an earlier scheduler left each."""
        for name, schedule in schedules.items():
            state = self._known.get(name) or self._states.read(name) or State.new(schedule.cron, now)
            asked_anew = (state.cron, state.timezone) != (schedule.cron.text, schedule.cron.timezone)
            if asked_anew or (state.paused and not schedule.paused):
                # What would have fired before was not asked for then.
                state = replace(state, cron=schedule.cron.text, timezone=schedule.cron.timezone, decided=now)
            self._keep(name, replace(state, paused=schedule.paused))
            if self._schedules.get(name) == schedule:
                continue
            self._schedules[name] = schedule
            if name not in self._running and state.unfinished and not schedule.paused:
                self._take_up(schedule, state.unfinished, now)
            self._say(now, name, f"{_what(schedule)}; {self._when(name)}")
            if name not in self._running and not schedule.paused:
                self._behind(schedule, now)

    def _take_up(self, schedule: Schedule, unfinished: datetime, now: datetime) -> None:
        """Go on with a run that an earlier scheduler saw no end of, wherever it is."""
        state = self._known[schedule.name]
        firing = self._firing(schedule, unfinished, state.began or now)
        found = self._launcher.find(firing, state.process, self._wake.set)
        if found is None:
            return
        self._running[schedule.name] = found, firing
        if found.poll() is None:
            said = f"still runs for {_time(schedule, unfinished)}{_process(found)}: an earlier scheduler began it"
            self._say(now, schedule.name, said)

    # The clock

    def _look_at_the_clock(self, now: datetime) -> None:
        back_s = (self._seen - now).total_seconds()
        if back_s > _UNSEEN_S:
            said = f"the clock was set back by at least {duration(back_s)}: what has fired does not fire again"
            self._say(now, None, said)
            for schedule in self._schedules.values():
                if not schedule.paused:
                    self._behind(schedule, now)
        self._seen = now

    def _behind(self, schedule: Schedule, now: datetime) -> None:
        """Where a schedule's last firing is still to come, say when it goes on; from now if that is more than a day ahead."""
        state = self._known[schedule.name]
        if now >= state.decided:
            return
        said = f"last fired at {_time(schedule, state.decided)}, which is still to come"
        if state.decided - now > _SET_BACK:
            self._keep(schedule.name, replace(state, decided=now))
            said = f"last fired at {_time(schedule, state.decided)}, by a clock that was wrong: goes on from now"
        self._say(now, schedule.name, f"{said}; {self._when(schedule.name)}")

    # The runs

    def _look_at(self, schedule: Schedule, now: datetime) -> None:
        name, state = schedule.name, self._known[schedule.name]
        busy_until = state.last.ended if state.last and state.last.ended <= now else None
        found = due(schedule, state.decided, now, busy_until)
        if state.unfinished is None and found is None:
            return
        if (other := self._same_definition(schedule)) is not None:
            if self._waiting.get(name) != other:
                self._waiting[name] = other
                self._say(now, name, f"waits for {other}, which runs {schedule.pipeline} too")
            return
        self._waiting.pop(name, None)
        decided = found.newest if found else state.decided
        missed = f"{_missed(found)}; " if found and found.missed else ""
        if state.unfinished is not None:  # its run stands for what was missed since
            self._begin(schedule, state.unfinished, decided, now, f"{missed}goes on with the run for")
        elif found is not None and found.run:
            self._begin(schedule, found.newest, decided, now, f"{missed}runs for")
        elif found is not None:
            self._keep(name, replace(state, decided=decided))
            which = "that of" if found.missed == 1 else "the last that of"
            self._say(now, name, f"{missed}{which} {_time(schedule, found.newest)}; skipped; {self._when(name)}")

    def _same_definition(self, schedule: Schedule) -> str | None:
        """Another schedule that runs the same definition now."""
        for name, (_, firing) in self._running.items():
            if _definition(firing.schedule) == _definition(schedule):
                return name
        return None

    def _begin(self, schedule: Schedule, moment: datetime, decided: datetime, now: datetime, how: str) -> None:
        name = schedule.name
        firing = self._firing(schedule, moment, now)
        self._keep(name, self._known[name].begun(moment, decided, now))
        try:
            running = self._launcher.start(firing, self._wake.set)
        except OSError as error:
            self._ended(name, firing, Ended("failed", f"no process could be started: {error}", said=False), now)
            return
        self._running[name] = running, firing
        said = f"{how} {_time(schedule, moment)}{_process(running)}"
        if schedule.if_new_data and how == "runs for":
            self._unsaid[name] = said  # mostly there is nothing new, which is enough to say
        else:
            self._say(now, name, said)
        self._keep(name, replace(self._known[name], process=running.process))

    def _look_at_the_runs(self, now: datetime) -> None:
        for name, (running, firing) in list(self._running.items()):
            ended = running.poll()
            if ended is not None:
                self._ended(name, firing, ended, now)
                del self._running[name]
            elif name in self._unsaid and now - firing.began >= _QUIET:
                self._say(now, name, self._unsaid.pop(name))

    def _ended(self, name: str, firing: Firing, ended: Ended, now: datetime) -> None:
        stopped = bool(self._stops) and (ended.outcome == "interrupted" or not ended.said)
        outcome = "interrupted" if stopped else ended.outcome
        log = str(firing.log) if outcome not in _NOTHING_RAN and _holds_something(firing.log) else None
        last = LastRun(firing.due, firing.began, now, outcome, ended.reason, ended.run, log)
        self._keep(name, self._known[name].ended(last, unfinished=stopped))
        for file in (firing.log if log is None else None, firing.answer if outcome in _NOTHING_RAN else None):
            if file is not None:
                file.unlink(missing_ok=True)
        self._unsaid.pop(name, None)
        how = outcome if outcome not in _NOTHING_RAN or not ended.reason.startswith(outcome) else ""
        if outcome not in _NOTHING_RAN:
            how += f" after {duration(max(0.0, (now - firing.began).total_seconds()))}{f', run {ended.run}' if ended.run else ''}"
        told = ended.reason if not stopped else ""
        where = f"; log {log}" if log and outcome == "failed" else ""
        after = "goes on with the next start of the scheduler" if stopped else self._when(name)
        self._say(now, name, f"{how}{': ' if how and told else ''}{told}{where}; {after}")

    def _end_all(self) -> None:
        """Stop what runs, wait, and kill what is left."""
        now = self._clock.now()
        if self._running:
            within = duration(self._stop_s)
            self._say(now, None, f"stopping; these runs have {within} to stop first: {', '.join(self._running)}")
            for running, _ in self._running.values():
                running.stop()
            self._wait_for_runs(now + timedelta(seconds=self._stop_s), until_asked_again=True)
            for name, (running, _) in self._running.items():
                self._say(self._clock.now(), name, "did not stop and is killed")
                running.kill()
            self._wait_for_runs(self._clock.now() + timedelta(seconds=_AFTER_KILL_S))
        self._say(self._clock.now(), None, "stopped")

    def _wait_for_runs(self, until: datetime, *, until_asked_again: bool = False) -> None:
        now = self._clock.now()
        self._tried(lambda: self._look_at_the_runs(now))
        while self._running and now < until and not (until_asked_again and self._stops > 1):
            self._clock.wait_until(until, self._wake)
            now = self._clock.now()
            self._tried(lambda: self._look_at_the_runs(now))  # noqa: B023 it is called at once

    # What is kept and said

    def _firing(self, schedule: Schedule, moment: datetime, began: datetime) -> Firing:
        return Firing(schedule, moment, began, *self._states.files(schedule.name, moment))

    def _keep(self, name: str, state: State) -> None:
        if self._known.get(name) != state:
            self._states.write(name, state)
            self._known[name] = state

    def _say(self, now: datetime, schedule: str | None, text: str) -> None:
        known = self._schedules.get(schedule or "")
        zone = ZoneInfo(known.cron.timezone) if known else None
        self._tell(Line(now.astimezone(zone), schedule, "; ".join(text.splitlines())))

    def _next(self, schedule: Schedule) -> datetime | None:
        after = max(self._clock.now(), self._known[schedule.name].decided)
        return next(iter(schedule.cron.next(after)), None)

    def _when(self, name: str) -> str:
        if name not in self._schedules:
            return "not again"
        if self._schedules[name].paused:
            return "paused"
        moment = self._next(self._schedules[name])
        return f"next {moment:%Y-%m-%d %H:%M %Z}" if moment else "never again"


def _what(schedule: Schedule) -> str:
    new = ", if there is new data" if schedule.if_new_data else ""
    return f"{schedule.pipeline} at '{schedule.cron.text}' ({schedule.cron.timezone}){new}"


def _time(schedule: Schedule, moment: datetime) -> str:
    return f"{moment.astimezone(ZoneInfo(schedule.cron.timezone)):%Y-%m-%d %H:%M}"


def _missed(found: Due) -> str:
    count = f"{MANY} firings or more" if found.missed >= MANY else f"{found.missed} firings"
    return f"missed {'1 firing' if found.missed == 1 else count}"


def _process(running: Running) -> str:
    return f", as process {running.process['pid']}" if running.process else ""


def _holds_something(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _definition(schedule: Schedule) -> str:
    file = Path(schedule.pipeline)
    return str(file.resolve()) if file.is_file() else schedule.pipeline


def _signature(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
